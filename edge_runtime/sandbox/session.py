"""Calls that share a container, one after the other: at least one, and as many as it may serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Self

from edge_runtime.sandbox.call import Call
from edge_runtime.sandbox.classify import Seen, classify, is_blank
from edge_runtime.sandbox.container import Container, Containers, NotUp
from edge_runtime.sandbox.engine import EngineFailure, ImageMissing
from edge_runtime.sandbox.pool import Pool
from edge_runtime.sandbox.settings import Shape
from protocol.imports import imported
from protocol.limits import Limits
from protocol.module import Environment
from protocol.outcome import Kind, Outcome

#: Largest request in bytes, as `images/sandbox/guest.py` has it.
MAX_REQUEST: Final = 64 * 1024 * 1024
NEVER: Final = threading.Event()


def no_image(environment: str) -> str:
    """Why an environment cannot be run here, and what its keeper does about it."""
    told = f"there is no image for the environment {environment} here"
    if environment not in list(Environment):
        return told  # one of libraries of one's own, which the cloud brings
    return f"{told}: start it with --image {environment}=IMAGE"


class Session:
    """One container for several calls, a forked process each; or with ``once`` for one.

    A container is taken when the first call comes. One that a call has left in any other state
    than it found it in, or that a limit or a cancellation has ended, is replaced for the next.
    Calls are held one at a time.
    """

    def __init__(
        self,
        containers: Containers,
        pool: Pool,
        counted: Callable[[], AbstractContextManager[None]],
        closing: Callable[[], bool],
        image: str | None,
        limits: Limits,
        labels: Mapping[str, str],
        *,
        once: bool,
    ) -> None:
        self._containers, self._pool = containers, pool
        self._counted, self._closing, self._once = counted, closing, once
        self._image, self._limits, self._labels = image, limits, dict(labels)
        self._container: Container | None = None
        self._starts = 0
        self._over = False
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the container go. A call that comes after all keeps none."""
        with self._turn:
            self._over = True
            self._let_go()

    def run(
        self, call: Call, cancelled: threading.Event = NEVER, *, cpu_s: int | None = None
    ) -> Outcome:
        """Run a call and return how it ended; see `Sandbox.run`.

        ``cpu_s`` lowers the limit on processor time for this call alone.
        """
        limits = self._limits
        if cpu_s is not None and cpu_s < limits.cpu_s:
            limits = limits.model_copy(update={"cpu_s": cpu_s})
        started = time.monotonic()
        if self._image is None:
            return Outcome(kind=Kind.REFUSED, reason=no_image(call.environment))
        request = call.request(self._limits.value)
        if len(request) > MAX_REQUEST:
            reason = f"the argument is larger than {MAX_REQUEST} bytes; take fewer samples"
            return Outcome(kind=Kind.REFUSED, reason=reason)

        def given_up() -> bool:
            return cancelled.is_set() or self._closing()

        printed, before = "", self._starts
        try:
            with self._counted(), self._turn:
                before = self._starts
                shape = Shape.of(self._image, self._limits)
                seen, printed = self._exchange(shape, call.source, request, limits, given_up)
            outcome = classify(seen, limits)
            if seen.report is None:  # nobody counted: what it can have taken at most
                took_s = (time.monotonic() - started) * limits.cpus
                outcome = outcome.model_copy(update={"cpu_s": min(took_s, limits.cpu_s)})
        except NotUp as problem:
            outcome = classify(problem.seen, limits)
        except ImageMissing:
            reason = f"there is no image {self._image} on this machine; build or pull it first"
            outcome = Outcome(kind=Kind.REFUSED, reason=reason)
        except EngineFailure as problem:
            outcome = Outcome(kind=Kind.ENGINE_FAILURE, reason=str(problem)[:2000])
        seconds = time.monotonic() - started
        took = {"printed": printed, "seconds": seconds, "starts": self._starts - before}
        return outcome.model_copy(update=took)

    def _exchange(
        self,
        shape: Shape,
        source: str,
        request: bytes,
        limits: Limits,
        given_up: Callable[[], bool],
    ) -> tuple[Seen, str]:
        with self._keeping_blank():
            if self._container is None or not self._container.quiet:
                self._let_go()
                self._container = self._take(shape, source, given_up)
            said = self._container.exchange(request, limits, given_up)
            if not (self._once or self._over) and is_blank(said[0]):
                return said
            self._let_go()
            return said

    @contextmanager
    def _keeping_blank(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # nobody knows what state it is in
            self._let_go()
            raise

    def _take(self, shape: Shape, source: str, given_up: Callable[[], bool]) -> Container:
        libraries = imported(source)
        self._starts += 1
        taken = self._pool.take(shape, libraries)
        try:
            return taken or self._containers.start(shape, libraries, self._labels, given_up)
        except BaseException:
            self._pool.done()
            raise

    def _let_go(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.discard()
            self._pool.done()
