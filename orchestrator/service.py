"""The loop: messages -> one transaction -> outgoing messages."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Final

from orchestrator import (
    answers,
    assignments,
    deployments,
    leases,
    metrics,
    presences,
    requests,
    shipped,
)
from orchestrator.guard import guarded
from orchestrator.outbox import Outbox
from orchestrator.presences import RollCall
from orchestrator.store import Database, problems, queries, retention
from orchestrator.store.retention import Keep
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Answer, Sign, Turn, error_reply
from protocol import messages, topics
from protocol.errors import BadRequest, OodidaError
from protocol.link import WIDE, Incoming, Link
from protocol.messages import (
    REPORT,
    REQUEST,
    BuildReport,
    ModuleReport,
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
#: After every topic.
_LAST: Final = "\U0010ffff"
#: How often to look whether others have left something overdue, in seconds.
POLL_S: Final = 1.0
#: How often to look for what is too old, in seconds.
FORGET_S: Final = 600.0
#: How often a turn is decided again at once when another orchestrator is in its way.
ATTEMPTS: Final = 6
#: Pauses while the store does not work, in seconds: the first one, and the longest.
PAUSE_S: Final = (0.1, 5.0)


class Service:
    """An orchestrator on one broker and one store."""

    def __init__(self, url: str, database: Database, name: str, keep: Keep = Keep()) -> None:  # noqa: B008
        self._keep, self._forget_at = keep, 0.0
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
        self._outbox = Outbox(name[:64])

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled. ``ready`` is set when the first connection stands."""
        try:
            async with self._link, asyncio.TaskGroup() as group:
                if ready is not None:
                    ready.set()
                group.create_task(self._outbox.publish(self._link), name="outbox")
                await self._serve()
        finally:
            self._leave()

    def _leave(self) -> None:
        try:
            with self._database.transaction() as session:
                self._outbox.release(session)
        except Exception as error:
            if not (problems.away(error) or problems.contended(error)):
                raise
            log.info("what is not published is taken over later: %s", error)

    @property
    def connected(self) -> bool:
        """True while there is a connection to the broker."""
        return self._link.connected

    async def _on_up(self) -> None:
        self._roll = RollCall()

    async def _serve(self) -> None:
        patience = 0.0  # there may be deadlines from before
        while True:
            batch = await self._batch(patience)
            began = time.perf_counter()
            next_deadline = await self._until_done(batch)
            metrics.TURN_SECONDS.observe(time.perf_counter() - began)
            metrics.TURN_MESSAGES.observe(len(batch))
            for message in batch:
                message.acknowledge()
            left = POLL_S if next_deadline is None else next_deadline - time.time()
            patience = min(POLL_S, max(0.0, left))
            if not batch:
                self._forget()
            if self._roll is not None:
                patience = min(patience, self._roll.left_s)

    def _forget(self) -> None:
        """Forget some of what is too old, in a quiet moment."""
        if time.monotonic() < self._forget_at:
            return
        gone = 0
        try:
            with self._database.transaction() as session:
                gone = retention.forget(session, self._keep, time.time())
        except Exception as error:  # there will be another moment
            if not (problems.away(error) or problems.contended(error)):
                log.exception("what is too old cannot be forgotten")
        self._forget_at = time.monotonic() + (POLL_S if gone else FORGET_S)

    async def _until_done(self, batch: list[Incoming]) -> float | None:
        """Handle a batch however long the store is away; its messages wait for that."""
        pause = PAUSE_S[0]
        while True:
            try:
                return self._turn(batch)
            except Exception as error:  # whatever it is, the service goes on
                if problems.away(error) or problems.contended(error):
                    log.warning("the store does not work, trying again: %s", error)
                else:
                    log.exception("a turn could not be decided, trying again")
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(2 * pause, PAUSE_S[1])

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
        """Handle a batch in one transaction; the time of the next deadline.

        If another orchestrator is in the way, it is decided again on what is there then. Raises
        what the store raises.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._decide(batch, last=attempt == ATTEMPTS)
            except Exception as error:
                if attempt == ATTEMPTS or not problems.contended(error):
                    raise
                log.info("another was faster, deciding again: %s", error)
        raise AssertionError  # the last attempt returns or raises

    def _decide(self, batch: list[Incoming], *, last: bool) -> float | None:
        with self._database.transaction() as session:
            turn = Turn(session, time.time(), last_try=last)
            for message in sorted(batch, key=_place):
                self._handle(turn, message)
            _hear(turn)
            _take(turn)
            roll = self._roll
            # Asked once: its clock runs on while the turn is decided.
            over = roll is not None and not roll.left_s
            if roll is not None and over:
                roll.end(turn)
            for id_ in sorted(turn.progressed):
                guarded(turn, id_, assignments.progressed)
            leases.expired(turn)
            for due in queries.deadlines(session, turn.now):
                if due.assignment is not None:
                    guarded(turn, due.assignment, _overdue)
                if due.deployment is not None:
                    deployments.overdue(turn, due.deployment)
                if due.environment is not None:
                    deployments.environment_overdue(turn, due.environment)
            shipped.tell(turn)
            session.flush()
            next_deadline = queries.next_deadline(session)
            stored = self._outbox.store(session, turn.outgoing, turn.now)
        self._outbox.committed(stored, turn.fleeting, turn.now)
        if over and self._roll is roll:
            self._roll = None
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
        except Exception as problem:  # a bug must cost one message, not the service
            if _ours(turn, problem):
                raise
            failed = "a message on %s could not be handled"
            log.exception(failed, message.topic, extra=_sender(message.topic))
            metrics.REFUSED.add("internal")
            failure = OodidaError("the orchestrator failed on this request; its log says why")
            self._reply(turn, message, Reply(error=error_reply(failure)))

    def _dispatch(self, turn: Turn, message: Incoming) -> None:
        address = topics.parse(message.topic)
        if address is None:
            return
        metrics.MESSAGES.add(address.channel)
        match address.family, address.channel:
            case ("vehicles" | "workers") as role, "presence":
                if message.payload:  # an empty one clears a retained presence
                    presences.seen(turn, role, address.name, message)
                    if self._roll is not None:
                        self._roll.saw(role, address.name)
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
            turn.tell(message.response_topic, reply, **options)
        except OodidaError as error:
            turn.tell(message.response_topic, Reply(error=error_reply(error)), **options)


def _place(message: Incoming) -> str:
    """Where a message is handled in its turn: presences come first, those of a name in their order.

    Each orchestrator hears of every presence, many at once when a broker is back: with one order
    for all of them, two orchestrators do not hold what the other one waits for.
    """
    # Not taken apart: this is asked of each of thousands of reports.
    return message.topic if message.topic.endswith("/presence") else _LAST


def _overdue(turn: Turn, row: AssignmentRow) -> None:
    """An assignment's time has come; whatever is decided, it is not due again at once."""
    assignments.overdue(turn, row)
    if row.wake_at is not None and row.wake_at <= turn.now:
        row.wake_at = turn.now + POLL_S


