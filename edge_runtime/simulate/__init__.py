"""A fleet before there is one: real edge runtimes, many to a process, without an engine.

Each is an `Agent` as it runs in a vehicle, with its own connection, journal and simulated driver;
its sandbox is `InProcess`, so it runs built-in methods and refuses custom modules.
"""
