"""Who is connected to the keeper: so many, for so long, and nobody shuts out others.

Nobody has proved anything yet. A connection that says nothing costs its owner nothing, so it must
cost us little: where there is no more room, whoever has kept us waiting longest makes way for who
comes. Somebody who means it has asked within a moment, and is not kept out.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import Final

#: Connections at once, in all and of one address. Of a fleet behind one address many may come.
AT_ONCE: Final = 128
OF_ONE: Final = 32
#: How long TLS may take to begin, in seconds from the connection on.
HANDSHAKE_S: Final = 5.0


@dataclass
class _Guest:
    address: str
    since: float
    shaken: bool = False
    heard: bool = False
    cut: bool = False


class Door:
    """Lets connections in and ends them. Its methods may be called by any thread."""

    def __init__(self, whole_s: float, at_once: int = AT_ONCE, of_one: int = OF_ONE) -> None:
        self._whole_s, self._at_once, self._of_one = whole_s, at_once, of_one
        self._lock = threading.Lock()
        self._guests: dict[socket.socket, _Guest] = {}  # who came first is first

    def enter(self, connection: socket.socket, address: str, now: float) -> bool:
        """True if there is room, which is made at the cost of who has said nothing for longest."""
        with self._lock:
            staying = {c: guest for c, guest in self._guests.items() if not guest.cut}
            same = {c: guest for c, guest in staying.items() if guest.address == address}
            if len(same) >= self._of_one:
                free = _make_way(same)
            elif len(staying) >= self._at_once:
                free = _make_way(staying)
            else:
                free = True
            # Who was cut has a thread for a moment still: there is no end of them either.
            if not free or len(self._guests) >= 2 * self._at_once:
                return False
            self._guests[connection] = _Guest(address, now)
            return True

    def shaken(self, connection: socket.socket) -> None:
        """TLS has begun."""
        with self._lock:
            if guest := self._guests.get(connection):
                guest.shaken = True

    def heard(self, connection: socket.socket) -> None:
        """It has asked its question, and makes way for nobody any more."""
        with self._lock:
            if guest := self._guests.get(connection):
                guest.heard = True

    def leave(self, connection: socket.socket) -> None:
        """It is about to be closed."""
        with self._lock:
            self._guests.pop(connection, None)

    def end_overdue(self, now: float) -> None:
        """End who takes too long: in all, not for each byte."""
        with self._lock:
            for connection, guest in self._guests.items():
                if now - guest.since > (self._whole_s if guest.shaken else HANDSHAKE_S):
                    _cut(connection, guest)

    def close(self) -> None:
        """End every connection."""
        with self._lock:
            for connection, guest in self._guests.items():
                _cut(connection, guest)


def _make_way(guests: dict[socket.socket, _Guest]) -> bool:
    for connection, guest in guests.items():
        if not guest.heard:
            _cut(connection, guest)
            return True
    return False


def _cut(connection: socket.socket, guest: _Guest) -> None:
    """Wake its thread, which closes it."""
    guest.cut = True
    with contextlib.suppress(OSError):
        # Of TLS's own shutdown the thread would go on to read what is not encrypted.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
