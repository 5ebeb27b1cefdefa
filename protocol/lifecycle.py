"""States and the tables of legal transitions. Nothing else changes a state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from protocol.errors import IllegalTransition


class TaskState(StrEnum):
    """Where a task of one vehicle or worker stands."""

    QUEUED = "queued"  # ordered
    DELIVERED = "delivered"  # accepted: it is in the vehicle's journal
    COLLECTING = "collecting"  # its window fills
    RUNNING = "running"  # its method computes
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"  # delivered, and without an answer when its time was over
    EXPIRED = "expired"  # its time was over before it was delivered
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # a later attempt has its place


class AssignmentState(StrEnum):
    """Where an assignment stands."""

    COLLECTING = "collecting"
    COMBINING = "combining"
    HALTED = "halted"  # its module fails on too many vehicles: it waits for a repair
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeploymentState(StrEnum):
    """Where a deployment stands."""

    BUILDING = "building"
    VERIFYING = "verifying"
    AWAITING_APPROVAL = "awaiting_approval"  # verified; a second person has to look at it
    SHIPPED = "shipped"
    REFUSED = "refused"


class EnvironmentState(StrEnum):
    """Where a request for an environment stands."""

    BUILDING = "building"
    BUILT = "built"
    REFUSED = "refused"


S = TypeVar("S", bound=StrEnum)

_T, _A, _D, _E = TaskState, AssignmentState, DeploymentState, EnvironmentState

#: In the order of a task's way. A report may be lost, so a step may be left out.
OPEN: Final = (_T.QUEUED, _T.DELIVERED, _T.COLLECTING, _T.RUNNING)
_ANSWERED: Final = frozenset({_T.SUCCEEDED, _T.FAILED, _T.REJECTED, _T.CANCELLED, _T.SUPERSEDED})
#: Nothing more is expected of it.
ENDED: Final = frozenset(_T) - frozenset(OPEN)

TASK: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    _T.QUEUED: frozenset(OPEN[1:]) | _ANSWERED | {_T.EXPIRED},
    _T.DELIVERED: frozenset(OPEN[2:]) | _ANSWERED | {_T.TIMED_OUT},
    _T.COLLECTING: frozenset(OPEN[3:]) | _ANSWERED | {_T.TIMED_OUT},
    _T.RUNNING: _ANSWERED | {_T.TIMED_OUT},
    # Asked again: of a vehicle whose code has been replaced since, of all when an iteration is
    # begun again, of another worker when one is lost.
    **{state: frozenset({_T.SUPERSEDED}) for state in ENDED - {_T.SUPERSEDED}},
    _T.SUPERSEDED: frozenset(),
}

ASSIGNMENT: Final[Mapping[AssignmentState, frozenset[AssignmentState]]] = {
    _A.COLLECTING: frozenset({_A.COMBINING, _A.HALTED, _A.FAILED, _A.CANCELLED}),
    _A.COMBINING: frozenset({_A.COLLECTING, _A.SUCCEEDED, _A.FAILED, _A.CANCELLED}),
    # Begun again with repaired code; given up when nobody repairs it.
    _A.HALTED: frozenset({_A.COLLECTING, _A.FAILED, _A.CANCELLED}),
    _A.SUCCEEDED: frozenset(),
    _A.FAILED: frozenset(),
    _A.CANCELLED: frozenset(),
}

DEPLOYMENT: Final[Mapping[DeploymentState, frozenset[DeploymentState]]] = {
    _D.BUILDING: frozenset({_D.VERIFYING, _D.REFUSED}),
    _D.VERIFYING: frozenset({_D.AWAITING_APPROVAL, _D.SHIPPED, _D.REFUSED}),
    _D.AWAITING_APPROVAL: frozenset({_D.SHIPPED, _D.REFUSED}),
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


def leading_to(table: Mapping[S, frozenset[S]], new: S) -> frozenset[S]:
    """The states from which the table allows `new`: what the store expects to find."""
    return frozenset(old for old, follow in table.items() if new in follow)


def terminal(table: Mapping[S, frozenset[S]], state: S) -> bool:
    """True if nothing can follow."""
    return not table[state]
