"""What analysts ask for. A request is done whole, or gives one error and changes nothing."""

from __future__ import annotations

from orchestrator import (
    assignments,
    deployments,
    endings,
    events,
    listings,
    permits,
    proofs,
    reviews,
    submission,
    wheels,
)
from orchestrator.orders import spec_of
from orchestrator.store import deployment_queries, queries
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn
from protocol.errors import UnknownAssignment
from protocol.messages import (
    Approve,
    Cancel,
    Deploy,
    DeploymentStatus,
    History,
    ListAssignments,
    ListAudit,
    ListChanges,
    ListDecisions,
    ListEnvironments,
    ListModules,
    ListParticipation,
    ListReviews,
    ListVehicles,
    Prove,
    Question,
    Reject,
    Reply,
    Request,
    Resume,
    Submit,
    Upload,
)
from protocol.roles import Action


def answer(turn: Turn, asked: Request) -> Reply:
    """Do what is asked and say so. Raises OodidaError; the caller undoes the turn's changes."""
    request, user = permits.permitted(turn, asked), asked.user_id
    match request:
        case Deploy():
            return Reply(deployment=deployments.request(turn, request))
        case Submit():
            submission.submit(turn, request, asked)
            return Reply()
        case Cancel():
            endings.cancel(turn, _own(turn, request), by=user)
            return Reply()
        case Resume():
            row = _own(turn, request)
            permits.still_permitted(turn, row.user_id, spec_of(row))
            assignments.resume(turn, row)
            return Reply()
        case Approve():
            return Reply(deployment=reviews.approve(turn, request))
        case Reject():
            return Reply(deployment=reviews.reject(turn, request))
        case Upload():
            return wheels.upload(turn, request)
        case _:
            return _told(turn, request, user)


def _told(turn: Turn, request: Question, user: str) -> Reply:
    """What is only asked."""
    match request:
        case ListVehicles():
            return Reply(vehicles=listings.vehicles(turn, user))
        case ListModules():
            return Reply(modules=listings.modules(turn, user))
        case ListAssignments():
            return Reply(assignments=listings.assignments(turn, _whose(turn, request)))
        case ListEnvironments():
            return Reply(environments=listings.built(turn, request))
        case History():
            return listings.history(turn, _own(turn, request), request.after)
        case ListParticipation():
            return listings.participation(turn, _own(turn, request), request.after)
        case ListChanges():
            return listings.changes(turn, _own(turn, request), request.after)
        case Prove():
            return proofs.page(turn, _own(turn, request), request)
        case ListAudit():
            return listings.audit(turn, request)
        case ListReviews():
            return Reply(reviews=reviews.listed(turn, request))
        case ListDecisions():
            return Reply(decisions=reviews.decided(turn, _whose(turn, request)))
        case DeploymentStatus():
            return _deployment(turn, request)


def _whose(turn: Turn, request: ListAssignments | ListDecisions) -> str | None:
    """Whose are listed: None for everybody's. Raises Forbidden for who may not see those."""
    if not request.everybody:
        return request.user_id
    turn.authority.require(request.user_id, Action.OTHERS)
    return None


def _deployment(turn: Turn, request: DeploymentStatus) -> Reply:
    row = deployment_queries.deployment(turn.session, request.deployment)
    if row is None or not _reaches(turn, request.user_id, row.user_id):
        raise UnknownAssignment(f"{request.user_id} has no deployment {request.deployment}")
    return Reply(deployment=events.of_deployment(turn, row))


def _own(
    turn: Turn, request: Cancel | History | Resume | ListParticipation | ListChanges | Prove
) -> AssignmentRow:
    row = queries.assignment(turn.session, request.assignment)
    if row is None or not _reaches(turn, request.user_id, row.user_id):
        raise UnknownAssignment(f"{request.user_id} has no assignment {request.assignment}")
    return row


def _reaches(turn: Turn, user: str, owner: str) -> bool:
    """True if a user may work with what this owner has. Who may not is not told that it exists."""
    return user == owner or turn.authority.may(user, Action.OTHERS)
