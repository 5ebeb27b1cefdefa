"""A policy that is read again when its file changes; one that is broken changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.policy.file import read
from edge_runtime.policy.policy import Policy
from protocol.errors import BadPolicy
from protocol.limits import Profiles

log = logging.getLogger(__name__)

#: How often the file is looked at, in seconds.
LOOK_S: Final = 0.5


class _Stamp(NamedTuple):
    """What changes with a file."""

    device: int
    inode: int
    size: int
    changed: int
    mode: int


class Followed:
    """The policy that is in force: of a file, or without one the policy that holds everywhere."""

    def __init__(self, path: Path | None = None, profiles: Profiles | None = None) -> None:
        """Read the file. Raises BadPolicy."""
        self._path, self._profiles = path, profiles
        self._policy = Policy()
        self._taken = self._seen = self._stamp()
        if path is not None:
            self._policy = self._read(path)

    @property
    def policy(self) -> Policy:
        """The policy that is in force now."""
        return self._policy

    async def watch(self, changed: Callable[[], object]) -> None:
        """Look at the file now and again, until cancelled; say when another policy is in force."""
        while self._path is not None:
            await asyncio.sleep(LOOK_S)
            if self.look():
                changed()

    def look(self) -> bool:
        """Look at the file; True if another policy is in force since.

        A file that changes is read once it was the same at two looks, so that none is taken that is
        half written.
        """
        stamp, before = self._stamp(), self._seen
        self._seen = stamp
        if self._path is None or stamp == self._taken or stamp != before:
            return False
        try:
            policy = self._read(self._path)
        except BadPolicy as problem:
            self._taken = stamp
            log.error("the policy is left as it was: %s", problem)  # noqa: TRY400
            return False
        if self._stamp() != stamp:  # it was written to while it was read
            return False
        self._taken = stamp
        if policy == self._policy:
            return False
        self._policy = policy
        log.info("another policy is in force, of %s", self._path)
        return True

    def _read(self, path: Path) -> Policy:
        return read(path, self._profiles or Profiles.read())

    def _stamp(self) -> _Stamp | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return _Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode)
