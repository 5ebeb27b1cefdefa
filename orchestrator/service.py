"""The loop: messages -> one transaction -> outgoing messages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from orchestrator import answers, assignments, deployments, metrics, requests, shipped
from orchestrator.store import Database, queries
from orchestrator.store.tables import AssignmentRow, EdgeRow
from orchestrator.turn import Answer, Turn, dump, error_reply
from protocol import messages, topics
from protocol.errors import BadRequest, NotConnected, OodidaError
from protocol.link import WIDE, Incoming, Link, Outgoing
from protocol.logs import about
from protocol.messages import (
    PRESENCE,
    REPORT,
    REQUEST,
    BuildReport,
    ModuleReport,
    Receipt,
    Reply,
    StateReport,
    TaskReport,
    VerifyReport,
)
from protocol.module import Side

log = logging.getLogger(__name__)

SHARE: Final = "orchestrators"
#: Messages handled in one transaction: the price of a commit is paid once for all of them.
BATCH: Final = 500
_SIDES: Final = {"vehicles": Side.ONBOARD, "workers": Side.OFFBOARD}
#: Largest presence in bytes: some hundred signals take ten thousand.
MAX_PRESENCE: Final = 256 * 1024
#: How long after a connection a vehicle may be silent before it counts as gone, in seconds: more
#: than the longest pause that a link makes before it connects again.
ROLL_CALL_S: Final = 20.0


@dataclass
class RollCall:
    """Who has shown a presence since the connection was made, and until when that may be done."""

    ends_at: float
    present: set[tuple[str, str]] = field(default_factory=set)


class Service:
    """An orchestrator on one broker and one store."""

    def __init__(self, url: str, database: Database, name: str) -> None:
        self._database = database
        self._link = Link(
            url,
            f"orchestrator-{name}",
            subscriptions=[
                # Presence is retained, and members of a share get no retained messages.
                topics.all_of("vehicles", "presence"),
                topics.all_of("workers", "presence"),
                topics.all_of("vehicles", "reports", share=SHARE),
                topics.all_of("workers", "reports", share=SHARE),
                topics.all_of("analysts", "requests", share=SHARE),
            ],
            patience_s=None,
            on_up=self._on_up,
            publish_window=WIDE,
            receive_window=WIDE,
        )
        self._roll: RollCall | None = None
        self._outbox: deque[tuple[int, Outgoing]] = deque()
        self._sent: list[int] = []
        self._outbox_filled = asyncio.Event()

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled. ``ready`` is set when the first connection stands."""
        with self._database.transaction() as session:
            self._outbox.extend(queries.outgoing(session))
        self._outbox_filled.set()
        async with self._link, asyncio.TaskGroup() as group:
            if ready is not None:
                ready.set()
            group.create_task(self._publish(), name="outbox")
            await self._serve()

    @property
    def connected(self) -> bool:
        """True while there is a connection to the broker."""
        return self._link.connected

    async def _on_up(self) -> None:
        # What the store says of who is online dates from before this connection.
        self._roll = RollCall(time.monotonic() + ROLL_CALL_S)

    async def _serve(self) -> None:
        next_deadline: float | None = 0.0  # there may be deadlines from before
        while True:
            patience = None if next_deadline is None else max(0.0, next_deadline - time.time())
            if self._roll is not None:
                left = max(0.0, self._roll.ends_at - time.monotonic())
                patience = left if patience is None else min(patience, left)
            batch = await self._batch(patience)
            began = time.perf_counter()
            next_deadline = self._turn(batch)
            metrics.TURN_SECONDS.observe(time.perf_counter() - began)
            metrics.TURN_MESSAGES.observe(len(batch))
            for message in batch:
                message.acknowledge()

    async def _batch(self, patience: float | None) -> list[Incoming]:
        try:
            async with asyncio.timeout(patience):
                batch = [await self._link.receive()]
        except TimeoutError:
            return []
        while len(batch) < BATCH and (message := self._link.receive_nowait()) is not None:
            batch.append(message)
        return batch

    def _turn(self, batch: list[Incoming]) -> float | None:
        """Handle a batch in one transaction; the time of the next deadline."""
        sent, self._sent = self._sent, []
        with self._database.transaction() as session:
            turn = Turn(session, time.time())
            queries.forget_outgoing(session, sent)
            for message in batch:
                self._handle(turn, message)
            _take(turn)
            self._call_the_roll(turn)
            for id_ in sorted(turn.progressed):
                _guarded(turn, id_, assignments.progressed)
            for due in queries.deadlines(session, turn.now):
                if due.assignment is not None:
                    _guarded(turn, due.assignment, assignments.overdue)
                if due.deployment is not None:
                    deployments.overdue(turn, due.deployment)
                if due.environment is not None:
                    deployments.environment_overdue(turn, due.environment)
            session.flush()
            next_deadline = queries.next_deadline(session)
            ids = queries.add_outgoing(session, turn.outgoing)
        self._outbox.extend(zip(ids, turn.outgoing, strict=True))
        if ids:
            self._outbox_filled.set()
        return next_deadline

    def _handle(self, turn: Turn, message: Incoming) -> None:
        """One message, inside a savepoint: what one breaks does not touch the others."""
        try:
            if not _set_aside(turn, message):
                with turn.savepoint():
                    self._dispatch(turn, message)
        except OodidaError as error:
            said = (message.topic, error.code, error)
            log.info("refused a message on %s: %s: %s", *said, extra=_sender(message.topic))
            metrics.REFUSED.add(error.code)
            self._reply(turn, message, Reply(error=error_reply(error)))
        except Exception:  # a bug must cost one message, not the service
            failed = "a message on %s could not be handled"
            log.exception(failed, message.topic, extra=_sender(message.topic))
            metrics.REFUSED.add("internal")
            failure = OodidaError("the orchestrator failed on this request; its log says why")
            self._reply(turn, message, Reply(error=error_reply(failure)))

    def _call_the_roll(self, turn: Turn) -> None:
        """Some time after a connection: who has not shown a presence since is not there."""
        if self._roll is None or time.monotonic() < self._roll.ends_at:
            return
        roll, self._roll = self._roll, None
        for role in ("vehicles", "workers"):
            for row in queries.edges(turn.session, role):
                if row.online and (role, row.name) not in roll.present:
                    row.online = False
                    turn.session.flush()
                    _gone(turn, role, row.name)

    def _dispatch(self, turn: Turn, message: Incoming) -> None:
        address = topics.parse(message.topic)
        if address is None:
            return
        metrics.MESSAGES.add(address.channel)
        match address.family, address.channel:
            case ("vehicles" | "workers") as role, "presence":
                if message.payload:  # an empty one clears a retained presence
                    _presence(turn, role, address.name, message)
                    if self._roll is not None:
                        self._roll.present.add((role, address.name))
            case "vehicles" | "workers", "reports":
                _report(turn, address, message)
            case "analysts", "requests":
                request = messages.decode(REQUEST, message.payload, message.content_type)
                if request.user_id != address.name:
                    raise BadRequest("the request's user_id is not the one of its topic")
                self._reply(turn, message, requests.answer(turn, request))
                metrics.REQUESTS.add(request.mode)

    def _reply(self, turn: Turn, message: Incoming, reply: Reply) -> None:
        asker = topics.parse(message.topic)
        if asker is None or asker.family != "analysts" or message.response_topic is None:
            return
        to = topics.parse(message.response_topic)
        if to is None or to[:3] != ("analysts", asker.name, "replies"):
            return  # nobody is answered in somebody else's place
        options = {"correlation": message.correlation, "expiry_s": 60}
        try:
            turn.send(message.response_topic, reply, **options)
        except OodidaError as error:
            turn.send(message.response_topic, Reply(error=error_reply(error)), **options)

    async def _publish(self) -> None:
        """Drain the outbox: what the broker has accepted is forgotten in a later transaction."""
        while True:
            await self._outbox_filled.wait()
            self._outbox_filled.clear()
            while self._outbox:
                batch = [self._outbox.popleft() for _ in range(min(BATCH, len(self._outbox)))]
                done = await self._send([outgoing for _, outgoing in batch])
                self._sent.extend(id_ for (id_, _), ok in zip(batch, done, strict=True) if ok)
                left = [item for item, ok in zip(batch, done, strict=True) if not ok]
                if left:
                    self._outbox.extendleft(reversed(left))
                    await self._link.wait_up()

    async def _send(self, batch: list[Outgoing]) -> list[bool]:
        """Publish messages; of each, whether it is done with."""
        done = []
        for problem in await self._link.publish_many(batch):
            if problem is None:
                metrics.PUBLISHED.add("accepted")
            elif isinstance(problem, NotConnected):
                metrics.PUBLISHED.add("put_off")
            else:
                log.warning("given up: %s", problem)
                metrics.PUBLISHED.add("refused")
            done.append(not isinstance(problem, NotConnected))
        return done


