"""States and the tables of legal transitions. Nothing else changes a state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from protocol.errors import IllegalTransition


class TaskState(StrEnum):
    """Where a task of one vehicle or worker stands."""

    QUEUED = "queued"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    OFFLINE = "offline"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


class AssignmentState(StrEnum):
    """Where an assignment stands."""

    COLLECTING = "collecting"
    COMBINING = "combining"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeploymentState(StrEnum):
    """Where a deployment stands."""

    BUILDING = "building"
    VERIFYING = "verifying"
    SHIPPED = "shipped"
    REFUSED = "refused"


class EnvironmentState(StrEnum):
    """Where a request for an environment stands."""

    BUILDING = "building"
    BUILT = "built"
    REFUSED = "refused"


S = TypeVar("S", bound=StrEnum)

_T, _A, _D, _E = TaskState, AssignmentState, DeploymentState, EnvironmentState

TASK: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    _T.QUEUED: frozenset(_T) - {_T.QUEUED},
    # `newest` asks again of a vehicle that answered with code that has been replaced since.
    _T.SUCCEEDED: frozenset({_T.SUPERSEDED}),
    _T.FAILED: frozenset({_T.SUPERSEDED}),
    **{
        state: frozenset()
        for state in (
            _T.REJECTED,
            _T.TIMED_OUT,
            _T.OFFLINE,
            _T.SUPERSEDED,
            _T.CANCELLED,
        )
    },
}

ASSIGNMENT: Final[Mapping[AssignmentState, frozenset[AssignmentState]]] = {
    _A.COLLECTING: frozenset({_A.COMBINING, _A.FAILED, _A.CANCELLED}),
    _A.COMBINING: frozenset({_A.COLLECTING, _A.SUCCEEDED, _A.FAILED, _A.CANCELLED}),
    _A.SUCCEEDED: frozenset(),
    _A.FAILED: frozenset(),
    _A.CANCELLED: frozenset(),
}

DEPLOYMENT: Final[Mapping[DeploymentState, frozenset[DeploymentState]]] = {
    _D.BUILDING: frozenset({_D.VERIFYING, _D.REFUSED}),
    _D.VERIFYING: frozenset({_D.SHIPPED, _D.REFUSED}),
    _D.SHIPPED: frozenset(),
    _D.REFUSED: frozenset(),
}

ENVIRONMENT: Final[Mapping[EnvironmentState, frozenset[EnvironmentState]]] = {
    _E.BUILDING: frozenset({_E.BUILT, _E.REFUSED}),
    # What is locked stays locked; what could not be had may be tried again.
    _E.BUILT: frozenset(),
    _E.REFUSED: frozenset({_E.BUILDING}),
}


def advance(table: Mapping[S, frozenset[S]], old: S, new: S) -> S:
    """Return `new` if the table allows it after `old`; raise IllegalTransition if not."""
    if new not in table[old]:
        raise IllegalTransition(f"{type(old).__name__} cannot go from {old.value} to {new.value}")
    return new


def terminal(table: Mapping[S, frozenset[S]], state: S) -> bool:
    """True if nothing can follow."""
    return not table[state]
