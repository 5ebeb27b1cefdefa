"""Running one call in a container of its own: `Sandbox.run`."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

from edge_runtime.sandbox import settings
from edge_runtime.sandbox.call import Call
from edge_runtime.sandbox.classify import Seen, Stop, classify, needs_engine
from edge_runtime.sandbox.conversation import Conversation
from edge_runtime.sandbox.engine import (
    Ending,
    Engine,
    EngineFailure,
    Engines,
    Gone,
    ImageMissing,
    label,
)
from edge_runtime.sandbox.limits import DEFAULT_LIMITS, Limits
from edge_runtime.sandbox.reaper import Reaper, process_mark
from protocol.module import Environment
from protocol.outcome import Kind, Outcome

#: Largest request in bytes, as `images/sandbox/guest.py` has it.
MAX_REQUEST: Final = 64 * 1024 * 1024
#: How long the engine may take to say how a container ended, and that it was for memory, in
#: seconds: the second word comes by another way and may be the later one.
_ENDING_S: Final = 5.0
_MEMORY_WORD_S: Final = 1.0
_NEVER: Final = threading.Event()


class Sandbox:
    """Runs modules, each call in a fresh container that is gone afterwards.

    Args:
        images: the image of each environment that can be run here.
        owner: whose containers these are, unique among those that use this engine. What a dead
            process left under this name is removed at the start.
        runtime: the engine's runtime to use, such as "runsc"; None for its default.
    """

    def __init__(
        self, images: Mapping[Environment, str], owner: str, *, runtime: str | None = None
    ) -> None:
        self._images, self._runtime = dict(images), runtime
        instance = secrets.token_hex(6)
        self._prefix = f"oodida-{re.sub('[^A-Za-z0-9_.-]', '-', owner)}-{instance}"
        self._numbers = itertools.count(1)  # its next() is atomic
        self._labels = {
            label("owner"): owner,
            label("instance"): instance,
            label("process"): process_mark(),
        }
        self._engines = Engines()
        self._reaper = Reaper(self._engines, owner, instance)
        self._idle = threading.Condition()
        self._running = 0
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every call, and return when no container of this sandbox is left."""
        with self._idle:
            if self._closing.is_set():
                return
            self._closing.set()
            self._idle.wait_for(lambda: self._running == 0)
        self._reaper.close()
        self._engines.close()

    def run(
        self,
        call: Call,
        limits: Limits = DEFAULT_LIMITS,
        cancelled: threading.Event = _NEVER,
    ) -> Outcome:
        """Run a call and return how it ended. Blocks; may be called by several threads at once.

        Args:
            call: what to run.
            limits: what it may use.
            cancelled: once it is set, the container is killed, and the outcome says so.
        """
        started = time.monotonic()
        image = self._images.get(call.environment)
        if image is None:
            return _refused(f"there is no image for the environment {call.environment.value} here")
        conversation = Conversation(
            call.request(limits.value),
            limits,
            lambda: cancelled.is_set() or self._closing.is_set(),
        )
        if conversation.size > MAX_REQUEST:
            return _refused(f"the argument is larger than {MAX_REQUEST} bytes; take fewer samples")
        try:
            with self._counted(), self._engines.borrow() as engine:
                seen = self._in_container(engine, image, call, limits, conversation)
            outcome = classify(seen, limits)
        except ImageMissing:
            outcome = _refused(f"there is no image {image} on this machine; build or pull it first")
        except EngineFailure as problem:
            outcome = Outcome(kind=Kind.ENGINE_FAILURE, reason=str(problem)[:2000])
        printed, seconds = conversation.printed.text(), time.monotonic() - started
        return outcome.model_copy(update={"printed": printed, "seconds": seconds})

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._idle:
            if self._closing.is_set():
                raise EngineFailure("the sandbox is closed")
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _in_container(
        self, engine: Engine, image: str, call: Call, limits: Limits, conversation: Conversation
    ) -> Seen:
        """Hold the conversation with a container of its own, which is on its way out then."""
        name = f"{self._prefix}-{next(self._numbers)}"
        labels = {label(key): value for key, value in call.labels.items()} | self._labels
        command = settings.arguments(call.environment, limits)
        try:
            engine.create(name, settings.container(image, command, limits, labels, self._runtime))
            attached = engine.attach(name)
            try:
                engine.start(name)
                seen = conversation.hold(attached, lambda: engine.inspect(name).running)
            finally:
                attached.close()
            if seen.stop is not None:
                engine.kill(name)
            if seen.stop is not Stop.CANCELLED and needs_engine(seen):
                return Seen(seen.report, seen.stop, seen.detail, _ending(engine, name, seen))
            return seen
        finally:
            self._reaper.take(name)  # also if the engine's answer was lost: it may be there


def _ending(engine: Engine, name: str, seen: Seen) -> Ending | None:
    """How a container ended, as soon as the engine knows; None if it never says."""
    started = time.monotonic()
    pause = threading.Event()
    ended = None
    while True:
        now = time.monotonic()
        try:
            ending = engine.inspect(name)
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


def _refused(reason: str) -> Outcome:
    return Outcome(kind=Kind.REFUSED, reason=reason)
