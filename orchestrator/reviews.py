"""Review before run: what waits for a second person, and what that person decides."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from orchestrator import deployments, events
from orchestrator.store import assignment_queries, deployment_queries
from orchestrator.store.tables import DeploymentRow
from orchestrator.turn import Turn, load
from protocol.errors import Forbidden, NotAwaiting
from protocol.lifecycle import DeploymentState
from protocol.messages import Approve, Deploy, DeploymentEvent, ListReviews, Reject, Review
from protocol.module import Environment

#: How many are listed at most, the oldest first.
LISTED: Final = 200


def listed(turn: Turn, request: ListReviews) -> list[Review]:
    """What waits; or one deployment, with its source and that of the generation before."""
    if request.deployment is not None:
        return [_shown(turn, _waiting(turn, request.deployment), whole=True)]
    rows = deployment_queries.awaiting(turn.session)
    return [_shown(turn, row, whole=False) for row in rows[:LISTED]]


def approve(turn: Turn, request: Approve) -> DeploymentEvent:
    """Ship what was looked at. Raises Forbidden for its own analyst: it takes four eyes."""
    row = _waiting(turn, request.deployment)
    _four_eyes(row, request.user_id)
    if request.digest != row.digest:
        raise NotAwaiting(
            f"the deployment {row.id} has the digest {row.digest}, and not {request.digest}: look "
            "at it anew"
        )
    deployments.ship(turn, row, f"{request.user_id} has approved it")
    return events.of_deployment(turn, row)


def reject(turn: Turn, request: Reject) -> DeploymentEvent:
    """Refuse what was looked at."""
    row = _waiting(turn, request.deployment)
    _four_eyes(row, request.user_id)
    why = f"{request.user_id} has rejected it" + (f": {request.reason}" if request.reason else "")
    deployments.refuse(turn, row, "rejected", why[:4000])
    return events.of_deployment(turn, row)


def _waiting(turn: Turn, deployment: str) -> DeploymentRow:
    row = deployment_queries.deployment(turn.session, deployment)
    if row is None or row.state != DeploymentState.AWAITING_APPROVAL:
        state = "there is none" if row is None else f"it is {row.state}"
        raise NotAwaiting(f"no deployment {deployment} waits for approval: {state}")
    return row


def _four_eyes(row: DeploymentRow, user: str) -> None:
    if row.user_id == user:
        raise Forbidden(
            f"{user} has deployed it: somebody else has to look at it, whatever {user} may do",
            user=user,
        )


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
        score=asked.score,
        privileges=asked.reasons,
        vehicles=deploy.vehicles,
        since=_since(turn, row),
        generation=current.generation if current is not None else 0,
        source=deploy.custom_code if whole else "",
        before=current.source.decode() if whole and current is not None else "",
    )


def _since(turn: Turn, row: DeploymentRow) -> str:
    at = assignment_queries.moved_at(turn.session, row.id, DeploymentState.AWAITING_APPROVAL)
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
