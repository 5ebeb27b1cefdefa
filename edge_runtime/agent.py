"""The loop: order -> window -> method -> report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edge_runtime import metrics
from edge_runtime.admission import Admission, Rules
from edge_runtime.clock import Clock
from edge_runtime.environments.port import AnyKeeper
from edge_runtime.environments.workshop import Workshop
from edge_runtime.installer import Installer
from edge_runtime.journal import SEEN_DAYS, EdgeJournal, Journal, JournalFull, StoredOrder
from edge_runtime.modules import ModuleStore
from edge_runtime.reporter import Bounds, Reporter
from edge_runtime.reporter import Ended as EndedTask
from edge_runtime.runner import Runner
from edge_runtime.sandbox import AnySandbox
from edge_runtime.signals import Source
from edge_runtime.underway import Progress
from protocol import messages, topics
from protocol.assignment import Attribute
from protocol.errors import BadRequest, LinkError, NameInUse, OodidaError
from protocol.lifecycle import TaskState
from protocol.link import Incoming, Link, Outgoing, Will
from protocol.logs import about
from protocol.messages import (
    MODULE,
    ORDER,
    RECEIPT,
    BuildOrder,
    BuildReport,
    CancelOrder,
    Ended,
    OffboardOrder,
    OnboardOrder,
    Presence,
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
from protocol.topics import Role
from protocol.version import VERSION

log = logging.getLogger(__name__)

#: A vehicle's orders wait at the broker while it is away. A worker's must not: a member of a share
#: that is away with a living session keeps its part of the messages from the other members.
SESSION_EXPIRY_S: Final = {"vehicles": 24 * 3600, "workers": 0}
#: How many orders are remembered here, so that one that comes twice is carried out once; those
#: before are in the journal.
REMEMBERED: Final = 10_000
JOURNAL: Final = "journal.db"
#: How often a journal that cannot be read is tried again, in seconds.
RECALL_S: Final = 5.0
#: How many connections are counted ahead of what the journal holds.
SESSIONS_AHEAD: Final = 16


@dataclass(frozen=True)
class Settings:
    """Who an edge runtime is.

    ``calls``: containers at a time; ``rules``: what holds here; ``session_expiry_s``: for how long
    the broker keeps messages for it while it is away, None for what its role needs.
    """

    url: str
    name: str
    role: Role
    folder: Path
    attributes: dict[str, Attribute] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules.shipped)
    calls: int = 4
    session_expiry_s: int | None = None
    outbox: Bounds = field(default_factory=Bounds)


class Agent:
    """An edge runtime: a vehicle with its source of signals, or a worker without one."""

    def __init__(
        self,
        settings: Settings,
        source: Source | None,
        sandbox: AnySandbox,
        environments: AnyKeeper,
        workshop: Workshop | None = None,
        *,
        journal: Journal | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings, self._source = settings, source
        self._side = Side.ONBOARD if settings.role == "vehicles" else Side.OFFBOARD
        self._modules = ModuleStore(settings.folder / "modules" / self._side.value, self._side)
        admission = Admission(settings.rules)
        self._sandbox, self._environments, self._workshop = sandbox, environments, workshop
        self._clock = clock or Clock.of_this_machine()
        # One of several in a process share a journal, and with it the price of a commit.
        self._own_journal = Journal(settings.folder / JOURNAL) if journal is None else None
        shared = journal if journal is not None else self._own_journal
        assert shared is not None  # noqa: S101 - one of the two is there
        self._journal = EdgeJournal(shared, f"{settings.role}-{settings.name}")
        reports = topics.reports(settings.role, settings.name)
        self._reporter = Reporter(reports, self._journal, settings.outbox)
        self._installer = Installer(
            self._modules, sandbox, admission, self._reporter, environments, self._start
        )
        self._runner = Runner(
            source=source,
            modules=self._modules,
            sandbox=sandbox,
            admission=admission,
            environment=self._installer.prepare,
            calls=settings.calls,
            journal=self._journal,
            clock=self._clock,
        )
        self._modules.missing = lambda user, name: self._start("ask", self._ask(user, name))
        self._installer.on_environment(lambda: self._start("presence", self._announce()))
        self._session = _SessionCounter(self._journal)
        self._stopping = self._recalled = False
        self._running: dict[str, set[asyncio.Task[None]]] = {}
        self._seen: set[tuple[str, int]] = set()
        self._all_seen = False  # the journal knows of no other
        self._link = Link(
            settings.url,
            f"{settings.role}-{settings.name}",
            subscriptions=self._subscriptions(),
            session_expiry_s=(
                SESSION_EXPIRY_S[settings.role]
                if settings.session_expiry_s is None
                else settings.session_expiry_s
            ),
            will=self._will,
            on_up=self._on_up,
            patience_s=None,
        )

    def _subscriptions(self) -> list[str]:
        role, name = self._settings.role, self._settings.name
        common = [topics.orders(role, name), topics.receipts(role, name)]
        if role == "vehicles":
            return [*common, topics.own_modules(name)]
        shared = topics.subscription(topics.offboard_orders(), share="workers")
        return [*common, topics.every_offboard_module(), shared]

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Work until cancelled. ``ready`` is set when the cloud can know of us.

        What was accepted before is gone on with at once, with a network or without. Raises
        NameInUse if another runtime has connected under this name.
        """
        try:
            await self._run(ready)
        except* NameInUse as problems:
            raise problems.exceptions[0] from None

    async def _run(self, ready: asyncio.Event | None) -> None:
        self._ready = ready
        try:
            self._recall()
            async with self._link, asyncio.TaskGroup() as group:
                group.create_task(self._reporter.run(self._link), name="reporter")
                sweeping = self._environments.sweep(self._in_use, self._sandbox.remove)
                group.create_task(sweeping, name="sweep")
                group.create_task(self._runner.look_after(), name="sessions")
                group.create_task(self._look_after_journal(), name="journal")
                try:
                    while True:
                        await self._handle(await self._link.receive())
                finally:
                    await self._stop()
                    await self._say_goodbye()
        finally:
            await self._stop()  # it may be that there never was a connection
            await asyncio.to_thread(self._runner.close)
            if self._own_journal is not None:
                await asyncio.to_thread(self._own_journal.close)

    def _recall(self) -> None:
        """Go on where an earlier life ended. A disk that does not let us is asked again later."""
        try:
            self._reporter.load()
            self._session.recall()
            known = self._journal.seen(REMEMBERED)
            self._resume()
            self._seen |= known
            self._all_seen = len(known) < REMEMBERED
            self._recalled = True
        except JournalFull as problem:
            # Orders are refused until then: it is not known which were carried out.
            log.error("what an earlier life has left cannot be read: %s", problem)  # noqa: TRY400
            self._start("recall", self._recall_later())

    async def _recall_later(self) -> None:
        await asyncio.sleep(RECALL_S)
        self._recall()

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
                self._start(order.assignment, self._task(order, left), _named(order.id))
            else:
                log.info("task %s is dropped: its time is over", stored.task)
                self._start("drop", self._drop(stored.task, stored.attempt))

    async def _drop(self, task: str, attempt: int) -> None:
        """Nobody waits for this task any more."""
        with suppress(JournalFull):
            await self._journal.finish(task, attempt, None)

    async def _look_after_journal(self) -> None:
        while True:
            with suppress(JournalFull):
                await self._journal.forget_old(time.time() - SEEN_DAYS * 86_400)
            await asyncio.sleep(3600)

    async def _stop(self) -> None:
        # Tasks are left as the journal has them: whoever starts next goes on with them.
        self._stopping = True
        running = [task for tasks in self._running.values() for task in tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._reporter.close()
        await self._environments.close()

    async def _say_goodbye(self) -> None:
        with suppress(LinkError, TimeoutError):
            goodbye = Presence(online=False, session=self._session.current)
            async with asyncio.timeout(2):
                await self._publish_presence(goodbye)

    @property
    def connected(self) -> bool:
        """True while there is a connection to the broker."""
        return self._link.connected

    @property
    def unsent(self) -> int:
        """How many reports the cloud has not acknowledged yet."""
        return self._reporter.unsent

    def journal_answers(self) -> bool:
        """True if the journal can be read; raises JournalFull if not."""
        return self._journal.sessions() >= 0

    @property
    def running(self) -> int:
        """How many tasks are being worked on."""
        return sum(map(len, self._running.values()))

    def _in_use(self) -> set[str]:
        """The environments of the modules that are used; those that are not are removed first."""
        for module in self._modules.forget_unused(self._environments.keep_s):
            log.info("removed %s of %s, which nobody used", module.name, module.user_id)
        return self._modules.environments()

    async def _ask(self, user: str, name: str) -> None:
        """A module is wanted that is not here: it may have been removed; the broker has it."""
        topic = (
            topics.modules(self._settings.name, user, name)
            if self._side is Side.ONBOARD
            else topics.offboard_modules(user, name)
        )
        with suppress(LinkError, TimeoutError):  # a new connection brings them all
            await self._link.ask_again(topic)

    # --- presence -----------------------------------------------------------------------------

    def _will(self) -> Will:
        death = Presence(online=False, session=self._session.next())
        payload, _ = messages.encode(death)
        return Will(topics.presence(self._settings.role, self._settings.name), payload)

    def _birth(self) -> Presence:
        settings = self._settings
        return Presence(
            online=True,
            session=self._session.current,
            version=VERSION,
            attributes=settings.attributes,
            signals=dict(self._source.signals) if self._source is not None else {},
            environments=self._sandbox.environments,
            builds=self._workshop is not None,
            sandbox=self._sandbox.runs_modules,
        )

    async def _announce(self) -> None:
        """There is one environment more. Without a connection, the next birth tells it."""
        with suppress(LinkError):
            await self._publish_presence(self._birth())

    async def _on_up(self) -> None:
        metrics.CONNECTIONS.add()
        await self._publish_presence(self._birth())
        self._reporter.again()
        if self._ready is not None:
            self._ready.set()

    async def _publish_presence(self, presence: Presence) -> None:
        payload, content_type = messages.encode(presence)
        topic = topics.presence(self._settings.role, self._settings.name)
        await self._link.publish(Outgoing(topic, payload, content_type, retain=True))

    # --- messages -----------------------------------------------------------------------------

    async def _handle(self, message: Incoming) -> None:
        """One message; it is acknowledged when what has to be kept of it is in the journal."""
        address = topics.parse(message.topic)
        try:
            match address.channel if address is not None else "":
                case "orders":
                    if self._order(message):
                        return  # it is acknowledged when it is in the journal
                case "modules":
                    self._module(message)
                case "receipts":
                    receipt = messages.decode(RECEIPT, message.payload, message.content_type)
                    self._reporter.received(receipt.id)
                case _:
                    pass
        except BadRequest as problem:
            log.warning("dropped a message on %s: %s", message.topic, problem)
            metrics.REFUSED.add(problem.code)
        except Exception:  # one message, whatever it holds or the disk says, must not end the rest
            log.exception("a message on %s could not be handled", message.topic)
            metrics.REFUSED.add("internal")
        message.acknowledge()

    def _order(self, message: Incoming) -> bool:
        """Take an order; True if it is acknowledged later."""
        order = messages.decode(ORDER, message.payload, message.content_type)
        metrics.ORDERS.add(order.kind)
        match order:
            case CancelOrder():
                for task in self._running.get(order.assignment, ()):
                    if not order.tasks or task.get_name() in map(_named, order.tasks):
                        task.cancel()
                self._start("end", self._end(order, message))
                return True
            case OnboardOrder() | OffboardOrder():
                if isinstance(order, OnboardOrder) != (self._side is Side.ONBOARD):
                    log.warning("dropped an %s order: this is no place for it", order.kind)
                elif self._is_new(order.id, order.attempt):
                    if isinstance(order, OnboardOrder):
                        if self._at_once(order, message):
                            return True
                        accepting = self._accept(order, message)
                        task = self._start(order.assignment, accepting, _named(order.id))
                        # Also of one that was cancelled before its first step.
                        task.add_done_callback(lambda _: self._over(message))
                        return True
                    # A worker's task has a lease: if we go, another worker does it.
                    self._start(order.assignment, self._task(order, order.timeout_s))
            case VerifyOrder():
                if self._is_new(order.id, 1):
                    self._start(order.id, self._verify(order))
            case WheelOrder() if self._workshop is not None:
                self._workshop.take(order)
            case BuildOrder() if self._workshop is not None:
                self._start(order.id, self._workshop.build(order, self._send))
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
        self._start("report", self._reporter.report(report.id, report))

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
                refusing = self._start(order.assignment, self._refuse(order, problem))
                refusing.add_done_callback(lambda _: self._over(message))

        self._measure(report)
        payload, content_type, _ = messages.encode_counted(report)
        self._reporter.carried_out(
            order.id, order.attempt, wall, report.id, payload, content_type, kept
        )
        return True

    def _over(self, message: Incoming) -> None:
        """An order was refused, or its assignment has ended, which the journal hears as well."""
        if not self._stopping:  # else it comes again, for whoever starts next
            message.acknowledge()

    def _start(
        self, key: str, work: Coroutine[Any, Any, None], name: str = ""
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name or f"task-{key}")
        self._running.setdefault(key, set()).add(task)
        task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        tasks = self._running.get(key, set())
        tasks.discard(task)
        if not tasks:
            self._running.pop(key, None)

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
        self._measure(report)
        if report is None:
            await self._drop(order.id, order.attempt)
            return
        payload, content_type, usage = messages.encode_counted(report)
        counted = isinstance(order, OnboardOrder) and order.budget is not None
        done = EndedTask(order.id, order.attempt, order.assignment, usage if counted else None)
        await self._reporter.ended(done, report.id, payload, content_type)

    @staticmethod
    def _measure(report: TaskReport | None) -> None:
        metrics.TASKS.add((report.state if report else TaskState.TIMED_OUT).value)
        if report is not None:
            metrics.TASK_SECONDS.observe(report.seconds)

    async def _tell(self, report: StateReport) -> None:
        """Best effort: a state that is lost does no harm."""
        payload, content_type = messages.encode(report)
        topic = topics.reports(self._settings.role, self._settings.name)
        with suppress(LinkError):
            await self._link.publish(Outgoing(topic, payload, content_type))

    async def _carried_out(
        self, order: OnboardOrder | OffboardOrder, progress: Progress, left_s: float
    ) -> TaskReport | None:
        try:
            return await self._runner.run(order, progress, left_s)
        except asyncio.CancelledError:
            if self._stopping:
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

    def _module(self, message: Incoming) -> None:
        if not message.payload:
            return  # a cleared retained message
        address = topics.parse(message.topic)
        sent = messages.decode(MODULE, message.payload, message.content_type)
        try:
            module = sent.module()
        except ValidationError as problem:
            raise BadRequest(f"the module does not fit its digest: {problem}") from None
        if address is None or address.rest != (module.user_id, module.name):
            raise BadRequest("the module is not the one of its topic")
        if module.side is not self._side:
            raise BadRequest(f"an {module.side.value} module has no place here")
        self._installer.take(module)


def _named(task: str) -> str:
    """The name of what carries out an order."""
    return f"order-{task}"


class _SessionCounter:
    """Counts connections over restarts, so that the death of an old session is told apart.

    Numbers are reserved ahead in the journal: one that was used is never used again, though nobody
    waits for the disk. Where the journal was lost, or cannot be read, the clock takes over.
    """

    def __init__(self, journal: EdgeJournal) -> None:
        self._journal = journal
        self.current = self._reserved = 0

    def recall(self) -> None:
        """Begin after what an earlier life has reserved. Raises JournalFull."""
        self.current = max(self.current, self._journal.sessions())

    def next(self) -> int:
        """The number of the next connection."""
        # A number that is lower than one the cloud has seen would make every birth look like the
        # past; this one is not lower than that of any life before whose journal was lost.
        first = self._reserved == 0
        self.current = max(self.current + 1, int(time.time()) if first else 0)
        if self.current >= self._reserved:
            self._reserved = self.current + SESSIONS_AHEAD
            self._journal.reserve_sessions(self._reserved)
        return self.current
