"""What an edge runtime is busy with: tasks of the event loop, by what they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Work:
    """Tasks that run, each under a key: an assignment's id, mostly."""

    def __init__(self) -> None:
        self._running: dict[str, set[asyncio.Task[None]]] = {}
        #: True once everything is ended: what is left undone is gone on with by the next life.
        self.stopping = False

    def __len__(self) -> int:
        return sum(map(len, self._running.values()))

    def start(
        self, key: str, work: Coroutine[Any, Any, None], name: str = ""
    ) -> asyncio.Task[None]:
        """Begin something."""
        task = asyncio.create_task(work, name=name or f"task-{key}")
        self._running.setdefault(key, set()).add(task)
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def of(self, key: str) -> tuple[asyncio.Task[None], ...]:
        """What runs under a key."""
        return tuple(self._running.get(key, ()))

    async def stop(self) -> None:
        """Cancel everything, and wait for its end."""
        self.stopping = True
        running = [task for tasks in self._running.values() for task in tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        tasks = self._running.get(key, set())
        tasks.discard(task)
        if not tasks:
            self._running.pop(key, None)