def _set_aside(turn: Turn, message: Incoming) -> bool:
    """Read a task's report, which is most of what comes, and put it with the others.

    False for any other message. Raises BadRequest.
    """
    address = topics.parse(message.topic)
    if address is None or address.channel != "reports" or address.family not in _SIDES:
        return False
    if not isinstance(
        report := messages.decode(REPORT, message.payload, message.content_type), TaskReport
    ):
        return False
    metrics.MESSAGES.add(address.channel)
    metrics.REPORTS.add(address.family, report.kind)
    metrics.TASK_SECONDS.observe(report.seconds, address.family)
    turn.answers.append(Answer(_SIDES[address.family], address.name, report))
    return True


def _take(turn: Turn) -> None:
    """Take the answers all together; if that fails, one by one, so that one costs itself alone."""
    parts = [turn.answers] if turn.answers else []
    while parts:
        part = parts.pop()
        try:
            with turn.savepoint():
                answers.answered(turn, part)
                for side, edge, report in part:
                    role: topics.Role = "vehicles" if side is Side.ONBOARD else "workers"
                    turn.send(topics.receipts(role, edge), Receipt(id=report.id), expiry_s=60)
        except Exception:
            if len(part) > 1:
                parts += [[answer] for answer in part]
                continue
            log.exception("a report of %s could not be taken", part[0].edge)
            metrics.REFUSED.add("internal")


