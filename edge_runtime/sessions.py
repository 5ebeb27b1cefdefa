"""Containers that serve one assignment of one user: `isolation="assignment"`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from edge_runtime.sandbox import Limits, Sandbox, Session
from protocol.module import Module

#: How long a container waits for its assignment's next call, in seconds. Its end is told; this is
#: for when that was lost.
KEEP_S: Final = 600.0


class _Open(NamedTuple):
    generation: tuple[str, str, int, str]
    session: Session
    used_at: float


class Sessions:
    """The sessions that are open, by assignment. Safe from several threads."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()

    def of(
        self, assignment: str, module: Module, limits: Limits, labels: Mapping[str, str]
    ) -> Session:
        """The session of an assignment. A new generation gets a new container."""
        wanted = (module.user_id, module.name, module.generation, module.digest)
        now, old = time.monotonic(), []
        with self._lock:
            for name, found in list(self._open.items()):
                if now - found.used_at > KEEP_S or (
                    name == assignment and found.generation != wanted
                ):
                    old.append(self._open.pop(name).session)
            kept = self._open.get(assignment)
            session = (
                kept.session
                if kept is not None
                else self._sandbox.open_session(module.environment, limits, labels)
            )
            self._open[assignment] = _Open(wanted, session, now)
        for ended in old:
            ended.close()
        return session

    def end(self, assignment: str) -> None:
        """There will be no further call of this assignment."""
        with self._lock:
            found = self._open.pop(assignment, None)
        if found is not None:
            found.session.close()

    def close(self) -> None:
        """End them all."""
        for assignment in list(self._open):
            self.end(assignment)
