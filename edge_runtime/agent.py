"""The loop: order -> window -> method -> report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from edge_runtime import metrics
from edge_runtime.admission import Admission, Rules
from edge_runtime.environments.port import AnyKeeper
from edge_runtime.environments.workshop import Workshop
from edge_runtime.installer import Installer
from edge_runtime.modules import ModuleStore
from edge_runtime.reporter import Reporter
from edge_runtime.runner import Runner
from edge_runtime.sandbox import AnySandbox
from edge_runtime.signals import Source
from protocol import messages, topics
from protocol.assignment import Attribute
from protocol.errors import BadRequest, LinkError, OodidaError
from protocol.lifecycle import TaskState
from protocol.link import Incoming, Link, Outgoing, Will
from protocol.logs import about
from protocol.messages import (
    MODULE,
    ORDER,
    RECEIPT,
    BuildOrder,
    CancelOrder,
    Ended,
    OffboardOrder,
    OnboardOrder,
    Presence,
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
#: How many orders are remembered, so that one that comes twice is carried out once.
REMEMBERED: Final = 10_000


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


class Agent:
    """An edge runtime: a vehicle with its source of signals, or a worker without one."""

    def __init__(
        self,
        settings: Settings,
        source: Source | None,
        sandbox: AnySandbox,
        environments: AnyKeeper,
        workshop: Workshop | None = None,
    ) -> None:
        self._settings, self._source = settings, source
        self._side = Side.ONBOARD if settings.role == "vehicles" else Side.OFFBOARD
        self._modules = ModuleStore(settings.folder / "modules" / self._side.value, self._side)
        admission = Admission(settings.rules)
        self._sandbox, self._environments, self._workshop = sandbox, environments, workshop
        self._reporter = Reporter(topics.reports(settings.role, settings.name))
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
        )
        self._modules.missing = lambda user, name: self._start("ask", self._ask(user, name))
        self._installer.on_environment(lambda: self._start("presence", self._announce()))
        self._session = _SessionCounter(settings.folder / "session")
        self._stopping = False
        self._running: dict[str, set[asyncio.Task[None]]] = {}
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
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
        """Work until cancelled. ``ready`` is set when the cloud can know of us."""
        self._ready = ready
        try:
            async with self._link, asyncio.TaskGroup() as group:
                group.create_task(self._reporter.run(self._link), name="reporter")
                sweeping = self._environments.sweep(self._in_use, self._sandbox.remove)
                group.create_task(sweeping, name="sweep")
                group.create_task(self._runner.look_after(), name="sessions")
                try:
                    while True:
                        message = await self._link.receive()
                        self._handle(message)
                        message.acknowledge()
                finally:
                    await self._stop()
        finally:
            await asyncio.to_thread(self._runner.close)

    async def _stop(self) -> None:
        self._stopping = True
        running = [task for tasks in self._running.values() for task in tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._environments.close()
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

    def _handle(self, message: Incoming) -> None:
        address = topics.parse(message.topic)
        try:
            match address.channel if address is not None else "":
                case "orders":
                    self._order(message)
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

    def _order(self, message: Incoming) -> None:
        order = messages.decode(ORDER, message.payload, message.content_type)
        metrics.ORDERS.add(order.kind)
        match order:
            case CancelOrder():
                for task in self._running.get(order.assignment, ()):
                    task.cancel()
                self._start("end", self._runner.end(order.assignment))
            case OnboardOrder() | OffboardOrder():
                if isinstance(order, OnboardOrder) != (self._side is Side.ONBOARD):
                    log.warning("dropped an %s order: this is no place for it", order.kind)
                elif self._is_new(order.id, order.attempt):
                    self._start(order.assignment, self._task(order))
            case VerifyOrder():
                if self._is_new(order.id, 1):
                    self._start(order.id, self._verify(order))
            case WheelOrder() if self._workshop is not None:
                self._workshop.take(order)
            case BuildOrder() if self._workshop is not None:
                building = self._workshop.build(order, lambda r: self._reporter.report(r.id, r))
                self._start(order.id, building)
            case _:
                log.warning("dropped a %s order: no environments are made here", order.kind)

    def _is_new(self, id_: str, attempt: int) -> bool:
        """False for an order that came before: its report is sent until it is received."""
        if (id_, attempt) in self._seen:
            return False
        self._seen[id_, attempt] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def _start(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"task-{key}")
        self._running.setdefault(key, set()).add(task)
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        tasks = self._running.get(key, set())
        tasks.discard(task)
        if not tasks:
            self._running.pop(key, None)

    async def _task(self, order: OnboardOrder | OffboardOrder) -> None:
        with about(
            assignment=order.assignment,
            iteration=order.iteration,
            task=order.id,
            attempt=order.attempt,
        ):
            report = await self._carried_out(order)
        metrics.TASKS.add((report.state if report else TaskState.TIMED_OUT).value)
        if report is not None:
            metrics.TASK_SECONDS.observe(report.seconds)
            self._reporter.report(report.id, report)

    async def _carried_out(self, order: OnboardOrder | OffboardOrder) -> TaskReport | None:
        try:
            return await self._runner.run(order)
        except asyncio.CancelledError:
            why = "the runtime was stopped" if self._stopping else "the task was cancelled"
            return self._unfinished(order, TaskState.CANCELLED, Kind.REFUSED, why)
        except Exception as bug:  # one task must not take the others along
            log.exception("task %s of %s could not be run", order.id, order.assignment)
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
        self._reporter.report(report.id, report)

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


class _SessionCounter:
    """Counts connections over restarts, so that the death of an old session is told apart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.current = int(path.read_text())
        except (OSError, ValueError):
            self.current = 0

    def next(self) -> int:
        # The clock takes over where the file was lost: a number that is lower than one the cloud
        # has seen would make every birth look like the past.
        self.current = max(self.current + 1, int(time.time()))
        new = self._path.with_suffix(".new")
        new.write_text(str(self.current))
        new.replace(self._path)
        return self.current
