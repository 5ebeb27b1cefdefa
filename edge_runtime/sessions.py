"""Containers that serve one assignment of one user: `isolation="assignment"`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from edge_runtime.sandbox import AnySandbox, AnySession, Limits
from protocol.module import Module

#: How long a container waits for its assignment's next call, in seconds. Its end is told; this is
#: for when that was lost.
KEEP_S: Final = 600.0


class _Open(NamedTuple):
    generation: tuple[str, str, int, str]
    session: AnySession
    used_at: float


class Sessions:
    """The sessions that are open, by assignment. Safe from several threads."""

    def __init__(self, sandbox: AnySandbox) -> None:
        self._sandbox = sandbox
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()

    def of(
        self, assignment: str, module: Module, limits: Limits, labels: Mapping[str, str]
    ) -> AnySession:
        """The session of an assignment. A new generation gets a new container."""
        wanted = (module.user_id, module.name, module.generation, module.digest)
        old = None
        with self._lock:
            kept = self._open.get(assignment)
            if kept is not None and kept.generation != wanted:
                old, kept = kept.session, None
            session = (
                kept.session
                if kept is not None
                else self._sandbox.session(module.environment, limits, labels)
            )
            self._open[assignment] = _Open(wanted, session, time.monotonic())
        if old is not None:
            old.close()
        return session

    @property
    def any(self) -> bool:
        """True if one is open."""
        return bool(self._open)

    def expire(self) -> None:
        """End those that nobody has used for long: the end of their assignment was not heard."""
        with self._lock:
            long_ago = time.monotonic() - KEEP_S
            names = [name for name, found in self._open.items() if found.used_at < long_ago]
            old = [self._open.pop(name).session for name in names]
        for session in old:
            session.close()

    def end(self, assignment: str) -> None:
        """There will be no further call of this assignment."""
        with self._lock:
            found = self._open.pop(assignment, None)
        if found is not None:
            found.session.close()

    def close(self) -> None:
        """End them all."""
        with self._lock:
            names = list(self._open)
        for assignment in names:
            self.end(assignment)
