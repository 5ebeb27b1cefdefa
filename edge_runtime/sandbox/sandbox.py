"""Running analysts' modules in containers: `Sandbox.run`, and `Sandbox.session` for many calls."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, Self

from edge_runtime.sandbox.call import Call
from edge_runtime.sandbox.container import Container, Containers
from edge_runtime.sandbox.engine import EngineFailure, Engines
from edge_runtime.sandbox.pool import Pool, PoolSettings
from edge_runtime.sandbox.session import NEVER, Session, no_image
from edge_runtime.sandbox.settings import Shape
from protocol.limits import Limits
from protocol.module import Environment
from protocol.outcome import Outcome

NO_POOL: Final = PoolSettings(minimum=0, maximum=0)
DEFAULT_LIMITS: Final = Limits()


class Sandbox:
    """Runs modules, each call in a fresh container that is gone afterwards.

    Args:
        images: environment -> the image that it is here; more may be added later.
        owner: whose containers these are, unique among those that use this engine. What a dead
            process left under this name is removed at the start.
        runtime: the engine's runtime to use, such as "runsc"; None for its default.
        pool: how many containers are started ahead of need; by default none.
    """

    def __init__(
        self,
        images: Mapping[str, str] | Mapping[Environment, str],
        owner: str,
        *,
        runtime: str | None = None,
        pool: PoolSettings = NO_POOL,
    ) -> None:
        self._images: dict[str, str] = {str(k): image for k, image in images.items()}
        self._ids: dict[str, str] = {}
        self._engines = Engines()
        self._containers = Containers(self._engines, owner, runtime)
        self._idle = threading.Condition()
        self._running = 0
        self._closing = threading.Event()
        self._pool = Pool(self._ahead, self._containers.weigh, pool)

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
        self._pool.close()
        self._containers.close()
        self._engines.close()

    def run(
        self, call: Call, limits: Limits = DEFAULT_LIMITS, cancelled: threading.Event = NEVER
    ) -> Outcome:
        """Run a call in a container of its own and return how it ended.

        Blocks; may be called by several threads at once.

        Args:
            call: what to run.
            limits: what it may use.
            cancelled: once it is set, the container is killed, and the outcome says so.
        """
        with self._session(call.environment, limits, call.labels, once=True) as session:
            return session.run(call, cancelled)

    def session(
        self,
        environment: str,
        limits: Limits = DEFAULT_LIMITS,
        labels: Mapping[str, str] | None = None,
    ) -> Session:
        """One container for the calls of one assignment, to be closed by whoever asked for it.

        Between its calls nothing is shared but the container: each runs in a process of its own,
        and a container in which one left anything is not used again.
        """
        return self._session(environment, limits, labels or {}, once=False)

    def _session(
        self, environment: str, limits: Limits, labels: Mapping[str, str], *, once: bool
    ) -> Session:
        return Session(
            self._containers,
            self._pool,
            self._counted,
            self._closing.is_set,
            self._images.get(environment),
            limits,
            labels,
            once=once,
        )

    def add(self, environment: str, image: str) -> None:
        """From now on this environment can be run here."""
        self._images[environment] = image

    def remove(self, environment: str) -> None:
        """This environment cannot be run here any more."""
        image = self._images.pop(environment, None)
        if image is not None:
            self._pool.forget(image)

    @property
    def runs_modules(self) -> bool:
        """True: that is what it is for."""
        return True

    @property
    def environments(self) -> tuple[str, ...]:
        """The environments that can be run here, sorted."""
        return tuple(sorted(self._images))

    def why_not(self, environment: str) -> str:
        """Why an environment cannot be run here, in a sentence for its analyst."""
        return no_image(environment)

    def image(self, environment: str) -> str:
        """How the engine names an environment's image by its content; "" if it does not say."""
        name = self._images.get(environment)
        if name is None:
            return ""
        if name not in self._ids:  # a name is that of its content: it stands for no other one
            with suppress(EngineFailure), self._engines.borrow() as engine:
                self._ids[name] = engine.image_id(name)
        return self._ids.get(name, "")

    def has(self, environment: str) -> bool:
        """True if this environment can be run here."""
        return environment in self._images

    def expect(
        self,
        environment: str,
        limits: Limits = DEFAULT_LIMITS,
        libraries: Iterable[str] = (),
        *,
        resident: bool = False,
    ) -> None:
        """Such calls are likely to come: a container is started ahead of them."""
        image = self._images.get(environment)
        if image is not None:
            self._pool.expect(Shape.of(image, limits), libraries, resident=resident)

    @property
    def ready(self) -> bool:
        """True if all is idle that is wanted."""
        return self._pool.full

    @property
    def stock(self) -> tuple[int, int]:
        """How many containers are started and idle, and how many should be."""
        return self._pool.stock

    def _ahead(self, shape: Shape, libraries: frozenset[str]) -> Container:
        return self._containers.start(shape, libraries, {}, self._closing.is_set)

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
