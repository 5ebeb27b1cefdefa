"""What a file says, read again when it changes; one that is broken changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from protocol.errors import OodidaError

log = logging.getLogger(__name__)
T = TypeVar("T")

#: How often the file is looked at, in seconds.
LOOK_S: Final = 0.5


class _Stamp(NamedTuple):
    """What changes with a file."""

    device: int
    inode: int
    size: int
    changed: int
    mode: int


class Followed(Generic[T]):
    """What is in force: what ``read`` makes of a file, or ``without`` one something that is given.

    Raises what ``read`` raises, an OodidaError, when the file is read for the first time.
    """

    def __init__(self, path: Path | None, read: Callable[[Path], T], without: T) -> None:
        self._path, self._read = path, read
        self._taken = self._seen = self._stamp()
        self._now = without if path is None else read(path)

    @property
    def now(self) -> T:
        """What is in force now."""
        return self._now

    async def watch(self, changed: Callable[[], object] = lambda: None) -> None:
        """Look at the file now and again, until cancelled; say when something else is in force."""
        while self._path is not None:
            await asyncio.sleep(LOOK_S)
            if self.look():
                changed()

    def look(self) -> bool:
        """Look at the file; True if something else is in force since.

        A file that changes is read once it was the same at two looks, so that none is taken that is
        half written: its last lines may be those that forbid.
        """
        stamp, before = self._stamp(), self._seen
        self._seen = stamp
        if self._path is None or stamp == self._taken or stamp != before:
            return False
        try:
            found = self._read(self._path)
        except OodidaError as problem:
            self._taken = stamp
            log.error("%s; what held before goes on to hold", problem)  # noqa: TRY400
            return False
        if self._stamp() != stamp:  # it was written to while it was read
            return False
        self._taken = stamp
        if found == self._now:
            return False
        self._now = found
        log.info("%s has changed: it holds from now on", self._path)
        return True

    def _stamp(self) -> _Stamp | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode)
