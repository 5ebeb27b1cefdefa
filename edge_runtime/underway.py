"""How far a task is, told as it happens: best effort, and not for a task that is done at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Self

from protocol.lifecycle import TaskState
from protocol.messages import StateReport, Underway

#: A task that is done sooner has cost no message; further states are told no faster, in seconds.
PATIENCE_S: Final = 0.5
#: How often a worker gives the sign of life that keeps its lease, in seconds.
HEARTBEAT_S: Final = 5.0

Tell = Callable[[StateReport], Awaitable[None]]


class Progress:
    """The state of one task, and who is told of it. Use as an asynchronous context manager.

    With ``heartbeat`` it says `running` at once and again and again, as a worker has to.
    """

    def __init__(self, task: str, attempt: int, tell: Tell, *, heartbeat: bool) -> None:
        self._task, self._attempt, self._tell = task, attempt, tell
        self._heartbeat = heartbeat
        self._state: Underway = TaskState.RUNNING if heartbeat else TaskState.DELIVERED
        self._changed = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if self._heartbeat:
            self._begin()
        else:  # most tasks are done before it is over, and cost no task of the loop
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(PATIENCE_S, self._begin)
        return self

    def _begin(self) -> None:
        self._teller = asyncio.create_task(self._run(), name=f"progress-{self._task}")

    async def __aexit__(self, *_: object) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self._teller is not None:
            self._teller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._teller

    def at(self, state: Underway) -> None:
        """The task is there now."""
        if not self._heartbeat and state is not self._state:
            self._state = state
            self._changed.set()

    async def _run(self) -> None:
        if self._heartbeat:
            while True:
                await self._say()
                await asyncio.sleep(HEARTBEAT_S)
        while True:
            self._changed.clear()
            await self._say()
            await self._changed.wait()
            await asyncio.sleep(PATIENCE_S)

    async def _say(self) -> None:
        report = StateReport(task=self._task, attempt=self._attempt, state=self._state)
        await self._tell(report)
