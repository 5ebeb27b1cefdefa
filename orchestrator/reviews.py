"""Review before run: what waits for a second person, and what that person decides."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from orchestrator import deployments, events, permits
from orchestrator.store import assignment_queries, deployment_queries
from orchestrator.store.tables import DeploymentRow, ModuleRow
from orchestrator.turn import Turn, load
from protocol.errors import Forbidden, NotAwaiting
from protocol.lifecycle import DeploymentState
from protocol.limits import LimitsAsked
from protocol.messages import Approve, Deploy, DeploymentEvent, ListReviews, Reject, Review
from protocol.module import Environment
from protocol.roles import Action

#: How many are listed at most, the oldest first.
LISTED: Final = 200


def listed(turn: Turn, request: ListReviews) -> list[Review]:
    """What waits; or one deployment, with its source and that of the generation before.

    Who may not approve is shown what is his own.
    """
    everybodys = turn.authority.may(request.user_id, Action.APPROVE)

    def seen(row: DeploymentRow) -> bool:
        return everybodys or row.user_id == request.user_id

    if request.deployment is not None:
        row = _waiting(turn, request.deployment)
        return [_shown(turn, row, whole=True)] if seen(row) else []
    rows = [row for row in deployment_queries.awaiting(turn.session) if seen(row)]
    return [_shown(turn, row, whole=False) for row in rows[:LISTED]]


def approve(turn: Turn, request: Approve) -> DeploymentEvent:
    """Ship what was looked at. Raises Forbidden for its own analyst: it takes four eyes.

    What its analyst may do is asked again: that may have changed while it waited.
    """
    cause = f"{request.user_id} has approved it"
    done = _done(turn, request.deployment, DeploymentState.SHIPPED, cause)
    if done is not None and done.digest == request.digest:
        return events.of_deployment(turn, done)  # asked twice, shipped once
    row = _waiting(turn, request.deployment)
    _four_eyes(row, request.user_id)
    deploy = Deploy.model_validate(load(row.request))
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
    why = f"{request.user_id} has rejected it" + (f": {request.reason}" if request.reason else "")
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
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
