"""A connection's bytes: asyncio's transport on one side, and what looks like a socket on the other.

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
    """The socket that a client library is given. It never blocks.

    ``readable`` is called when there is something to `recv`, the end included; it is expected to
    read until nothing is `pending`. ``writable`` is called when `send`, which had raised
    BlockingIOError, takes bytes again. What is sent leaves with `flush`.
    """

    def __init__(self, readable: Callable[[], None], writable: Callable[[], None]) -> None:
        self._readable, self._writable = readable, writable
        self._transport: asyncio.Transport | None = None
        self._came = b""
        self._at = 0
        #: Set when the connection is gone, and whatever was to be sent with it.
        self.gone = asyncio.Event()
        self._paused = False
        self._leaving: list[bytes] = []

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio promises
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self._came = self._came[self._at :] + data if self._at < len(self._came) else data
        self._at = 0
        self._readable()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Nothing more comes."""
        self.gone.set()
        self._readable()

    def pause_writing(self) -> None:
        """The other side does not read as fast as is sent."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._paused = False
        self._writable()

    # --- the library's side -------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """True if `recv` would give something."""
        return self._at < len(self._came)

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, none at the end. Raises BlockingIOError if there are none yet."""
        if self._at < len(self._came):
            data = self._came[self._at : self._at + size]
            self._at += len(data)
            if self._at >= len(self._came):
                self._came, self._at = b"", 0
            return data
        if self.gone.is_set():
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it. Raises BlockingIOError if too much waits, ConnectionError at the end."""
        if self.gone.is_set():
            raise ConnectionResetError
        if self._paused:
            raise BlockingIOError
        self._leaving.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Hand what was sent to the system."""
        if self._leaving and self._transport is not None and not self.gone.is_set():
            self._transport.write(b"".join(self._leaving))
        self._leaving.clear()

    def close(self) -> None:
        """End the connection once what was sent has left."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._leaving.clear()
        if self._transport is not None:
            self._transport.abort()

    def fileno(self) -> int:
        """There is no descriptor for others to wait on."""
        return -1

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""
