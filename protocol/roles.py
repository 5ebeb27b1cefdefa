"""Roles, and the one table of what each may do. Pure; the orchestrator enforces it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What somebody is to a fleet, from who may do least to who may do most."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"


class Action(StrEnum):
    """What can be done: each mode of a request, and what lies across them."""

    VEHICLES = "vehicles"
    MODULES = "modules"
    ASSIGNMENTS = "assignments"
    ENVIRONMENTS = "environments"
    HISTORY = "history"
    PARTICIPATION = "participation"
    CHANGES = "changes"
    DEPLOYMENT = "deployment"
    PROOF = "proof"
    AUDIT = "audit"
    DEPLOY_ONBOARD = "deploy_onboard"
    DEPLOY_OFFBOARD = "deploy_offboard"
    UPLOAD = "upload"
    SUBMIT = "submit"
    RESUME = "resume"
    REVIEWS = "reviews"
    DECISIONS = "decisions"
    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    OTHERS = "others"  # no mode: the assignments and deployments of other users


#: What each action is, after "may" or "may not".
WORDS: Final[Mapping[Action, str]] = {
    Action.VEHICLES: "see vehicles and workers",
    Action.MODULES: "see the modules that are deployed",
    Action.ASSIGNMENTS: "list assignments",
    Action.ENVIRONMENTS: "see the environments that are built",
    Action.HISTORY: "see the results of an assignment",
    Action.PARTICIPATION: "see who took part in an assignment",
    Action.CHANGES: "see each change of state of an assignment",
    Action.DEPLOYMENT: "see how far a deployment is",
    Action.PROOF: "have the value of an assignment proved",
    Action.AUDIT: "read the audit log",
    Action.DEPLOY_ONBOARD: "deploy modules to vehicles",
    Action.DEPLOY_OFFBOARD: "deploy modules to the cloud",
    Action.UPLOAD: "send wheels for an environment",
    Action.SUBMIT: "submit assignments",
    Action.RESUME: "resume assignments",
    Action.CANCEL: "cancel assignments",
    Action.REVIEWS: "see the deployments that wait for approval",
    Action.DECISIONS: "see what was decided on the deployments that had to wait",
    Action.APPROVE: "approve deployments of others",
    Action.REJECT: "reject deployments of others",
    Action.OTHERS: "do so with what other users have",
}

_VIEWER: Final = frozenset(
    {
        Action.VEHICLES, Action.MODULES, Action.ASSIGNMENTS, Action.ENVIRONMENTS, Action.HISTORY,
        Action.PARTICIPATION, Action.CHANGES, Action.DEPLOYMENT, Action.PROOF,
    }
)  # fmt: skip
_ANALYST: Final = _VIEWER | {
    Action.DEPLOY_ONBOARD, Action.DEPLOY_OFFBOARD, Action.UPLOAD, Action.SUBMIT, Action.RESUME,
    Action.CANCEL, Action.REVIEWS, Action.DECISIONS,
}  # fmt: skip
_OPERATOR: Final = _ANALYST | {
    Action.OTHERS, Action.AUDIT, Action.APPROVE, Action.REJECT,
}  # fmt: skip

#: The table. What is not in it may not be done.
TABLE: Final[Mapping[Role, frozenset[Action]]] = {
    Role.VIEWER: _VIEWER,
    Role.ANALYST: _ANALYST,
    Role.OPERATOR: _OPERATOR,
    Role.ADMINISTRATOR: frozenset(Action),
}


def may(role: Role, action: Action) -> bool:
    """True if the table has it."""
    return action in TABLE[role]
