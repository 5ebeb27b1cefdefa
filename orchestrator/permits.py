"""Whether a request may be done: by the role of who asks, and within the limits that he has.

Asked before anything is stored. What is limited to some vehicles comes back narrowed to them.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator import quota, seen
from orchestrator.authority import EVERYBODY, OWN, WHO, Grant
from orchestrator.seen import Seen
from orchestrator.store import deployment_queries
from orchestrator.turn import Turn, load
from protocol.assignment import Assignment, Select
from protocol.environment import EnvironmentSpec
from protocol.errors import Forbidden
from protocol.limits import LimitsAsked
from protocol.messages import Deploy, ListAudit, Request, Submit, Upload
from protocol.module import Side
from protocol.roles import Action

#: How many names a sentence lists.
_NAMED = 5


def permitted(turn: Turn, request: Request) -> Request:
    """The request as it may be done. Raises Forbidden, or OverQuota."""
    user = request.user_id
    if isinstance(request, ListAudit) and turn.authority is EVERYBODY:
        return request  # where nobody has said who may do what, everybody may see what was done
    grant = turn.authority.require(user, Action(request.mode))
    match request:
        case Deploy():
            return _deploy(turn, grant, request)
        case Submit():
            chosen = _assignment(turn, user, grant, request.assignment)
            return request.model_copy(update={"assignment": chosen})
        case Upload():
            _environment(user, grant, OWN)
    return request


def still_permitted(turn: Turn, user: str, asked: Assignment) -> None:
    """Raises Forbidden if an assignment that was begun may not go on as it is."""
    grant = turn.authority.grant(user)
    if _assignment(turn, user, grant, asked) != asked:
        raise Forbidden(
            f"{user} may use fewer vehicles than when it was submitted: submit it again; {WHO}",
            user=user,
        )


def require_approver(turn: Turn, approver: str, deploy: Deploy) -> None:
    """Raises Forbidden for who may not approve: what he could not ask for, he lets nobody have."""
    grant = turn.authority.require(approver, Action.APPROVE)
    if _within(turn, approver, grant, deploy) != deploy:
        raise Forbidden(
            f"{approver} may use vehicles with {grant.only}, and it goes to others as well: "
            f"somebody else has to approve it; {WHO}",
            user=approver,
        )


def _deploy(turn: Turn, grant: Grant, deploy: Deploy) -> Deploy:
    found = _within(turn, deploy.user_id, grant, deploy)
    if deployment_queries.deployment(turn.session, deploy.id) is None:  # else it is asked twice
        quota.require(turn, deploy.user_id, 1)
    return found


def _within(turn: Turn, user: str, grant: Grant, deploy: Deploy) -> Deploy:
    """A deployment narrowed to what a user is granted."""
    asked = deploy.environment
    _environment(user, grant, OWN if isinstance(asked, EnvironmentSpec) else asked)
    _profile(user, grant, deploy.limits.profile)
    if deploy.side is Side.OFFBOARD or not grant.vehicles:
        return deploy
    select = _narrowed(user, grant, deploy.vehicles or Select.all(), seen.fleet(turn.session))
    return deploy.model_copy(update={"vehicles": select})


def _assignment(turn: Turn, user: str, grant: Grant, asked: Assignment) -> Assignment:
    refused = [signal for signal in asked.onboard.signal_names if not grant.reads(signal)]
    if refused:
        allowed = ", ".join(grant.signals or ()) or "none"
        raise Forbidden(
            f"{user} may not use the signal {', '.join(refused[:_NAMED])}, only {allowed}; {WHO}",
            user=user, signals=refused,
        )  # fmt: skip
    for side, name in (
        (Side.ONBOARD, asked.onboard.module),
        (Side.OFFBOARD, asked.offboard.module),
    ):
        # It may have been deployed when its user was allowed more.
        if name is not None:
            row = deployment_queries.current_module(turn.session, user, side, name)
            if row is not None:
                limits = load(row.asked).get("limits", {}) if row.asked else {}
                _environment(user, grant, row.environment)
                _profile(user, grant, LimitsAsked.model_validate(limits).profile)
    if not grant.vehicles:
        return asked
    select = _narrowed(user, grant, asked.vehicles, seen.fleet(turn.session))
    return asked.model_copy(update={"vehicles": select})


def _narrowed(user: str, grant: Grant, asked: Select, fleet: Mapping[str, Seen]) -> Select:
    """A selection of the vehicles that a user may use, and of no other."""
    if asked.names is not None:
        outside = [n for n in asked.names if n not in fleet or not grant.sees(fleet[n].attributes)]
        if outside:
            raise Forbidden(
                f"{user} may use vehicles with {grant.only}, which {', '.join(outside[:_NAMED])} "
                f"{'is' if len(outside) == 1 else 'are'} not; {WHO}",
                user=user, vehicles=outside[:1000],
            )  # fmt: skip
        return asked
    for name, value in grant.vehicles.items():
        if name in asked.attributes and asked.attributes[name] != value:
            other = f"{name}={asked.attributes[name]}"
            raise Forbidden(
                f"{user} may use vehicles with {grant.only}, not {other}; {WHO}", user=user
            )
    both = {**asked.attributes, **grant.vehicles}
    return Select(attributes=both, size=asked.size, seed=asked.seed)


def _environment(user: str, grant: Grant, name: str) -> None:
    if not grant.has_environment(name):
        what = "libraries of one's own" if name == OWN else f"the environment {name[:12]}"
        allowed = ", ".join(word[:12] for word in grant.environments or ()) or "none"
        raise Forbidden(f"{user} may not use {what}, only {allowed}; {WHO}", user=user)


def _profile(user: str, grant: Grant, profile: str) -> None:
    if not grant.has_profile(profile):
        allowed = ", ".join(grant.profiles or ()) or "none"
        raise Forbidden(
            f"{user} may not ask for the profile {profile}, only {allowed}; {WHO}", user=user
        )
