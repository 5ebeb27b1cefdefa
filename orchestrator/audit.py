"""What goes into the audit log: acts that change something, and whatever was refused.

No source of a module and no parameter's value is ever in it; digests are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from orchestrator.bucket import Bucket, Rate
from orchestrator.store import audit_queries, deployment_queries, queries
from orchestrator.store.tables import DeploymentRow
from orchestrator.turn import Turn, dump
from protocol import topics
from protocol.assignment import Select
from protocol.audit import Act, text
from protocol.environment import EnvironmentSpec
from protocol.errors import OodidaError
from protocol.lifecycle import ASSIGNMENT, AssignmentState, DeploymentState, terminal
from protocol.link import Incoming
from protocol.messages import (
    Approve,
    Cancel,
    Deploy,
    ModuleReport,
    Question,
    Reject,
    Request,
    Submit,
    Upload,
)
from protocol.module import Side
from protocol.topics import Address

#: Refusals of one sender that are written one by one: so many at once, and later so many a second.
#: Those beyond are counted, and their number is written: else who is refused could fill the disk.
REFUSALS: Final = Rate(per_s=0.1, burst=100)
#: Senders whose refusals are counted apart.
SENDERS: Final = 10_000
_ROLES: Final = {"analysts": "analyst", "vehicles": "vehicle", "workers": "worker"}
_OURS: Final = "orchestrator"


def actor(address: Address) -> str:
    """Who speaks on a topic. The broker sees to it that nobody else does."""
    return f"{_ROLES.get(address.family, address.family)}:{address.name}"


def acts(turn: Turn, request: Request) -> bool:
    """True if a request, which is not carried out yet, will change something.

    One that is sent again because its reply was late changes nothing.
    """
    match request:
        case Deploy():
            return deployment_queries.deployment(turn.session, request.id) is None
        case Submit():
            return queries.assignment(turn.session, request.id) is None
        case Cancel():
            row = queries.assignment(turn.session, request.assignment)
            return row is None or not terminal(ASSIGNMENT, AssignmentState(row.state))
        case Upload():
            return request.offset == 0
        case Approve() | Reject():
            deployment = deployment_queries.deployment(turn.session, request.deployment)
            return deployment is None or deployment.state == DeploymentState.AWAITING_APPROVAL
        case _:
            return not isinstance(request, Question)


def done(turn: Turn, address: Address, message: Incoming, request: Request) -> None:
    """A request was carried out."""
    _note(turn, address, message, request, None)


def refused(
    turn: Turn,
    address: Address,
    message: Incoming,
    request: Request | None,
    error: OodidaError | None,
) -> None:
    """A message was refused, or failed us. ``request`` is what it was read as, if it could be."""
    code = "internal" if error is None else error.code
    reason = "the orchestrator failed on it; its log says why" if error is None else error.message
    _note(turn, address, message, request, (code, reason))


def _note(
    turn: Turn,
    address: Address,
    message: Incoming,
    request: Request | None,
    why: tuple[str, str] | None,
) -> None:
    code, reason = why or ("", "")
    turn.acts.append(
        Act(
            actor=actor(address),
            action=address.channel if request is None else request.mode,
            allowed=why is None,
            subject="" if request is None else _subject(request),
            code=text(code, 64),
            reason=text(reason, 1000),
            topic=text(message.topic, 300),
            client=_client(message),
            details={} if request is None else _details(request),
        )
    )


def module_refused(turn: Turn, edge: str, report: ModuleReport) -> None:
    """A vehicle or worker does not take a module: by its policy, or for want of something."""
    turn.acts.append(
        Act(
            actor=_edge(report.side, edge),
            action="module",
            allowed=False,
            subject=report.name,
            code="refused",
            reason=text(report.reason, 1000),
            details={
                "user": report.user_id, "digest": report.digest, "generation": report.generation,
            },
        )
    )  # fmt: skip


def report_dropped(turn: Turn, side: Side, edge: str, task: str, code: str, reason: str) -> None:
    """What a vehicle or worker said of a task was dropped."""
    turn.acts.append(
        Act(
            actor=_edge(side, edge),
            action="reports",
            allowed=False,
            subject=text(task, 200),
            code=text(code, 64),
            reason=text(reason, 1000),
        )
    )


def decided(turn: Turn, row: DeploymentRow, code: str = "", reason: str = "") -> None:
    """A deployment is shipped, or refused with a code."""
    turn.acts.append(
        Act(
            actor=_OURS,
            action="refuse_module" if code else "ship_module",
            allowed=not code,
            subject=row.id,
            code=text(code, 64),
            reason=text(reason, 1000),
            details={
                "user": row.user_id, "module": row.name, "side": str(row.side),
                "digest": row.digest, "generation": row.generation,
            },
        )
    )  # fmt: skip


def held(turn: Turn, row: DeploymentRow) -> None:
    """A deployment waits for a second person."""
    turn.acts.append(
        Act(
            actor=_OURS,
            action="hold_module",
            allowed=True,
            subject=row.id,
            details={"user": row.user_id, "module": row.name, "digest": row.digest},
        )
    )


def _edge(side: Side, name: str) -> str:
    return f"{'vehicle' if side is Side.ONBOARD else 'worker'}:{name}"


def flooded(address: Address, message: Incoming, error: OodidaError) -> Act:
    """A sender has begun to send more than is read."""
    return Act(
        actor=actor(address),
        action="flood",
        allowed=False,
        code=text(error.code, 64),
        reason=text(error.message, 1000),
        topic=text(message.topic, 300),
        client=_client(message),
    )


def _client(message: Incoming) -> str:
    to = topics.parse(message.response_topic or "")
    return to.rest[0] if to is not None and to.rest else ""


def _subject(request: Request) -> str:
    for name in ("id", "assignment", "deployment", "sha256"):
        told = getattr(request, name, None)
        if isinstance(told, str):
            return told
    return ""


def _details(request: Request) -> dict[str, str | int]:
    match request:
        case Deploy():
            asked = request.environment
            return {
                "module": request.name,
                "source_sha256": _sha256(request.custom_code.encode(errors="replace")),
                "environment": asked.key if isinstance(asked, EnvironmentSpec) else asked,
                "profile": text(request.limits.profile, 64),
                **_selected(request.vehicles),
            }
        case Submit():
            spec = request.assignment
            return {
                "onboard": spec.onboard.module or spec.onboard.method,
                "offboard": spec.offboard.module or spec.offboard.method,
                "signals": text(",".join(spec.onboard.signal_names), 200),
                "iterations": spec.iterations,
                "assignment_sha256": _sha256(dump(spec)),
                **_selected(spec.vehicles),
            }
        case Upload():
            return {"size": request.size}
        case _:
            return {}


def _selected(select: Select | None) -> dict[str, str | int]:
    return {} if select is None else {"vehicles_sha256": _sha256(dump(select))}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Quiet(NamedTuple):
    """What one sender may have written, and how many of its refusals were not."""

    bucket: Bucket
    unwritten: int = 0


@dataclass
class Desk:
    """What this orchestrator writes into the log; it remembers whose refusals are too many."""

    name: str = "one"
    senders: Mapping[str, Quiet] = field(default_factory=dict)

    def write(self, turn: Turn) -> Mapping[str, Quiet]:
        """Write a turn's acts; what is to be remembered once it is committed."""
        chosen, senders = thinned(turn.acts, self.senders, turn.now)
        audit_queries.add(turn.session, chosen, turn.now, self.name)
        return senders


