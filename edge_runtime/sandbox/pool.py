"""Containers started ahead of need: the guest is up, libraries are imported, no code is in.

A warm container differs from a fresh one in nothing but that it has started already. It is started
while the runtime is quiet, so that starting it is on nobody's way: an engine's start keeps a
processor busy for a fifth of a second.

It has imported what the call's own module imports and nothing else: libraries take memory, which is
the call's, and nobody's call may end of what another's module imports.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

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
#: How long none of a kind is started after one could not be: doubled each time, up to the second.
BACKOFF_S: Final = (1.0, 60.0)
_MB: Final = 2**20


class PoolSettings(Frozen):
    """How many containers wait, idle.

    Attributes:
        minimum: of each kind that is expected to be needed. 0: no pool at all.
        maximum: of each kind, where calls came faster than the minimum could serve.
        memory_mb: what all that are idle may take together, in megabytes.
        keep_s: for how long a kind is kept ready after it was last asked for, in seconds.
    """

    minimum: int = Field(default=1, ge=0, le=64)
    maximum: int = Field(default=4, ge=0, le=64)
    memory_mb: int = Field(default=512, ge=0, le=1_048_576)
    keep_s: float = Field(default=900.0, gt=0)


class _Kind(NamedTuple):
    """Containers that can stand in for each other: of one shape, with the same libraries."""

    shape: Shape
    libraries: frozenset[str]


@dataclass
class _Wanted:
    """What is kept ready of one kind."""

    count: int
    since: float  # when it was last asked for
    resident: bool = False  # never forgotten
    idle: list[Container] = field(default_factory=list)
    weight: int = 0  # bytes that one takes, as the last one did
    not_before: float = 0.0  # when one may be started again, after one could not be
    backoff: float = 0.0


class Pool:
    """Keeps so many idle containers of each kind as are expected to be needed, and no more.

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
        self._wanted: dict[_Kind, _Wanted] = {}
        self._change = threading.Condition()
        self._closed = False
        self._busy = 0
        self._quiet_since = self._asked_at = time.monotonic()
        self._told_full = False
        self._thread = threading.Thread(target=self._work, name="sandbox-pool", daemon=True)
        if settings.minimum:
            self._thread.start()

    def expect(self, shape: Shape, libraries: Iterable[str], *, resident: bool = False) -> None:
        """Calls of this shape, with modules that import these libraries, are likely to come."""
        if not self._settings.minimum:
            return
        with self._change:
            wanted = self._want(_Kind(shape, frozenset(libraries)))
            wanted.resident |= resident
            self._change.notify_all()

    def take(self, shape: Shape, libraries: frozenset[str]) -> Container | None:
        """An idle container, which is the caller's from now on; None if there is none.

        Each `take` is followed by one `done`.
        """
        with self._change:
            self._busy += 1
            if not self._settings.minimum:
                return None
            wanted = self._want(_Kind(shape, libraries))
            while wanted.idle:
                oldest = wanted.idle.pop(0)
                if oldest.quiet:
                    return oldest
                oldest.discard()  # it ended while it waited
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
            for kind in [k for k in self._wanted if k.shape.image == image]:
                self._drop(self._wanted.pop(kind).idle)

    @property
    def full(self) -> bool:
        """True if all that is wanted, and fits, is idle."""
        with self._change:
            return not self._missing()

    @property
    def stock(self) -> tuple[int, int]:
        """How many containers are idle, and how many should be."""
        with self._change:
            wanted = self._wanted.values()
            return sum(len(w.idle) for w in wanted), sum(w.count for w in wanted)

    def close(self) -> None:
        """Start nothing more, and discard what is idle."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._settings.minimum:
            self._thread.join()
        for wanted in self._wanted.values():
            self._drop(wanted.idle)

    def _want(self, kind: _Kind) -> _Wanted:
        now = time.monotonic()
        wanted = self._wanted.setdefault(kind, _Wanted(self._settings.minimum, now))
        wanted.since = self._asked_at = now
        return wanted

    def _missing(self) -> list[_Kind]:
        """Of what more is wanted and fits: what was asked for last is first."""
        asked = sorted(self._wanted.items(), key=lambda item: -item[1].since)
        short = [(kind, wanted) for kind, wanted in asked if len(wanted.idle) < wanted.count]
        taken = sum(c.memory for w in self._wanted.values() for c in w.idle)
        most = self._settings.memory_mb * _MB
        fits = [kind for kind, wanted in short if taken + wanted.weight <= most]
        if short and not fits and not self._told_full:
            log.info("the pool is full: %s MB are idle", taken // _MB)
            self._told_full = True
        return fits

    def _work(self) -> None:
        while (kind := self._next()) is not None:
            try:
                container = self._started(kind)
            except EngineFailure as problem:
                if not self._closed:
                    log.warning("no container could be started ahead: %s", problem)
                self._failed(kind)
            else:
                self._add(kind, container)

    def _started(self, kind: _Kind) -> Container:
        container = self._start(kind.shape, kind.libraries)
        try:
            self._weigh(container)
        except BaseException:
            container.discard()
            raise
        return container

    def _failed(self, kind: _Kind) -> None:
        """Leave this kind alone for a while; that of others may be all right."""
        with self._change:
            wanted = self._wanted.get(kind)
            if wanted is not None:
                wanted.backoff = min(max(2 * wanted.backoff, BACKOFF_S[0]), BACKOFF_S[1])
                wanted.not_before = time.monotonic() + wanted.backoff

    def _add(self, kind: _Kind, container: Container) -> None:
        with self._change:
            wanted = self._wanted.get(kind)
            if wanted is None:  # it was forgotten meanwhile
                container.discard()
                return
            wanted.weight, wanted.backoff = container.memory, 0.0
            wanted.idle.append(container)
            self._change.notify_all()

    def _next(self) -> _Kind | None:
        """Wait until something is to be started, and what; None when the pool is closed."""
        with self._change:
            while not self._closed:
                self._look_after()
                missing = self._missing()
                if not missing:
                    self._change.wait(CHECK_S)
                    continue
                now = time.monotonic()
                kind = next((k for k in missing if self._wanted[k].not_before <= now), None)
                if kind is None:
                    first = min(self._wanted[k].not_before for k in missing)
                    self._change.wait(min(first - now, CHECK_S))
                    continue
                quiet_in = PUT_OFF_S if self._busy else self._quiet_since + QUIET_S - now
                left = min(quiet_in, self._asked_at + PUT_OFF_S - now)
                if left <= 0:
                    return kind
                self._change.wait(left)
            return None

    def _look_after(self) -> None:
        """Let go of what has ended while it waited, and of what nobody has asked for in a while."""
        now = time.monotonic()
        for kind, wanted in list(self._wanted.items()):
            if now - wanted.since > self._settings.keep_s:
                wanted.count = self._settings.minimum
                if not wanted.resident:
                    self._drop(self._wanted.pop(kind).idle)
                    continue
            alive = [c for c in wanted.idle if c.quiet]
            kept = alive[: wanted.count]
            going = [c for c in wanted.idle if c not in kept]
            wanted.idle = kept
            self._drop(going)

    @staticmethod
    def _drop(containers: list[Container]) -> None:
        while containers:
            containers.pop().discard()