def _ours(turn: Turn, error: Exception) -> bool:
    """True if an error is not the message's: the store's, or that of another's being faster.

    In a turn's last attempt it is the message's that the store goes on to refuse it.
    """
    return problems.away(error) or (problems.contended(error) and not turn.last_try)


def _set_aside(turn: Turn, message: Incoming) -> bool:
    """Read what is said of a task, which is most of what comes, and put it with the others.

    False for any other message. Raises BadRequest.
    """
    address = topics.parse(message.topic)
    if address is None or address.channel != "reports" or address.family not in _SIDES:
        return False
    report, tree = messages.read(REPORT, message.payload, message.content_type)
    if not isinstance(report, TaskReport | StateReport):
        return False
    metrics.MESSAGES.add(address.channel)
    metrics.REPORTS.add(address.family, report.kind)
    if isinstance(report, StateReport):
        turn.signs.append(Sign(_SIDES[address.family], address.name, report))
        return True
    metrics.TASK_SECONDS.observe(report.seconds, address.family)
    turn.answers.append(Answer(_SIDES[address.family], address.name, report, tree))
    return True


def _hear(turn: Turn) -> None:
    """Take what was said of tasks that are on their way; it needs no receipt.

    Whoever closes an iteration has its assignment locked, and tells the history of its tasks: so
    has who moves one of them. All of the turn are locked at once, in the order that all keep.
    """
    if not turn.signs:
        return
    tasks = {sign.report.task for sign in turn.signs}
    queries.lock_owners(turn.session, tasks | {answer.report.task for answer in turn.answers})
    for side, edge, report in turn.signs:
        try:
            with turn.savepoint():
                answers.underway(turn, side, edge, report)
        except Exception as problem:
            if _ours(turn, problem):
                raise
            log.exception("the state of a task of %s could not be taken", edge)
            metrics.REFUSED.add("internal")


def _take(turn: Turn) -> None:
    """Take the answers all together; if that fails, one by one, so that one costs itself alone."""
    parts = [turn.answers] if turn.answers else []
    while parts:
        part = parts.pop()
        try:
            with turn.savepoint():
                answers.answered(turn, part)
                for side, edge, report, _ in part:
                    role: topics.Role = "vehicles" if side is Side.ONBOARD else "workers"
                    turn.receipt(role, edge, report.id)
        except Exception as problem:
            if _ours(turn, problem):
                raise
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


def _report(turn: Turn, address: topics.Address, message: Incoming) -> None:
    report = messages.decode(REPORT, message.payload, message.content_type)
    side = Side.ONBOARD if address.family == "vehicles" else Side.OFFBOARD
    metrics.REPORTS.add(address.family, report.kind)
    match report:
        case ModuleReport() if report.side is side:
            shipped.reported(turn, address.name, report)
        case VerifyReport() if side is Side.OFFBOARD:
            deployments.verified(turn, report)
        case BuildReport() if side is Side.OFFBOARD:
            deployments.built(turn, address.name, report)
        case StateReport():
            return  # those are set aside
        case _:
            pass
    role: topics.Role = "vehicles" if side is Side.ONBOARD else "workers"
    turn.receipt(role, address.name, report.id)