def _sender(topic: str) -> dict[str, str]:
    """Who sent a message, as a field of a line of the log."""
    address = topics.parse(topic)
    field_ = {"vehicles": "vehicle", "workers": "worker", "analysts": "user"}
    if address is None or address.family not in field_:
        return {}
    return {field_[address.family]: address.name}


def _presence(turn: Turn, role: str, name: str, message: Incoming) -> None:
    if len(message.payload) > MAX_PRESENCE:
        raise BadRequest(f"a presence has at most {MAX_PRESENCE} bytes")
    seen = messages.decode(PRESENCE, message.payload, message.content_type)
    row = queries.edge(turn.session, role, name)
    if row is not None and seen.session < row.session:
        return  # the death of an old session, told late
    was_online = row is not None and row.online and row.session == seen.session
    if row is None:
        row = EdgeRow(role=role, name=name, online=False, session=0, presence=b"")
        turn.session.add(row)
    row.online, row.session = seen.online, seen.session
    if seen.online or not row.presence:
        row.presence = dump(seen)  # a last will says nothing of signals and attributes
    turn.session.flush()
    if seen.online and not was_online:
        shipped.edge_up(turn, row)
        if role == "workers":
            deployments.worker_up(turn, name)
            _pass_on(turn)
    if not seen.online:
        _gone(turn, role, name)


def _gone(turn: Turn, role: str, name: str) -> None:
    """A vehicle or worker is lost: nobody waits for it."""
    shipped.edge_gone(turn, role, name)
    if role == "vehicles":
        assignments.vehicle_gone(turn, name)
    else:
        deployments.worker_gone(turn, name)
        _pass_on(turn)


def _pass_on(turn: Turn) -> None:
    """Workers have changed: what one of them may have taken along is asked for again."""
    for row in queries.combining(turn.session):
        _guarded(turn, row.id, assignments.ask_workers_again)
    deployments.verify_again(turn)


def _guarded(turn: Turn, id_: str, work: Callable[[Turn, AssignmentRow], None]) -> None:
    """Work on one assignment; what goes wrong ends that assignment and nothing else."""
    try:
        with about(assignment=id_), turn.savepoint():
            row = queries.assignment(turn.session, id_)
            if row is not None:
                work(turn, row)
        return
    except OodidaError as error:
        failure = error
    except Exception:
        log.exception("the assignment %s could not go on", id_)
        failure = OodidaError("the orchestrator failed on this assignment; its log says why")
    with turn.savepoint():
        row = queries.assignment(turn.session, id_)
        if row is not None:
            assignments.fail(turn, row, failure)


def _report(turn: Turn, address: topics.Address, message: Incoming) -> None:
    report = messages.decode(REPORT, message.payload, message.content_type)
    side = Side.ONBOARD if address.family == "vehicles" else Side.OFFBOARD
    metrics.REPORTS.add(address.family, report.kind)
    if isinstance(report, StateReport):
        answers.underway(turn, side, address.name, report)
        return  # it needs no receipt: one that is lost does no harm
    match report:
        case ModuleReport() if report.side is side:
            shipped.reported(turn, address.name, report)
        case VerifyReport() if side is Side.OFFBOARD:
            deployments.verified(turn, report)
        case BuildReport() if side is Side.OFFBOARD:
            deployments.built(turn, address.name, report)
        case _:
            pass
    role: topics.Role = "vehicles" if side is Side.ONBOARD else "workers"
    turn.send(topics.receipts(role, address.name), Receipt(id=report.id), expiry_s=60)
