"""The vehicles of one process: they come one after the other, work, and say goodbye."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final

from edge_runtime.admission import Rules
from edge_runtime.agent import JOURNAL, Agent
from edge_runtime.clock import Clock
from edge_runtime.environments.port import NoEnvironments
from edge_runtime.journal import Journal
from edge_runtime.sandbox import InProcess
from edge_runtime.settings import Settings
from edge_runtime.signals import open_source
from edge_runtime.simulate.plan import Plan
from protocol.errors import OodidaError
from protocol.link import end_task
from protocol.process import hold_for_long

#: How many connect, or say goodbye, at a time: a broker has a short queue of new connections.
AT_ONCE: Final = 100
#: For how long the broker keeps a simulated vehicle's session when it is away, in seconds. Real
#: ones come back after a night; these come back at once or never.
SESSION_EXPIRY_S: Final = 300

Tell = Callable[[int], None]
Work = Callable[[], Coroutine[Any, Any, None]]


class Fleet:
    """Runs the vehicles of a plan in this event loop.

    ``connected`` and ``left`` are told, now and again, how many have connected and how many are
    still to say goodbye.
    """

    def __init__(self, plan: Plan, connected: Tell, left: Tell) -> None:
        self._plan, self._connected, self._left = plan, connected, left
        self._rules = Rules.shipped()
        # One for all: a commit is paid once for whatever they ask for at the same time.
        self._journal = Journal(plan.folder / JOURNAL)
        self._clock = Clock.of_this_machine()
        self._running: set[asyncio.Task[None]] = set()
        self._up = 0

    async def run(self, ready: asyncio.Event) -> None:
        """Work until cancelled. Raises NameInUse if another has one of their names, at any time."""
        try:
            await _at_most(AT_ONCE, (partial(self._begin, n) for n in self._plan.numbers))
            hold_for_long()
            ready.set()
            await self._until_one_ends()
        finally:
            await _undisturbed(self._end())
            self._journal.close()

    async def _begin(self, number: int) -> None:
        agent = self._agent(number)
        up = asyncio.Event()
        working = asyncio.create_task(agent.run(up), name=self._plan.name(number))
        self._running.add(working)
        waiting = asyncio.create_task(up.wait())
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if working.done():
            working.result()
        self._up += 1
        self._connected(self._up)

    def _agent(self, number: int) -> Agent:
        plan = self._plan
        name = plan.name(number)
        settings = Settings(
            url=plan.url,
            name=name,
            role="vehicles",
            folder=plan.folder / name,
            attributes=plan.attributes_of(number),
            rules=self._rules,
            session_expiry_s=SESSION_EXPIRY_S,
            identity=plan.identity(number),
            passing=True,
        )
        source = open_source(None, name, rate_hz=plan.rate_hz)
        return Agent(
            settings, source, InProcess(), NoEnvironments(),
            journal=self._journal, clock=self._clock,
        )  # fmt: skip

    async def _until_one_ends(self) -> None:
        """Not one does by itself; if one has, something is wrong with all of them."""
        done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _end(self) -> None:
        left = len(self._running)

        async def end(task: asyncio.Task[None]) -> None:
            nonlocal left
            await end_task(task)
            left -= 1
            self._left(left)

        await _at_most(AT_ONCE, (partial(end, task) for task in list(self._running)))


async def _at_most(number: int, works: Iterable[Work]) -> None:
    """Do many things, so many at a time; the first that fails ends the rest, and is raised."""
    slots = asyncio.Semaphore(number)

    async def one(work: Work) -> None:
        try:
            await work()
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                await slots.acquire()
                group.create_task(one(work))
    except* OodidaError as problems:
        raise problems.exceptions[0] from None


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, however often it is cancelled meanwhile: each step of it ends in time."""
    task = asyncio.create_task(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()
