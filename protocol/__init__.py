"""What is said between the parts. Pure, except :mod:`protocol.link` and :mod:`protocol.process`."""