def thinned(
    acts: Sequence[Act], before: Mapping[str, Quiet], now: float
) -> tuple[list[Act], Mapping[str, Quiet]]:
    """The acts that are written: all that were allowed, and of refusals so many of each sender.

    How many were not is written as soon as the sender may be written of again.
    """
    chosen, senders = list[Act](), dict(before)
    for who, quiet in before.items():
        bucket = quiet.bucket.now(REFUSALS, now)
        if quiet.unwritten and (left := bucket.without(1)) is not None:
            chosen.append(_more(who, quiet.unwritten))
            senders[who] = Quiet(left)
        elif bucket.left >= REFUSALS.burst:
            del senders[who]  # as if it had never been refused
    for act in acts:
        if act.allowed or act.actor == _OURS:
            chosen.append(act)
            continue
        who = act.actor if act.actor in senders or len(senders) < SENDERS else "others:all"
        quiet = senders.get(who, Quiet(Bucket(REFUSALS.burst, now)))
        rest = quiet.bucket.now(REFUSALS, now)
        left = rest.without(1)
        if left is None:
            senders[who] = Quiet(rest, quiet.unwritten + 1)
        else:
            chosen.append(act)
            senders[who] = Quiet(left, quiet.unwritten)
    return chosen, senders


def _more(who: str, count: int) -> Act:
    return Act(
        actor=who,
        action="refusals",
        allowed=False,
        code="too_many_refusals",
        reason="more refusals than are written one by one",
        details={"count": count},
    )
