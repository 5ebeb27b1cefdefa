"""A small honest MQTT 5 client on asyncio. The only room that imports paho.

What it makes of paho, so that the rest of the code need not know:

* one paho client a connection, thrown away at its end: nothing is kept and resent behind our back;
* `publish` is done when the broker has accepted the message, and raises when it was refused or the
  connection ended first; the caller's journal or outbox decides what to do then. `publish_many`
  does the same for many, and tells of each;
* a window of unacknowledged publications that respects the broker's Receive Maximum;
* incoming messages are acknowledged by whoever handled them, and our own Receive Maximum bounds
  how many may wait, so that memory is bounded by the broker's side;
* reconnecting with back-off and jitter; subscriptions are made again each time.

paho has no socket and no thread of its own here: it stands on a `Wire`, which the loop serves,
so that thousands of links fit a process and many messages share a system call. Publications and
their acknowledgements do not pass through it: `packets` reads and writes them.
"""

from __future__ import annotations

from protocol.link.address import Address, parse_url
from protocol.link.link import NARROW, WIDE, Link, end_task
from protocol.link.message import Incoming, Outgoing, Will

__all__ = [
    "NARROW",
    "WIDE",
    "Address",
    "Incoming",
    "Link",
    "Outgoing",
    "Will",
    "end_task",
    "parse_url",
]
