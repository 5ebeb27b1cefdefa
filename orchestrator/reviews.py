"""Review before run: what waits for a second person, and what that person decides."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from orchestrator import deployments, events, permits
from orchestrator.store import assignment_queries, deployment_queries
from orchestrator.store.tables import DeploymentRow, ModuleRow
from orchestrator.turn import Turn, load
from protocol.errors import BadSignature, Forbidden, NotAwaiting
from protocol.lifecycle import DeploymentState
from protocol.limits import LimitsAsked
from protocol.messages import (
    Approve,
    Decision,
    Deploy,
    DeploymentEvent,
    ListReviews,
    Reject,
    Review,
)
from protocol.module import Environment, Side
from protocol.roles import Action

#: How many are listed at most: of those that wait the oldest, of those that waited the newest.
LISTED: Final = 200
#: After the name of who decided, in the cause of what then changes.
_APPROVED: Final = " has approved it"
_REJECTED: Final = " has rejected it"


class Word(NamedTuple):
    """How a wait ended: what was decided, by whom ("" for nobody) and why."""

    decision: Literal["approved", "rejected", "not_approved", "superseded"]
    by: str
    reason: str


def listed(turn: Turn, request: ListReviews) -> list[Review]:
    """What waits; or one deployment, with its source and that of the generation before.

    Who may not approve is shown what is his own.
    """
    everybodys = turn.authority.may(request.user_id, Action.APPROVE)

    def seen(row: DeploymentRow) -> bool:
        return everybodys or row.user_id == request.user_id

    if request.deployment is not None:
        row = _waiting(turn, request.deployment)
        if not seen(row):
            turn.authority.require(request.user_id, Action.APPROVE)
        return [_shown(turn, row, whole=True)]
    rows = [row for row in deployment_queries.awaiting(turn.session) if seen(row)]
    return [_shown(turn, row, whole=False) for row in rows[:LISTED]]


def decided(turn: Turn, user: str | None) -> list[Decision]:
    """What had to wait, and what became of it: a user's or everybody's, the newest first."""
    rows = deployment_queries.held(turn.session, user, LISTED)
    ends = deployment_queries.ended_waits(turn.session, [row.id for row, _ in rows])
    told = []
    for row, since in rows:
        end = ends.get(row.id)
        word = word_of(end.cause) if end is not None else None
        told.append(
            Decision(
                deployment=row.id,
                user_id=row.user_id,
                name=row.name,
                side=Side(row.side),
                digest=row.digest,
                generation=row.generation,
                since=_iso(since),
                at=_iso(end.at) if end is not None else "",
                **(word._asdict() if word is not None else {"decision": "waiting"}),
            )
        )
    return told


def word_of(cause: str) -> Word:
    """How a wait ended, from the cause that was written down then."""
    code, _, reason = cause.partition(": ")  # no name has a colon
    if code.endswith(_APPROVED):
        return Word("approved", code.removesuffix(_APPROVED), "")
    if code == "rejected":
        name, _, why = reason.partition(_REJECTED)
        return Word("rejected", name, why.removeprefix(": "))
    return Word("superseded" if code == "superseded" else "not_approved", "", reason)


def approve(turn: Turn, request: Approve) -> DeploymentEvent:
    """Ship what was looked at. Raises Forbidden for its own analyst: it takes four eyes.

    What its analyst may do is asked again: that may have changed while it waited.
    """
    cause = request.user_id + _APPROVED
    done = _done(turn, request.deployment, DeploymentState.SHIPPED, cause)
    if done is not None and done.digest == request.digest:
        return events.of_deployment(turn, done)  # asked twice, shipped once
    row = _waiting(turn, request.deployment)
    _four_eyes(row, request.user_id)
    deploy = Deploy.model_validate(load(row.request))
    permits.require_approver(turn, request.user_id, deploy)
    _still_vouched(turn, deploy)
    if permits.permitted(turn, deploy) != deploy:
        raise Forbidden(
            f"{row.user_id} may use fewer vehicles than when it was deployed: it has to be "
            "deployed again",
            user=row.user_id,
        )
    if request.digest != row.digest:
        raise NotAwaiting(
            f"the deployment {row.id} has the digest {row.digest}, and not {request.digest}: look "
            "at it anew"
        )
    deployments.ship(turn, row, cause)
    return events.of_deployment(turn, row)


def reject(turn: Turn, request: Reject) -> DeploymentEvent:
    """Refuse what was looked at."""
    why = request.user_id + _REJECTED + (f": {request.reason}" if request.reason else "")
    cause = f"rejected: {why}"[:4000]
    done = _done(turn, request.deployment, DeploymentState.REFUSED, cause)
    if done is not None:
        return events.of_deployment(turn, done)
    row = _waiting(turn, request.deployment)
    _four_eyes(row, request.user_id)
    deployments.refuse(turn, row, "rejected", why[:3900])
    return events.of_deployment(turn, row)


def _done(turn: Turn, deployment: str, state: DeploymentState, cause: str) -> DeploymentRow | None:
    """A deployment for which this very thing was done before."""
    row = deployment_queries.deployment(turn.session, deployment)
    if row is None or row.state != state:
        return None
    told = assignment_queries.cause_of(turn.session, row.id, state)
    return row if told == cause else None


def _waiting(turn: Turn, deployment: str) -> DeploymentRow:
    row = deployment_queries.deployment(turn.session, deployment)
    if row is None or row.state != DeploymentState.AWAITING_APPROVAL:
        state = "there is none" if row is None else f"it is {row.state}"
        raise NotAwaiting(
            f"no deployment {deployment} waits for approval: {state}; `oodida review` lists those "
            "that do"
        )
    return row


def _four_eyes(row: DeploymentRow, user: str) -> None:
    if row.user_id == user:
        raise Forbidden(
            f"{user} has deployed it: somebody else has to look at it, whatever {user} may do",
            user=user,
        )


def _still_vouched(turn: Turn, deploy: Deploy) -> None:
    if turn.vouching is None:
        return
    try:
        turn.vouching.check_still(deploy)
    except BadSignature as problem:
        raise Forbidden(
            f"{problem}, so it may not be {deploy.user_id} who has deployed it: reject it, and "
            f"{deploy.user_id} deploys it again once enrolled anew",
            user=deploy.user_id,
        ) from None


def _shown(turn: Turn, row: DeploymentRow, *, whole: bool) -> Review:
    deploy = Deploy.model_validate(load(row.request))
    asked = events.privilege_of(deploy)
    current = deployment_queries.current_module(
        turn.session, deploy.user_id, deploy.side, deploy.name
    )
    environment = events.of_deployment(turn, row).environment or Environment.MINIMAL.value
    return Review(
        deployment=row.id,
        user_id=row.user_id,
        name=deploy.name,
        side=deploy.side,
        digest=row.digest,
        environment=environment,
        limits=deploy.limits,
        returns=deploy.returns,
        score=asked.score,
        privileges=asked.reasons,
        vehicles=deploy.vehicles,
        since=_since(turn, row),
        generation=current.generation if current is not None else 0,
        source=deploy.custom_code if whole else "",
        before=current.source.decode() if whole and current is not None else "",
        **(_asked_before(current) if current is not None else {}),
    )


def _asked_before(row: ModuleRow) -> dict[str, Any]:
    asked = load(row.asked) if row.asked else {}
    return {
        "environment_before": row.environment,
        "limits_before": LimitsAsked.model_validate(asked.get("limits", {})),
    }


def _since(turn: Turn, row: DeploymentRow) -> str:
    at = assignment_queries.moved_at(turn.session, row.id, DeploymentState.AWAITING_APPROVAL)
    return _iso(at)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
