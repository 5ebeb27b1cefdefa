"""A connection's bytes: asyncio's transport on one side, whole packets and a socket on the other.

A library that reads a packet in several small pieces and writes each by itself costs a system call
for every one of them. Here they meet a buffer, and the system is called once for many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

#: What the system has not taken yet, in bytes, from which on nothing more is accepted.
HIGH_WATER: Final = 256 * 1024


class Wire(asyncio.Protocol):
    """The stream of a connection; for a client library it looks like a socket that never blocks.

    ``readable`` is called when something came, and when the connection is gone; what came is in
    `came`. ``writable`` is called when there is room again after `paused`. What is sent leaves with
    `flush`.
    """

    def __init__(self, readable: Callable[[], None], writable: Callable[[], None]) -> None:
        self._readable, self._writable = readable, writable
        self._transport: asyncio.Transport | None = None
        #: What came and nobody has taken yet.
        self.came = bytearray()
        self._handed = b""
        #: Set when the connection is gone, and whatever was to be sent with it.
        self.gone = asyncio.Event()
        #: True while the other side does not read as fast as is sent.
        self.paused = False
        self._leaving: list[bytes] = []
        #: What ended the connection, if it was more than its end.
        self.problem: Exception | None = None

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio promises
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self.came += data
        self._readable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self.problem = exc
        self.gone.set()
        self._readable()

    def pause_writing(self) -> None:
        """The other side does not read as fast as is sent."""
        self.paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        self._writable()

    # --- our side -----------------------------------------------------------------------------

    def post(self, packet: bytes) -> None:
        """Send a packet. Whoever sends many looks at `paused`."""
        self._leaving.append(packet)

    def flush(self) -> None:
        """Hand what was sent to the system."""
        if self._leaving and self._transport is not None and not self.gone.is_set():
            self._transport.write(b"".join(self._leaving))
        self._leaving.clear()

    def hand_over(self, packet: bytes) -> None:
        """Let the library read this packet, of which it reads all."""
        self._handed += packet

    @property
    def handed_over(self) -> bool:
        """True if the library has something to read."""
        return bool(self._handed)

    def abort(self) -> None:
        """End the connection now."""
        self._leaving.clear()
        if self._transport is not None:
            self._transport.abort()

    # --- the library's side -------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, none at the end. Raises BlockingIOError if there are none yet."""
        if self._handed:
            data, self._handed = self._handed[:size], self._handed[size:]
            return data
        if self.gone.is_set():
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it. Raises BlockingIOError if too much waits, ConnectionError at the end."""
        if self.gone.is_set():
            raise ConnectionResetError
        if self.paused:
            raise BlockingIOError
        self._leaving.append(bytes(data))
        return len(data)

    def close(self) -> None:
        """End the connection once what was sent has left."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def fileno(self) -> int:
        """There is no descriptor for others to wait on."""
        return -1

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""
