"""Containers started ahead of need: the guest is up, libraries are imported, no code is in.

A warm container differs from a fresh one in nothing but that it has started already. It is started
while the runtime is quiet, so that starting it is on nobody's way: an engine's start keeps a
processor busy for a fifth of a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from edge_runtime.sandbox.container import Container
from edge_runtime.sandbox.engine import EngineFailure
from edge_runtime.sandbox.settings import Shape
from protocol.outcome import Frozen

log = logging.getLogger(__name__)

#: How long no call may have come or gone before a container is started ahead, in seconds; and how
#: long it is put off at most, where calls never cease.
QUIET_S: Final = 0.3
PUT_OFF_S: Final = 2.0
#: How often idle containers are looked after, in seconds.
CHECK_S: Final = 5.0
#: How long nothing is started after the engine failed: doubled each time, up to the second.
BACKOFF_S: Final = (1.0, 60.0)
_MB: Final = 2**20


class PoolSettings(Frozen):
    """How many containers wait, idle.

    Attributes:
        minimum: of each shape that is expected to be needed. 0: no pool at all.
        maximum: of each shape, where calls came faster than the minimum could serve.
        memory_mb: what all that are idle may take together, in megabytes.
        keep_s: for how long a shape is kept ready after it was last asked for, in seconds.
    """

    minimum: int = Field(default=1, ge=0, le=64)
    maximum: int = Field(default=4, ge=0, le=64)
    memory_mb: int = Field(default=512, ge=0, le=1_048_576)
    keep_s: float = Field(default=900.0, gt=0)


@dataclass
class _Wanted:
    """What is kept ready of one shape."""

    count: int
    since: float  # when it was last asked for
    resident: bool = False  # never forgotten
    libraries: frozenset[str] = frozenset()
    idle: list[Container] = field(default_factory=list)
    weight: int = 0  # bytes that one takes, as the last one did

    def ready(self) -> int:
        """How many have all the libraries."""
        return sum(c.libraries >= self.libraries for c in self.idle)


class Pool:
    """Keeps so many idle containers of each shape as are expected to be needed, and no more.

    Args:
        start: starts one container and returns when its guest is up.
        weigh: finds out what one takes of the memory.
        settings: how many.
    """

    def __init__(
        self,
        start: Callable[[Shape, frozenset[str]], Container],
        weigh: Callable[[Container], None],
        settings: PoolSettings,
    ) -> None:
        self._start, self._weigh, self._settings = start, weigh, settings
        self._wanted: dict[Shape, _Wanted] = {}
        self._change = threading.Condition()
        self._closed = False
        self._busy = 0
        self._quiet_since = self._asked_at = time.monotonic()
        self._failing = False
        self._told_full = False
        self._thread = threading.Thread(target=self._work, name="sandbox-pool", daemon=True)
        if settings.minimum:
            self._thread.start()

    def expect(self, shape: Shape, libraries: Iterable[str], *, resident: bool = False) -> None:
        """Calls of this shape, with modules that import these libraries, are likely to come."""
        if not self._settings.minimum:
            return
        with self._change:
            wanted = self._want(shape)
            wanted.resident |= resident
            wanted.libraries |= frozenset(libraries)
            self._change.notify_all()

    def take(self, shape: Shape, libraries: frozenset[str]) -> Container | None:
        """An idle container, which is the caller's from now on; None if there is none.

        One that has the libraries goes first. Each `take` is followed by one `done`.
        """
        with self._change:
            self._busy += 1
            if not self._settings.minimum:
                return None
            wanted = self._want(shape)
            wanted.libraries |= libraries
            while wanted.idle:
                best = max(wanted.idle, key=lambda c: len(c.libraries & libraries))
                wanted.idle.remove(best)
                if best.quiet:
                    return best
                best.discard()  # it ended while it waited
            wanted.count = min(wanted.count + 1, max(self._settings.maximum, wanted.count))
        return None

    def done(self) -> None:
        """A call has ended: when it stays quiet, what was taken is replaced."""
        with self._change:
            self._busy -= 1
            self._quiet_since = time.monotonic()
            self._change.notify_all()

    def forget(self, image: str) -> None:
        """Keep nothing ready of this image any more."""
        with self._change:
            for shape in [s for s in self._wanted if s.image == image]:
                self._drop(self._wanted.pop(shape).idle)

    @property
    def full(self) -> bool:
        """True if all that is wanted, and fits, is idle."""
        with self._change:
            return self._missing() is None

    def close(self) -> None:
        """Start nothing more, and discard what is idle."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._settings.minimum:
            self._thread.join()
        for wanted in self._wanted.values():
            self._drop(wanted.idle)

    def _want(self, shape: Shape) -> _Wanted:
        now = time.monotonic()
        wanted = self._wanted.setdefault(shape, _Wanted(self._settings.minimum, now))
        wanted.since = self._asked_at = now
        return wanted

    def _missing(self) -> Shape | None:
        """What to start next, if anything: what was asked for last goes first."""
        asked = sorted(self._wanted.items(), key=lambda item: -item[1].since)
        short = [(s, w) for s, w in asked if w.ready() < w.count]
        if not short:
            return None
        shape, wanted = short[0]
        taken = sum(c.memory for w in self._wanted.values() for c in w.idle)
        if taken + wanted.weight <= self._settings.memory_mb * _MB:
            return shape
        if not self._told_full:
            log.info("the pool is full: %s MB are idle", taken // _MB)
            self._told_full = True
        return None

    def _work(self) -> None:
        backoff = BACKOFF_S[0]
        while (chosen := self._next()) is not None:
            shape, libraries = chosen
            try:
                container = self._start(shape, libraries)
                self._weigh(container)
            except EngineFailure as problem:
                log.warning("no container could be started ahead: %s", problem)
                with self._change:
                    self._failing = True
                    self._change.wait_for(lambda: self._closed, backoff)
                backoff = min(2 * backoff, BACKOFF_S[1])
                continue
            backoff = BACKOFF_S[0]
            with self._change:
                self._failing = False
                self._add(shape, container)

    def _add(self, shape: Shape, container: Container) -> None:
        wanted = self._wanted.get(shape)
        if wanted is None:  # it was forgotten meanwhile
            container.discard()
            return
        wanted.weight = container.memory
        stale = [c for c in wanted.idle if not c.libraries >= wanted.libraries]
        if len(wanted.idle) >= wanted.count and stale:
            wanted.idle.remove(stale[0])
            stale[0].discard()
        wanted.idle.append(container)
        self._change.notify_all()

    def _next(self) -> tuple[Shape, frozenset[str]] | None:
        """Wait until something is to be started, and what; None when the pool is closed."""
        with self._change:
            while not self._closed:
                self._look_after()
                shape = self._missing()
                if shape is None:
                    self._change.wait(CHECK_S)
                    continue
                now = time.monotonic()
                quiet_in = PUT_OFF_S if self._busy else self._quiet_since + QUIET_S - now
                left = min(quiet_in, self._asked_at + PUT_OFF_S - now)
                if left <= 0:
                    return shape, self._wanted[shape].libraries
                self._change.wait(left)
            return None

    def _look_after(self) -> None:
        """Let go of what has ended while it waited, and of what nobody has asked for in a while."""
        now = time.monotonic()
        for shape, wanted in list(self._wanted.items()):
            dead = [c for c in wanted.idle if not c.quiet]
            if now - wanted.since > self._settings.keep_s:
                wanted.count = self._settings.minimum
                if not wanted.resident:
                    dead = list(wanted.idle)
                    del self._wanted[shape]
            wanted.idle = [c for c in wanted.idle if c not in dead][: wanted.count]
            self._drop(dead)

    @staticmethod
    def _drop(containers: list[Container]) -> None:
        while containers:
            containers.pop().discard()
