"""The environments of one edge runtime: had when a module needs one, removed when none does."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from edge_runtime.environments.image import LABEL
from edge_runtime.environments.pull import Progress, pull
from edge_runtime.environments.usage import DAY_S, Usage, remove_unused
from edge_runtime.sandbox.engine import EngineFailure
from edge_runtime.sandbox.image_store import ImageStore
from protocol.environment import Reason
from protocol.errors import EnvironmentRefused

log = logging.getLogger(__name__)

#: How often what is unused is looked for, in seconds, and how long an unused one stays.
SWEEP_S: Final = 3600.0
KEEP_DAYS: Final = 30.0
#: How often progress is told at most, in seconds.
TELL_S: Final = 0.5
#: The pause after a failure of the engine, in seconds.
PAUSE_S: Final = 5.0
#: How many environments come at once. They have threads of their own: without a registry each keeps
#: one for minutes, and the shared ones are what every task of this runtime needs.
PULLS: Final = 4
_MB: Final = 2**20


class Keeper:
    """Gets images of environments, each once however many modules wait for it.

    Args:
        folder: where it is written down which was used when.
        keep_days: for how long an image stays that no module uses.
    """

    def __init__(self, folder: Path, *, keep_days: float = KEEP_DAYS) -> None:
        self._store = ImageStore()
        self._usage = Usage(folder / "environments.json")
        self.keep_s = keep_days * DAY_S
        self._threads = ThreadPoolExecutor(PULLS, thread_name_prefix="environment")
        self._coming: dict[str, asyncio.Task[str]] = {}
        self._told: dict[str, list[Callable[[str], None]]] = {}

    def here(self) -> dict[str, str]:
        """The environments that the engine has already, with their images. Blocks."""
        try:
            return {image.labels[LABEL]: image.id for image in self._store.labelled(LABEL)}
        except EngineFailure as problem:
            log.warning("could not look for environments that are here: %s", problem)
            return {}

    def used(self, environment: str) -> None:
        """A call is made in it."""
        self._usage.touch(environment, time.time())

    async def ensure(self, environment: str, image: str, tell: Callable[[str], None]) -> str:
        """Make an environment available; return its image.

        ``tell`` hears how far it is. Waits for as long as the registry or the engine is away.
        Raises EnvironmentRefused for what cannot be had here at all.
        """
        task = self._coming.get(environment)
        if task is None:
            self._told[environment] = []
            task = asyncio.create_task(self._get(environment, image))
            self._coming[environment] = task
            task.add_done_callback(lambda _: self._coming.pop(environment, None))
        self._told[environment].append(tell)
        tell("getting the environment")
        return await asyncio.shield(task)

    async def _get(self, environment: str, image: str) -> str:
        loop, cancelled = asyncio.get_running_loop(), threading.Event()
        told_at = 0.0

        def tell(text: str) -> None:
            for listener in self._told[environment]:
                listener(text)

        def progress(now: Progress) -> None:
            nonlocal told_at
            if now.done == now.total or time.monotonic() - told_at > TELL_S:
                told_at = time.monotonic()
                text = f"getting the environment: {now.done / _MB:.1f} of {now.total / _MB:.1f} MB"
                loop.call_soon_threadsafe(tell, text)

        while True:
            try:
                getting = functools.partial(
                    pull, image, environment, self._store, cancelled=cancelled, progress=progress
                )
                found = await loop.run_in_executor(self._threads, getting)
            except EnvironmentRefused as problem:
                if problem.details.get("reason_code") != Reason.REGISTRY_UNREACHABLE.value:
                    raise
                tell(f"waiting for the registry: {problem.message}")
            except EngineFailure as problem:
                tell(f"waiting for the container engine: {problem}")
                await asyncio.sleep(PAUSE_S)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            else:
                self.used(environment)
                return found

    async def close(self) -> None:
        """Stop what is coming."""
        tasks = list(self._coming.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def sweep(
        self, in_use: Callable[[], Collection[str]], gone: Callable[[str], None]
    ) -> None:
        """Remove what nobody has used for long, now and again, until cancelled.

        Args:
            in_use: the environments of which a module is here; they stay.
            gone: is told each that was removed.
        """
        while True:
            try:
                removed = await asyncio.to_thread(
                    remove_unused,
                    self._store,
                    self._usage,
                    {*in_use(), *self._coming},
                    time.time(),
                    self.keep_s,
                )
                for environment in removed:
                    log.info("removed the environment %s, which nobody used", environment[:12])
                    gone(environment)
            except EngineFailure as problem:
                log.warning("could not look for environments that nobody uses: %s", problem)
            await asyncio.sleep(SWEEP_S)
