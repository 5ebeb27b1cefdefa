"""Orders: each accepted once, carried out, and answered by a report, over a power cut too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from edge_runtime import metrics
from edge_runtime.clock import Clock
from edge_runtime.done import withheld
from edge_runtime.environments.workshop import Workshop
from edge_runtime.journal import EdgeJournal, JournalFull, StoredOrder
from edge_runtime.outbox import Ended as EndedTask
from edge_runtime.policy import Gate
from edge_runtime.reporter import Reporter
from edge_runtime.runner import Runner
from edge_runtime.underway import Progress
from edge_runtime.work import Work
from protocol import messages
from protocol.account import Usage
from protocol.errors import BadRequest, OodidaError
from protocol.lifecycle import TaskState
from protocol.link import Incoming
from protocol.logs import about
from protocol.messages import (
    ORDER,
    BuildOrder,
    BuildReport,
    CancelOrder,
    Ended,
    OffboardOrder,
    OnboardOrder,
    StateReport,
    TaskReport,
    Verdict,
    VerifyOrder,
    VerifyReport,
    WheelOrder,
    new_id,
)
from protocol.module import Side
from protocol.outcome import Kind, Outcome

log = logging.getLogger(__name__)

#: How many orders are remembered here, so that one that comes twice is carried out once; those
#: before are in the journal.
REMEMBERED: Final = 10_000


class Orders:
    """What is ordered from one vehicle or worker.

    ``tell`` says how far a task is; what it says may be lost.
    """

    def __init__(
        self,
        side: Side,
        runner: Runner,
        reporter: Reporter,
        journal: EdgeJournal,
        clock: Clock,
        workshop: Workshop | None,
        work: Work,
        tell: Callable[[StateReport], Awaitable[None]],
        *,
        gate: Gate,
    ) -> None:
        self._side, self._runner, self._reporter = side, runner, reporter
        self._journal, self._clock, self._workshop = journal, clock, workshop
        self._work, self._tell, self._gate = work, tell, gate
        self._seen: set[tuple[str, int]] = set()
        self._all_seen = False  # the journal knows of no other
        self._recalled = False

    def recall(self) -> None:
        """Go on with what an earlier life has left. Raises JournalFull.

        Orders are refused until then: it is not known which were carried out.
        """
        known = self._journal.seen(REMEMBERED)
        self._resume()
        self._seen |= known
        self._all_seen = len(known) < REMEMBERED
        self._recalled = True

    def _resume(self) -> None:
        """Go on with the orders that were accepted, whatever ended us before they were done."""
        for stored in self._journal.orders():
            if (stored.task, stored.attempt) in self._seen:
                continue
            self._seen.add((stored.task, stored.attempt))
            try:
                order = messages.decode(ORDER, stored.payload, stored.content_type)
            except BadRequest:  # written by another release
                order = None
            left = 0.0
            if isinstance(order, OnboardOrder):
                left = self._clock.left(stored.stamp, order.timeout_s)
            if isinstance(order, OnboardOrder) and left > 0:
                log.info("task %s is gone on with: %.1f s are left", order.id, left)
                self._work.start(order.assignment, self._task(order, left), _named(order.id))
            else:
                log.info("task %s is dropped: its time is over", stored.task)
                self._work.start("drop", self._drop(stored.task, stored.attempt))

    async def _drop(self, task: str, attempt: int) -> None:
        """Nobody waits for this task any more."""
        with suppress(JournalFull):
            await self._journal.finish(task, attempt, None)

    def take(self, message: Incoming) -> bool:
        """Take an order; True if it is acknowledged later. Raises BadRequest."""
        order = messages.decode(ORDER, message.payload, message.content_type)
        metrics.ORDERS.add(order.kind)
        match order:
            case CancelOrder():
                for task in self._work.of(order.assignment):
                    if not order.tasks or task.get_name() in map(_named, order.tasks):
                        task.cancel()
                self._work.start("end", self._end(order, message))
                return True
            case OnboardOrder() | OffboardOrder():
                if isinstance(order, OnboardOrder) != (self._side is Side.ONBOARD):
                    log.warning("dropped an %s order: this is no place for it", order.kind)
                elif self._is_new(order.id, order.attempt):
                    if isinstance(order, OnboardOrder):
                        if self._at_once(order, message):
                            return True
                        accepting = self._accept(order, message)
                        task = self._work.start(order.assignment, accepting, _named(order.id))
                        # Also of one that was cancelled before its first step.
                        task.add_done_callback(lambda _: self._over(message))
                        return True
                    # A worker's task has a lease: if we go, another worker does it.
                    self._work.start(order.assignment, self._task(order, order.timeout_s))
            case VerifyOrder():
                if self._is_new(order.id, 1):
                    self._work.start(order.id, self._verify(order))
            case WheelOrder() if self._workshop is not None:
                self._workshop.take(order)
            case BuildOrder() if self._workshop is not None:
                self._work.start(order.id, self._workshop.build(order, self._send))
            case _:
                log.warning("dropped a %s order: no environments are made here", order.kind)
        return False

    def _is_new(self, id_: str, attempt: int) -> bool:
        """False for an order that came before: its report is sent until it is received."""
        with suppress(JournalFull):  # then it cannot be accepted either, and is refused
            if (id_, attempt) in self._seen:
                return False
            if not self._all_seen and self._journal.has_seen(id_, attempt):
                return False
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()  # the journal knows those that it could take
            self._all_seen = False
        self._seen.add((id_, attempt))
        return True

    def _send(self, report: BuildReport) -> None:
        self._work.start("report", self._reporter.report(report.id, report))

    async def _end(self, order: CancelOrder, message: Incoming) -> None:
        """These tasks are not gone on with; without names, there is no further one."""
        try:
            await self._journal.cancel(order.assignment, order.tasks)
        except JournalFull as problem:
            log.warning("the end of %s is not in the journal: %s", order.assignment, problem)
        message.acknowledge()
        await self._runner.end(order.assignment)

    async def _keep(self, order: StoredOrder) -> None:
        if not self._recalled:
            raise JournalFull
        await self._journal.accept(order)

    async def _accept(self, order: OnboardOrder, message: Incoming) -> None:
        """Keep an order, tell the broker, and carry it out; without room for it, refuse it."""
        stored = StoredOrder(
            order.id, order.attempt, order.assignment, message.payload, message.content_type,
            self._clock.now(),
        )  # fmt: skip
        try:
            await self._keep(stored)
        except JournalFull as problem:
            await self._refuse(order, problem)
        else:
            message.acknowledge()
            await self._task(order, self._clock.left(stored.stamp, order.timeout_s))

    async def _refuse(self, order: OnboardOrder, problem: JournalFull) -> None:
        log.warning("task %s is refused: %s", order.id, problem)
        reason = f"the vehicle cannot keep the order: {problem.message}"
        report = self._unfinished(order, TaskState.REJECTED, Kind.REFUSED, reason[:2000])
        await self._reporter.report(report.id, report)

    def _at_once(self, order: OnboardOrder, message: Incoming) -> bool:
        """Carry out an order before it is kept, if that takes no time: one commit for both.

        False if it is not such an order. The broker and the cloud hear of it after the commit; a
        power cut before it finds the order at the broker, as if it had just come.
        """
        if not self._recalled:
            return False
        wall = self._clock.now().wall
        try:
            report = self._runner.at_once(order)
        except Exception as bug:
            log.exception("task %s of %s could not be run", order.id, order.assignment)
            report = self._failed(order, bug)
        if report is None:
            return False

        def kept(problem: JournalFull | None) -> None:
            if problem is None:
                message.acknowledge()
            else:
                refusing = self._work.start(order.assignment, self._refuse(order, problem))
                refusing.add_done_callback(lambda _: self._over(message))

        report, payload, content_type, _ = self._answer(order, report)
        self._measure(report)
        self._reporter.carried_out(
            order.id, order.attempt, wall, report.id, payload, content_type, kept
        )
        return True

    def _over(self, message: Incoming) -> None:
        """An order was refused, or its assignment has ended, which the journal hears as well."""
        if not self._work.stopping:  # else it comes again, for whoever starts next
            message.acknowledge()

    async def _task(self, order: OnboardOrder | OffboardOrder, left_s: float) -> None:
        with about(
            assignment=order.assignment,
            iteration=order.iteration,
            task=order.id,
            attempt=order.attempt,
        ):
            worker = self._side is Side.OFFBOARD
            telling = Progress(order.id, order.attempt, self._tell, heartbeat=worker)
            async with telling as progress:
                report = await self._carried_out(order, progress, left_s)
        if report is None:
            self._measure(report)
            await self._drop(order.id, order.attempt)
            return
        report, payload, content_type, usage = self._answer(order, report)
        self._measure(report)
        counted = isinstance(order, OnboardOrder) and order.budget is not None
        done = EndedTask(order.id, order.attempt, order.assignment, usage if counted else None)
        await self._reporter.ended(done, report.id, payload, content_type)

    def _answer(
        self, order: OnboardOrder | OffboardOrder, report: TaskReport
    ) -> tuple[TaskReport, bytes, str, Usage]:
        """A report as it goes out, if the policy lets it; and what it says was used."""
        payload, content_type, usage = messages.encode_counted(report)
        if isinstance(order, OnboardOrder):
            refusal = self._gate.answer(order, report, usage.bytes_sent)
            if refusal is not None:
                report = withheld(report, refusal)
                payload, content_type, usage = messages.encode_counted(report)
                self._gate.answer(order, report, usage.bytes_sent)
        return report, payload, content_type, usage

    @staticmethod
    def _measure(report: TaskReport | None) -> None:
        metrics.TASKS.add((report.state if report else TaskState.TIMED_OUT).value)
        if report is not None:
            metrics.TASK_SECONDS.observe(report.seconds)

    async def _carried_out(
        self, order: OnboardOrder | OffboardOrder, progress: Progress, left_s: float
    ) -> TaskReport | None:
        try:
            return await self._runner.run(order, progress, left_s)
        except asyncio.CancelledError:
            if self._work.stopping:
                raise  # the order stays in the journal; a worker's lease ends
            why = "the task was cancelled"
            return self._unfinished(order, TaskState.CANCELLED, Kind.REFUSED, why)
        except Exception as bug:  # one task must not take the others along
            log.exception("task %s of %s could not be run", order.id, order.assignment)
            return self._failed(order, bug)

    def _failed(self, order: OnboardOrder | OffboardOrder, bug: Exception) -> TaskReport:
        reason = f"the runtime failed: {type(bug).__name__}"
        return self._unfinished(order, TaskState.FAILED, Kind.ENGINE_FAILURE, reason)

    def _unfinished(
        self, order: OnboardOrder | OffboardOrder, state: Ended, kind: Kind, reason: str
    ) -> TaskReport:
        return TaskReport(
            id=new_id(),
            task=order.id,
            attempt=order.attempt,
            state=state,
            outcome=Outcome(kind=kind, reason=reason),
        )

    async def _verify(self, order: VerifyOrder) -> None:
        try:
            verdict = await self._runner.verify(order)
        except OodidaError as problem:
            verdict = Verdict(ok=False, code=problem.code, reason=problem.message[:4000])
        except Exception as bug:
            log.exception("module %s could not be tried", order.module.name)
            reason = f"the worker failed on it: {type(bug).__name__}"
            verdict = Verdict(ok=False, code="engine_failure", reason=reason)
        report = VerifyReport(id=new_id(), order=order.id, verdict=verdict)
        await self._reporter.report(report.id, report)


def _named(task: str) -> str:
    """The name of what carries out an order."""
    return f"order-{task}"
