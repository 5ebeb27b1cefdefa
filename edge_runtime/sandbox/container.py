"""A container whose guest program is up, and where they come from."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from edge_runtime.sandbox import settings
from edge_runtime.sandbox.classify import Seen, Stop, needs_engine
from edge_runtime.sandbox.conversation import Cancelled, Conversation
from edge_runtime.sandbox.engine import Ending, EngineFailure, Engines, Gone, label
from edge_runtime.sandbox.reaper import Reaper, process_mark
from edge_runtime.sandbox.settings import Shape
from protocol.limits import Limits

#: How many containers may be starting at once: more would only make each of them slower.
STARTS: Final = 4
#: How often a cancellation is looked for while others are starting, in seconds.
_TICK_S: Final = 0.05
#: How long the engine may take to say how a container ended, and that it was for memory, in
#: seconds: the second word comes by another way and may be the later one.
_ENDING_S: Final = 5.0
_MEMORY_WORD_S: Final = 1.0


class NotUp(EngineFailure):
    """A container was started, but its guest program did not come up; with what was seen."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(f"the sandbox's own program did not come up {seen.detail}".strip())
        self.seen = seen


class Container:
    """One container with its guest program up. Whoever has it discards it."""

    def __init__(
        self,
        name: str,
        libraries: frozenset[str],
        conversation: Conversation,
        engines: Engines,
        reaper: Reaper,
    ) -> None:
        self.name, self.libraries = name, libraries
        self.memory = 0  # bytes that it takes while it is idle, where that is known
        self._conversation, self._engines, self._reaper = conversation, engines, reaper

    @property
    def quiet(self) -> bool:
        """True if the guest waits for a call, as far as can be told from here."""
        return self._conversation.quiet

    def exchange(self, request: bytes, limits: Limits, cancelled: Cancelled) -> tuple[Seen, str]:
        """Hold one call: what was seen, and what was printed. Raises EngineFailure."""
        seen = self._conversation.exchange(request, limits, cancelled)
        printed = self._conversation.printed.text()
        return self._ended(seen, goes_on=seen.report is not None), printed

    def wait_up(self, cancelled: Cancelled) -> None:
        """Wait until the guest is up. Raises NotUp."""
        self._require(self._conversation.wait_up(cancelled))

    def wait_imported(self, cancelled: Cancelled) -> None:
        """Wait until its libraries are imported. Raises NotUp."""
        self._require(self._conversation.wait_imported(cancelled))

    def _require(self, instead: Seen | None) -> None:
        if instead is not None:
            raise NotUp(self._ended(instead, goes_on=False))

    def _ended(self, seen: Seen, *, goes_on: bool) -> Seen:
        """What was seen, with the engine's word where only it can say how the container ended."""
        if seen.stop is None and not needs_engine(seen):
            return seen
        with self._engines.borrow() as engine:
            if seen.stop is not None:
                engine.kill(self.name)
            if seen.stop is Stop.CANCELLED or not needs_engine(seen):
                return seen

            def look() -> Ending:
                return engine.inspect(self.name)

            ending = look() if goes_on else _ending(look, seen)
            return Seen(seen.report, seen.stop, seen.detail, ending)

    def discard(self) -> None:
        """Have it removed, soon."""
        self._reaper.take(self.name, self._conversation.close)


class Containers:
    """Starts containers under one owner, and knows what of them is to be removed.

    Args:
        owner: whose they are, unique among those that use this engine.
        runtime: the engine's runtime to use, such as "runsc"; None for its default.
    """

    def __init__(self, engines: Engines, owner: str, runtime: str | None) -> None:
        self._engines, self._runtime = engines, runtime
        instance = secrets.token_hex(6)
        self._prefix = f"oodida-{re.sub('[^A-Za-z0-9_.-]', '-', owner)}-{instance}"
        self._numbers = itertools.count(1)  # its next() is atomic
        self._labels = {
            label("owner"): owner,
            label("instance"): instance,
            label("process"): process_mark(),
        }
        self._reaper = Reaper(engines, owner, instance)
        self._starts = threading.BoundedSemaphore(STARTS)

    def start(
        self,
        shape: Shape,
        libraries: Iterable[str],
        labels: Mapping[str, str],
        cancelled: Cancelled,
    ) -> Container:
        """Start a container and return when its guest is up, with the libraries imported.

        Raises NotUp, ImageMissing or EngineFailure; nothing is left then.
        """
        name = f"{self._prefix}-{next(self._numbers)}"
        wanted = frozenset(libraries)
        marked = {label(key): value for key, value in labels.items()} | self._labels
        body = settings.container(shape, sorted(wanted), marked, self._runtime)
        container = None
        try:
            with self._turn(cancelled), self._engines.borrow() as engine:
                engine.create(name, body)
                processes = settings.guest_processes(shape, self._runtime)
                talk = Conversation(engine.attach(name), lambda: self._runs(name), processes)
                container = Container(name, wanted, talk, self._engines, self._reaper)
                engine.start(name)
                container.wait_up(cancelled)
            container.wait_imported(cancelled)  # not our code: nobody else has to wait for it
            return container
        except BaseException:
            if container is None:
                self._reaper.take(name)  # the engine's answer may have been lost: it may be there
            else:
                container.discard()
            raise

    def weigh(self, container: Container) -> None:
        """Find out what an idle container takes of the memory. Raises EngineFailure."""
        with self._engines.borrow() as engine:
            container.memory = engine.memory(container.name)

    def close(self) -> None:
        """Remove every container, and return when they are gone."""
        self._reaper.close()

    def _runs(self, name: str) -> bool:
        with self._engines.borrow() as engine:
            return engine.inspect(name).running

    @contextmanager
    def _turn(self, cancelled: Cancelled) -> Iterator[None]:
        """Wait for one's turn to start. Raises NotUp if nobody waits for the container any more."""
        while not self._starts.acquire(timeout=_TICK_S):
            if cancelled():
                raise NotUp(Seen(None, Stop.CANCELLED))
        try:
            yield
        finally:
            self._starts.release()


def _ending(look: Callable[[], Ending], seen: Seen) -> Ending | None:
    """How a container ended, as soon as the engine knows; None if it never says."""
    started = time.monotonic()
    pause = threading.Event()
    ended = None
    while True:
        now = time.monotonic()
        try:
            ending = look()
        except Gone:
            return None
        if not ending.running and ended is None:
            ended = now
        # Killed, and not by us: by the kernel then, and the engine will say so.
        unclear = seen.stop is None and (ending.status == 137 or seen.report is not None)
        patience = _MEMORY_WORD_S if unclear else 0.0
        if ending.oom_killed or (ended is not None and now - ended >= patience):
            return ending
        if now - started > _ENDING_S:
            return ending
        pause.wait(0.01)
