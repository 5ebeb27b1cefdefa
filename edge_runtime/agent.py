"""The loop: order -> window -> method -> report."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

from pydantic import ValidationError

from edge_runtime import metrics
from edge_runtime.admission import Admission
from edge_runtime.attest import Attest
from edge_runtime.clock import Clock
from edge_runtime.environments.port import AnyKeeper
from edge_runtime.environments.workshop import Workshop
from edge_runtime.installer import Installer
from edge_runtime.journal import SEEN_DAYS, EdgeJournal, Journal, JournalFull
from edge_runtime.modules import ModuleStore
from edge_runtime.orders import Orders
from edge_runtime.policy import DayAccount, Gate
from edge_runtime.reporter import Reporter
from edge_runtime.revoked import Revoked
from edge_runtime.runner import Runner
from edge_runtime.sandbox import AnySandbox
from edge_runtime.session_counter import SessionCounter
from edge_runtime.settings import Settings
from edge_runtime.signals import Source
from edge_runtime.vouched import Vouched
from edge_runtime.work import Work
from protocol import endorsement, identity, messages, topics
from protocol.endorsement import OFFBOARD
from protocol.errors import (
    POLICY_CODES,
    BadRequest,
    BadSignature,
    LinkError,
    NameInUse,
    WrongSender,
)
from protocol.link import Incoming, Link, Outgoing, Will
from protocol.link.enrolment import keep_renewed
from protocol.messages import (
    MODULE,
    RECEIPT,
    Presence,
    StateReport,
)
from protocol.module import Side
from protocol.signing import Signer, Trust
from protocol.version import VERSION

log = logging.getLogger(__name__)

JOURNAL: Final = "journal.db"
#: How often a journal that cannot be read is tried again, in seconds.
RECALL_S: Final = 5.0


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
        self._settings, self._source, self._work = settings, source, Work()
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
        units = source.signals if source is not None else {}
        self._modules.forget_refusals(POLICY_CODES)  # the policy may be another by now
        account = DayAccount(self._journal, self._clock.wall)
        policy = settings.policy
        gate = Gate(lambda: policy.now, units, account, self._clock.wall)
        to = OFFBOARD if settings.role == "workers" else endorsement.vehicle(settings.name)
        # One for all that is looked at: what was taken back holds for messages and for modules.
        trust = None if settings.identity is None else Trust.load(settings.identity / "ca.pem")
        vouched = Vouched(trust, to)
        self._revoked = None if trust is None else Revoked(trust, settings.folder)
        self._installer = Installer(
            self._modules, sandbox, admission, self._reporter, environments, self._work.start,
            vouched, gate,
        )  # fmt: skip
        self._runner = Runner(
            source=source,
            modules=self._modules,
            sandbox=sandbox,
            admission=admission,
            environment=self._installer.prepare,
            calls=settings.calls,
            journal=self._journal,
            clock=self._clock,
            vouched=vouched,
            gate=gate,
            attest=Attest(Signer(settings.identity) if settings.identity else None),
        )
        self._modules.missing = lambda user, name: self._work.start("ask", self._ask(user, name))
        self._installer.on_environment(lambda: self._work.start("presence", self._announce()))
        self._orders = Orders(
            self._side, self._runner, self._reporter, self._journal, self._clock, workshop,
            self._work, self._tell, gate=gate,
        )  # fmt: skip
        self._session = SessionCounter(self._journal)
        self._link = Link(
            settings.url,
            identity.of(settings.role[:-1], settings.name).client_id(),
            identity=settings.identity,
            trust=trust,
            subscriptions=self._subscriptions(),
            session_expiry_s=settings.kept_s,
            will=self._will,
            on_up=self._on_up,
            patience_s=None,
        )

    def _subscriptions(self) -> list[str]:
        role, name = self._settings.role, self._settings.name
        common = [topics.orders(role, name), topics.receipts(role, name)]
        if self._revoked is not None:
            common.insert(0, topics.revoked())
        if role == "vehicles":
            return [*common, topics.own_modules(name)]
        shared = topics.subscription(topics.offboard_orders(), share=topics.WORKERS)
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
                group.create_task(keep_renewed(self._settings.identity), name="certificate")
                watching = self._settings.policy.watch(self._policy_changed)
                group.create_task(watching, name="policy")
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
            self._orders.recall()
        except JournalFull as problem:
            log.error("what an earlier life has left cannot be read: %s", problem)  # noqa: TRY400
            self._work.start("recall", self._recall_later())

    async def _recall_later(self) -> None:
        await asyncio.sleep(RECALL_S)
        self._recall()

    async def _stop(self) -> None:
        # Tasks are left as the journal has them: whoever starts next goes on with them.
        await self._work.stop()
        await self._reporter.close()
        await self._environments.close()

    async def _tell(self, report: StateReport) -> None:
        """Best effort: a state that is lost does no harm."""
        payload, content_type = messages.encode(report)
        topic = topics.reports(self._settings.role, self._settings.name)
        with suppress(LinkError):
            await self._link.publish(Outgoing(topic, payload, content_type))

    async def _look_after_journal(self) -> None:
        while True:
            with suppress(JournalFull):
                await self._journal.forget_old(time.time() - SEEN_DAYS * 86_400)
            await asyncio.sleep(3600)

    async def _say_goodbye(self) -> None:
        said = [self._presence(Presence(online=False, session=self._session.current))]
        if self._settings.passing:
            # On the same connection: it clears nobody's presence who has the name after us.
            said.append(said[0]._replace(payload=b""))
        try:
            async with asyncio.timeout(2):
                await self._link.publish_many(said)
        except TimeoutError:  # let the broker tell the last will in our place
            self._link.die()

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
        return len(self._work)

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

    def _policy_changed(self) -> None:
        """What was refused may be allowed now, and what is here not any more."""
        self._work.start("policy", self._installer.judge_again())
        for user, name in self._modules.forget_refusals(POLICY_CODES):
            self._work.start("ask", self._ask(user, name))

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
            await self._link.publish(self._presence(self._birth()))

    async def _on_up(self) -> None:
        metrics.CONNECTIONS.add()
        await self._link.publish(self._presence(self._birth()))
        self._reporter.again()
        if self._ready is not None:
            self._ready.set()

    def _presence(self, presence: Presence) -> Outgoing:
        payload, content_type = messages.encode(presence)
        topic = topics.presence(self._settings.role, self._settings.name)
        return Outgoing(topic, payload, content_type, retain=True)

    # --- messages -----------------------------------------------------------------------------

    async def _handle(self, message: Incoming) -> None:
        """One message; it is acknowledged when what has to be kept of it is in the journal."""
        address = topics.parse(message.topic)
        try:
            self._link.check(message)
            match address.channel if address is not None else "":
                case "orders":
                    if self._orders.take(message):
                        return  # it is acknowledged when it is in the journal
                case "modules":
                    self._module(message)
                case "receipts":
                    receipt = messages.decode(RECEIPT, message.payload, message.content_type)
                    self._reporter.received(receipt.id)
                case "revoked" if self._revoked is not None:
                    self._revoked.take(message.payload)
                case _:
                    pass
        except (BadRequest, BadSignature) as problem:
            log.warning("dropped a message on %s: %s", message.topic, problem)
            metrics.REFUSED.add(problem.code)
        except Exception:  # one message, whatever it holds or the disk says, must not end the rest
            log.exception("a message on %s could not be handled", message.topic)
            metrics.REFUSED.add("internal")
        message.acknowledge()

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
            raise WrongSender("the module is not the one of its topic")
        if module.side is not self._side:
            raise BadRequest(f"an {module.side.value} module has no place here")
        self._installer.take(module)
