"""Carrying out one task: wait for its code and its window, call the method, say how it went."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from edge_runtime import metrics
from edge_runtime.admission import Admission
from edge_runtime.argument import INPUT, checked
from edge_runtime.attest import Attest
from edge_runtime.builtin import guarded
from edge_runtime.clock import Clock
from edge_runtime.done import Done, by_contract, lowered, of_budget, over_budget, refused, report_of
from edge_runtime.journal import EdgeJournal
from edge_runtime.methods import run_offboard, run_onboard
from edge_runtime.modules import ModuleStore
from edge_runtime.policy import Gate
from edge_runtime.sandbox import AnySandbox, Call
from edge_runtime.sessions import Sessions
from edge_runtime.signals import Source
from edge_runtime.trial import verdict_of
from edge_runtime.underway import Progress
from edge_runtime.vouched import Vouched
from edge_runtime.window import collect, window_read
from protocol import values
from protocol.account import Gaps, Usage
from protocol.assignment import CUSTOM
from protocol.errors import ModuleRefused, OodidaError
from protocol.lifecycle import TaskState
from protocol.limits import Limits
from protocol.messages import (
    NO_SANDBOX,
    OffboardOrder,
    OnboardOrder,
    TaskReport,
    Verdict,
    VerifyOrder,
)
from protocol.module import Module, builtin_digest
from protocol.outcome import Kind, Outcome
from protocol.result_receipt import WindowRead
from protocol.values import Tree
from protocol.version import VERSION

T = TypeVar("T")

#: How often containers of assignments are looked after, in seconds.
LOOK_S: Final = 60.0
#: A built-in method over no more samples than this takes less than a change of threads.
QUICK_SAMPLES: Final = 500
#: An order that has less time than this, in seconds, is not carried out at once: it may be over.
AT_ONCE_S: Final = 1.0


@dataclass
class _Task:
    """A task that is carried out: how its window was, and who is told how far it is."""

    order: OnboardOrder | OffboardOrder
    progress: Progress
    ends_at: float
    gaps: Gaps | None = None
    window: WindowRead | None = None


class Runner:
    """Runs tasks, several at once; at most ``calls`` containers at a time."""

    def __init__(
        self,
        *,
        source: Source | None,
        modules: ModuleStore,
        sandbox: AnySandbox,
        admission: Admission,
        environment: Callable[[Module], Awaitable[None]],
        calls: int,
        journal: EdgeJournal,
        clock: Clock,
        vouched: Vouched,
        gate: Gate,
        attest: Attest = Attest(),  # noqa: B008 - it does not change
    ) -> None:
        self._source, self._modules = source, modules
        self._journal, self._clock, self._vouched, self._gate = journal, clock, vouched, gate
        self._attest = attest
        self._sandbox, self._admission, self._environment = sandbox, admission, environment
        self._sessions = Sessions(sandbox)
        self._threads = ThreadPoolExecutor(calls, thread_name_prefix="call")

    def close(self) -> None:
        """Let no further call start, and wait for those that run."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._sessions.close()

    async def end(self, assignment: str) -> None:
        """There will be no further task of this assignment."""
        await asyncio.to_thread(self._sessions.end, assignment)

    async def look_after(self) -> None:
        """End what nobody has used for long, now and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._sessions.any:  # mostly there is none, and a thread is not woken for it
                await asyncio.to_thread(self._sessions.expire)

    async def run(
        self, order: OnboardOrder | OffboardOrder, progress: Progress, left_s: float
    ) -> TaskReport | None:
        """Carry out an order in the time that it has left, in seconds.

        None if its time passed, when nobody waits for a report any more.
        """
        started = time.monotonic()
        task = _Task(order, progress, started + left_s)
        try:
            async with asyncio.timeout(left_s):
                done = await self._run(task)
        except TimeoutError:
            return None
        except OodidaError as refusal:
            done = refused(refusal)
        finally:
            if order.last and order.isolation == "assignment":
                await self.end(order.assignment)
        report = report_of(order, done, started, task.gaps)
        if not self._attest.signs or done.digest is None:
            return report
        # In a thread: a large value takes a while to hash.
        return await asyncio.to_thread(self._attest.with_receipt, order, done, report, task.window)

    def at_once(self, order: OnboardOrder) -> TaskReport | None:
        """Carry out an order that takes less time than to write down that it came.

        None for any other, of which nothing was done.
        """
        if (
            self._source is None
            or order.method == CUSTOM
            or order.isolation != "call"
            or order.budget is not None
            or order.timeout_s < AT_ONCE_S
            or not _quick(order)
        ):
            return None
        started, began = time.monotonic(), self._clock.now().wall
        names = [order.signals] if isinstance(order.signals, str) else list(order.signals)
        try:
            self._vouched.check_order(order)
            self._gate.begin(order)
            samples = self._source.at_once(
                names, first=order.first, count=order.samples, rate_hz=order.rate_hz
            )
            if samples is None:
                return None
            window = samples[order.signals] if isinstance(order.signals, str) else samples
            builtin = self._onboard(order, values.pack(window, INPUT))
            outcome = guarded(builtin, self._admission.rules.profiles.maximum)
            done = Done(outcome, builtin_digest(order.method, VERSION))
        except OodidaError as refusal:
            done = refused(refusal)
        read = window_read(order, began, self._clock.now().wall, None)
        return self._attest.with_receipt(order, done, report_of(order, done, started, None), read)

    async def verify(self, order: VerifyOrder) -> Verdict:
        """Look at a module by the rules, and try it in the sandbox the way it will be called."""
        module = order.module
        self._vouched.check_trial(module)
        admitted = await asyncio.to_thread(self._admission.admit, module)
        if isinstance(admitted, Verdict):
            return admitted
        await self._environment(module)
        call = Call(
            source=module.source,
            environment=module.environment,
            argument=checked(order.example),
            verify=module.side,
            labels={"task": order.id},
        )
        outcome = await self._in_thread(
            lambda cancelled: self._sandbox.run(call, admitted.limits, cancelled)
        )
        return verdict_of(outcome, admitted, guessed=order.example is None)

    async def _run(self, task: _Task) -> Done:
        order, left = task.order, None
        self._vouched.check_order(order)
        if isinstance(order, OffboardOrder):
            argument = order.results
            builtin = self._offboard(order)
        else:
            self._gate.begin(order)
            used = self._journal.usage(order.assignment) if order.budget is not None else None
            if order.budget is not None and used is not None:
                over = order.budget.used_up(used)
                if over is not None:
                    return Done(over_budget(*over))
                if order.budget.cpu_s is not None:
                    left = order.budget.cpu_s - used.cpu_s
            task.progress.at(TaskState.COLLECTING)
            argument = values.pack(await self._window(task, order), INPUT)
            self._gate.still(order)
            builtin = self._onboard(order, argument)
        task.progress.at(TaskState.RUNNING)
        if order.method != CUSTOM:
            digest = builtin_digest(order.method, VERSION)
            return Done(await self._guarded(builtin, order), digest)
        if not self._sandbox.runs_modules:
            return Done(Outcome(kind=Kind.REFUSED, reason=NO_SANDBOX))
        # Only now is the newest generation taken: it may have come while the window filled.
        module = await self._modules.wait(order.user_id, order.module or "", order.generation)
        self._vouched.check(module)
        admitted = await asyncio.to_thread(self._admission.admit, module)
        if isinstance(admitted, Verdict):  # the rules here have changed since it came
            raise ModuleRefused(f"{admitted.place}{admitted.reason}")
        self._gate.module(module, admitted.limits)
        await self._environment(module)
        call = Call(
            source=module.source,
            environment=module.environment,
            argument=checked(argument),
            previous=checked(order.previous),
            labels={"task": order.id},
        )
        cpu_s = lowered(admitted.limits.cpu_s, left)
        outcome = await self._in_thread(
            lambda cancelled: by_contract(
                self._call(call, module, admitted.limits, order, cancelled, cpu_s), admitted
            )
        )
        if left is not None and cpu_s < admitted.limits.cpu_s:
            outcome = of_budget(outcome, left)
        metrics.CALLS.add(outcome.kind.value)
        metrics.CALL_SECONDS.observe(outcome.seconds)
        image = ""
        if self._attest.signs:
            image = await asyncio.to_thread(self._sandbox.image, module.environment)
        return Done(
            outcome, module.digest, module.generation,
            environment=module.environment, image=image, limits=admitted.limits,
        )  # fmt: skip

    async def _guarded(
        self, builtin: Callable[[], Any], order: OnboardOrder | OffboardOrder
    ) -> Outcome:
        """Run a built-in method, in a thread if it may take a while."""
        limits = self._admission.rules.profiles.maximum
        if isinstance(order, OnboardOrder) and _quick(order):
            return guarded(builtin, limits)
        return await asyncio.get_running_loop().run_in_executor(None, guarded, builtin, limits)

    def _call(
        self,
        call: Call,
        module: Module,
        limits: Limits,
        order: OnboardOrder | OffboardOrder,
        cancelled: threading.Event,
        cpu_s: int,
    ) -> Outcome:
        with self._gate.call(order, module, limits, cpu_s) as grant:
            if order.isolation == "call":
                lowered = limits.model_copy(update={"cpu_s": grant.cpu_s})
                outcome = self._sandbox.run(call, lowered, cancelled)
            else:
                labels = {"assignment": order.assignment}
                session = self._sessions.of(order.assignment, module, limits, labels)
                outcome = session.run(call, cancelled, cpu_s=grant.cpu_s)
            outcome = grant.take(outcome)
        if cancelled.is_set() and isinstance(order, OnboardOrder) and order.budget is not None:
            # There is no report of it to be counted with.
            used = Usage(cpu_s=outcome.cpu_s, container_starts=outcome.starts)
            self._journal.charge(order.assignment, used)
        return outcome

    async def _window(self, task: _Task, order: OnboardOrder) -> Any:
        left_s = task.ends_at - time.monotonic()
        window = await collect(self._source, self._journal, self._clock, order, left_s)
        task.gaps = window.gaps
        ended = self._clock.now().wall
        task.window = window_read(order, window.began or ended, ended, window.gaps)
        return window.samples[order.signals] if isinstance(order.signals, str) else window.samples

    def _onboard(self, order: OnboardOrder, window: Tree) -> Callable[[], Any]:
        return lambda: run_onboard(order.method, values.unpack(window), order.params)

    def _offboard(self, order: OffboardOrder) -> Callable[[], Any]:
        def run() -> Any:
            results: Sequence[Any] = values.unpack(checked(order.results))
            previous = values.unpack(checked(order.previous))
            return run_offboard(order.method, results, previous, order.params)

        return run

    async def _in_thread(self, call: Callable[[threading.Event], T]) -> T:
        """Run a call in a thread of its own; a cancelled task ends its container at once."""
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise


def _quick(order: OnboardOrder) -> bool:
    """True if a built-in method over its window takes less than a change of threads."""
    signals = 1 if isinstance(order.signals, str) else len(order.signals)
    return order.samples * signals <= QUICK_SAMPLES
