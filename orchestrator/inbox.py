"""What came from vehicles, workers and analysts in a turn: handled, or refused, each by itself.

Reports on tasks are most of it. They are read first, and taken all together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator import answers, audit, deployments, metrics, presences, requests, shipped
from orchestrator.answers import Answer, Sign
from orchestrator.holdings import Holdings
from orchestrator.presences import RollCall
from orchestrator.store import problems, queries
from orchestrator.turn import Turn, error_reply
from protocol import messages, topics
from protocol.errors import OodidaError, WrongSender, from_code
from protocol.link import Incoming, Outgoing
from protocol.messages import (
    REPORT,
    REQUEST,
    BuildReport,
    ModuleReport,
    Reply,
    Report,
    Request,
    StateReport,
    TaskReport,
    VerifyReport,
)
from protocol.module import Side
from protocol.topics import Address

log = logging.getLogger(__name__)

_REFUSED: Final = "refused a message on %s: %s: %s"
#: After every topic.
_LAST: Final = "\U0010ffff"
_ROLES: Final[dict[Side, topics.Role]] = {Side.ONBOARD: "vehicles", Side.OFFBOARD: "workers"}
_SIDES: Final = {role: side for side, role in _ROLES.items()}
#: What a sender is called in a line of the log.
_CALLED: Final = {"vehicles": "vehicle", "workers": "worker", "analysts": "user"}


@dataclass
class _Said:
    """What was said of tasks: that they are on their way, and what became of them."""

    signs: list[Sign] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def tasks(self) -> set[str]:
        return {one.report.task for part in (self.signs, self.answers) for one in part}


def read(turn: Turn, batch: Sequence[Incoming], roll: RollCall | None, holdings: Holdings) -> None:
    """Handle a batch. ``roll`` is told who has shown a presence.

    Raises what the store raises; what else one message breaks costs that message alone.
    """
    said = _Said()
    for message in in_order(batch):
        address = topics.parse(message.topic)
        if address is not None:
            began = time.thread_time()
            _handle(turn, address, message, said, roll, holdings)
            took = time.thread_time() - began
            turn.seconds[message.topic] = turn.seconds.get(message.topic, 0.0) + took
    if said.signs or said.answers:
        # Whoever closes an iteration has its assignment locked, and tells the history of its tasks:
        # so has who moves one of them. All are locked at once, in the order that all keep. What was
        # read before that is guarded: if it is not so any more, the turn is decided again.
        asked = queries.briefs(turn.session, said.tasks)
        # A sign of a task that is none costs no more than this.
        said.signs = [s for s in said.signs if (s.report.task, s.report.attempt) in asked]
        queries.lock_assignments(turn.session, {brief.assignment for brief in asked.values()})
        if said.signs:
            _hear(turn, said.signs)
            asked = queries.briefs(turn.session, said.tasks)  # a sign has moved a task on
        _take(turn, asked, said.answers)


def in_order(batch: Sequence[Incoming]) -> list[Incoming]:
    """A batch as it is handled: presences come first, those of a name in their order.

    Each orchestrator hears of every presence, many at once when a broker is back: with one order
    for all of them, two orchestrators do not hold what the other one waits for.
    """
    # Topics are not taken apart: this is asked of each of thousands of reports.
    return sorted(batch, key=lambda m: m.topic if m.topic.endswith("/presence") else _LAST)


def _handle(
    turn: Turn,
    address: Address,
    message: Incoming,
    said: _Said,
    roll: RollCall | None,
    holdings: Holdings,
) -> None:
    """One message, inside a savepoint: what one breaks does not touch the others."""
    metrics.MESSAGES.add(address.channel)
    try:
        match address.family, address.channel:
            case "vehicles" | "workers", "reports":
                _check_signature(turn, message)
                report, tree = messages.read(REPORT, message.payload, message.content_type)
                _report(turn, address, report, tree, said)
            case ("vehicles" | "workers") as role, "presence":
                _check_signature(turn, message)
                if message.payload:  # an empty one clears a retained presence
                    with turn.savepoint():
                        presences.seen(turn, role, address.name, message)
                    if roll is not None:
                        roll.saw(role, address.name)
            case "analysts", "requests":
                _request(turn, address, message, holdings)
    except OodidaError as error:
        log.info(_REFUSED, message.topic, error.code, str(error), extra=_sender(address))
        metrics.REFUSED.add(error.code)
        if address.family != "analysts":
            audit.refused(turn, address, message, None, error)
        _reply(turn, address, message, Reply(error=error_reply(error)))
    except Exception as problem:  # a bug must cost one message, not the service
        if _ours(turn, problem):
            raise
        failed = "a message on %s could not be handled"
        log.exception(failed, message.topic, extra=_sender(address))
        metrics.REFUSED.add("internal")
        failure = OodidaError("the orchestrator failed on this request; its log says why")
        _reply(turn, address, message, Reply(error=error_reply(failure)))


def _request(turn: Turn, address: Address, message: Incoming, holdings: Holdings) -> None:
    request = None
    try:
        _check_signature(turn, message)
        with turn.savepoint():
            request = messages.decode(REQUEST, message.payload, message.content_type)
            _check_sender(request, address)
            acts = audit.acts(turn, request)
            if acts:
                holdings.require(turn, request)
            reply = requests.answer(turn, request)
            if reply.error is not None:
                why = from_code(reply.error.code, reply.error.message)
                audit.refused(turn, address, message, request, why)
            elif acts:
                audit.done(turn, address, message, request)
            _reply(turn, address, message, reply)
    except Exception as error:
        # Outside the savepoint: that something was refused stays when all else of it is undone.
        # And it has no local name: it would hold itself, and the message, until garbage is sought.
        if not _ours(turn, error):
            audit.refused(
                turn, address, message, request, error if isinstance(error, OodidaError) else None
            )
        raise
    metrics.REQUESTS.add(request.mode)


def _check_signature(turn: Turn, message: Incoming) -> None:
    """Raises BadSignature unless its sender has signed it, where there are certificates."""
    if turn.vouching is not None:
        turn.vouching.check_message(message, turn.now)


def _check_sender(request: Request, address: Address) -> None:
    if request.user_id != address.name:
        raise WrongSender


def _reply(turn: Turn, address: Address, message: Incoming, reply: Reply) -> None:
    if address.family != "analysts" or message.response_topic is None:
        return
    to = topics.parse(message.response_topic)
    if to is None or to[:3] != ("analysts", address.name, "replies"):
        return  # nobody is answered in somebody else's place
    options = {"correlation": message.correlation, "expiry_s": 60}
    try:
        turn.tell(message.response_topic, reply, **options)
    except OodidaError as error:
        turn.tell(message.response_topic, Reply(error=error_reply(error)), **options)


def refusal(address: Address, message: Incoming, error: OodidaError) -> Outgoing | None:
    """The answer to a request that is not even read; None if nobody can be answered."""
    to = topics.parse(message.response_topic or "")
    if to is None or to[:3] != ("analysts", address.name, "replies"):
        return None
    payload, content_type = messages.encode(Reply(error=error_reply(error)))
    return Outgoing(
        message.response_topic or "", payload, content_type, expiry_s=60,
        correlation=message.correlation,
    )  # fmt: skip


def _report(
    turn: Turn, address: Address, report: Report, tree: dict[str, Any], said: _Said
) -> None:
    """Take a report; one on a task is put with the others."""
    side = _SIDES["vehicles" if address.family == "vehicles" else "workers"]
    metrics.REPORTS.add(address.family, report.kind)
    match report:
        case TaskReport():
            metrics.TASK_SECONDS.observe(report.seconds, address.family)
            said.answers.append(Answer(side, address.name, report, tree))
            return
        case StateReport():
            said.signs.append(Sign(side, address.name, report))
            return
    with turn.savepoint():
        match report:
            case ModuleReport() if report.side is side:
                shipped.reported(turn, address.name, report)
            case VerifyReport() if side is Side.OFFBOARD:
                deployments.verified(turn, report)
            case BuildReport() if side is Side.OFFBOARD:
                deployments.built(turn, address.name, report)
        turn.receipt(_ROLES[side], address.name, report.id)


def _hear(turn: Turn, signs: Sequence[Sign]) -> None:
    """Take what was said of tasks that are on their way; it needs no receipt."""
    for side, edge, report in signs:
        try:
            with turn.savepoint():
                answers.underway(turn, side, edge, report)
        except Exception as problem:
            if _ours(turn, problem):
                raise
            log.exception("the state of a task of %s could not be taken", edge)
            metrics.REFUSED.add("internal")


def _take(turn: Turn, asked: Mapping[tuple[str, int], queries.Brief], told: list[Answer]) -> None:
    """Take the answers all together; if that fails, one by one, so that one costs itself alone."""
    parts = [told] if told else []
    while parts:
        part = parts.pop()
        try:
            with turn.savepoint():
                answers.answered(turn, asked, part)
                for side, edge, report, _ in part:
                    turn.receipt(_ROLES[side], edge, report.id)
        except Exception as problem:
            if _ours(turn, problem):
                raise
            if len(part) > 1:
                parts += [[answer] for answer in part]
                continue
            log.exception("a report of %s could not be taken", part[0].edge)
            metrics.REFUSED.add("internal")


def _ours(turn: Turn, error: Exception) -> bool:
    """True if an error is not the message's: the store's, or that of another's being faster.

    In a turn's last attempt it is the message's that the store goes on to refuse it.
    """
    return problems.away(error) or (problems.contended(error) and not turn.last_try)


def _sender(address: Address) -> dict[str, str]:
    """Who sent a message, as a field of a line of the log."""
    called = _CALLED.get(address.family)
    return {} if called is None else {called: address.name}
