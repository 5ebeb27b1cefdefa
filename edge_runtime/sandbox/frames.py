"""What comes out of a container, read within budgets. Pure: bytes in, facts out.

The reader on the host is what a hostile guest talks to, so no length that it names is believed
before it is compared with a budget, and memory is taken only for bytes that have arrived.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

_HEAD: Final = 8
_LENGTH: Final = 4
#: Terminal sequences: CSI, then the strings (OSC, DCS, ...) to their end, then the short ones.
_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
#: Controls but tab and line feed; marks that turn the direction of text, or are no characters.
_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class Stream(IntEnum):
    """Which of the container's streams the engine says that bytes are from."""

    STDOUT = 1
    STDERR = 2


class Broken(Exception):
    """What arrives is not of the form agreed on."""


def framed(payload: bytes) -> bytes:
    """Return the payload with its length before it."""
    return len(payload).to_bytes(_LENGTH, "big") + payload


def clean(text: str) -> str:
    """Return text that is safe to show: no terminal sequences, no control characters."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


class Demultiplexer:
    """Takes apart the engine's stream, in which blocks of both outputs follow each other.

    A block has eight bytes before it: the stream, three zeros, the length as a big-endian number.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self._stream = Stream.STDOUT

    def feed(self, data: bytes) -> list[tuple[Stream, bytes]]:
        """Return what has arrived, by stream.

        Raises Broken if a block's head is none.
        """
        found = []
        view = memoryview(data)
        while view:
            if self._left:
                part = view[: self._left]
                found.append((self._stream, bytes(part)))
                self._left -= len(part)
                view = view[len(part) :]
                continue
            part = view[: _HEAD - len(self._head)]
            self._head += part
            view = view[len(part) :]
            if len(self._head) == _HEAD:
                self._open()
        return found

    def _open(self) -> None:
        kind, zeros = self._head[0], self._head[1:4]
        if kind not in (Stream.STDOUT, Stream.STDERR) or any(zeros):
            raise Broken("the engine's stream has a block of an unknown kind")
        self._stream = Stream(kind)
        self._left = int.from_bytes(self._head[4:], "big")
        self._head.clear()


class Frames:
    """Reads frames: four bytes of length, and as many bytes, each within a budget.

    ``last`` is the frame that came last, and ``expecting`` how many are still to come.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._budget = 0
        self.expecting = 0
        self.last = b""

    def expect(self, budget: int, frames: int = 1) -> None:
        """Wait for so many frames, each of at most so many bytes."""
        self._budget, self.expecting = budget, frames

    def feed(self, data: bytes) -> None:
        """Take bytes; a frame that is complete then is in `last`.

        Raises Broken if a frame is larger than its budget, or comes when none is expected.
        """
        self._data += data
        while self._data:
            if not self.expecting:
                raise Broken("there are bytes after the last frame")
            if len(self._data) < _LENGTH:
                return
            length = int.from_bytes(self._data[:_LENGTH], "big")
            if length > self._budget:
                raise Broken(f"a frame claims {length} bytes; at most {self._budget} are taken")
            end = _LENGTH + length
            if len(self._data) < end:
                return
            self.last, self.expecting = bytes(self._data[_LENGTH:end]), self.expecting - 1
            del self._data[:end]


class Printed:
    """What a module printed: the beginning is kept, all of it is counted."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._data = bytearray()
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take bytes that were printed."""
        self.total += len(data)
        self._data += data[: max(0, self._keep - len(self._data))]

    def text(self) -> str:
        """Return what was kept, cleaned, with a word on how much was not."""
        text = clean(self._data.decode(errors="replace"))
        left_out = self.total - len(self._data)
        return f"{text}\n[{left_out} more bytes]" if left_out else text
