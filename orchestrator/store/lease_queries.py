"""What is asked of the store about the leases of off-board tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.orm import Session

from orchestrator.store.tables import AssignmentRow, TaskRow
from protocol.lifecycle import OPEN, AssignmentState, TaskState
from protocol.module import Side

#: How long a worker may be silent before its task is another's, in seconds.
LEASE_S: Final = 15.0
#: A worker that gets an order shows it at once. Who has not shown it after this share of the time
#: that is left has not got it: a broker that was restarted loses what it had taken. But a network
#: may be slow, so not sooner than so many seconds.
_ASKED_SHARE, _ASKED_S = 1 / 3, 3.0
#: Those of a stopped worker have to be asked for again as well: the assignment has not ended.
_WANTED: Final = (*OPEN, TaskState.CANCELLED)


def asked_s(left_s: float) -> float:
    """How long an order has until a worker shows for the first time that it works on it."""
    return min(LEASE_S, max(_ASKED_S, left_s * _ASKED_SHARE))


def expired(session: Session, now: float, limit: int = 100) -> Sequence[str]:
    """The assignments that wait for a worker whose lease is over."""
    over = (TaskRow.lease_until <= now, TaskRow.state.in_(_WANTED))
    return session.scalars(_waiting(*over).limit(limit)).all()


def held(session: Session, worker: str) -> Sequence[str]:
    """The assignments that wait for this worker, or for nobody in particular."""
    return session.scalars(
        _waiting(
            or_(
                and_(TaskRow.edge.in_(["", worker]), TaskRow.state.in_(OPEN)),
                TaskRow.state == TaskState.CANCELLED,
            )
        )
    ).all()


def next_end(session: Session) -> float | None:
    """When the next lease is over."""
    # Of the same tasks that `expired` finds: another's lease must not keep everybody awake.
    return session.scalar(
        select(func.min(TaskRow.lease_until))
        .select_from(AssignmentRow)
        .join(TaskRow, _OF_IT)
        .where(*_COMBINED, TaskRow.state.in_(_WANTED), TaskRow.lease_until.is_not(None))
    )


def renew(session: Session, task: str, attempt: int, worker: str, until: float) -> None:
    """A worker has shown that it works on a task; one that has ended stays as it is."""
    session.execute(
        update(TaskRow)
        .where(TaskRow.id == task, TaskRow.attempt == attempt, TaskRow.state.in_(OPEN))
        .values(edge=worker, lease_until=until)
        .execution_options(synchronize_session="evaluate")
    )


def shorten(session: Session, task: str, attempt: int, until: float) -> None:
    """A worker may be lost: its lease ends sooner, unless it shows that it is there."""
    session.execute(
        update(TaskRow)
        .where(TaskRow.id == task, TaskRow.attempt == attempt, TaskRow.lease_until > until)
        .values(lease_until=until)
        .execution_options(synchronize_session="evaluate")
    )


_OF_IT: Final = and_(
    TaskRow.assignment == AssignmentRow.id, TaskRow.iteration == AssignmentRow.iteration
)
_COMBINED: Final = (
    AssignmentRow.state == AssignmentState.COMBINING,
    TaskRow.side == Side.OFFBOARD,
)


def _waiting(*which: ColumnElement[bool]) -> Select[str]:
    return (
        select(AssignmentRow.id)
        .join(TaskRow, _OF_IT)
        .where(*_COMBINED, *which)
        .order_by(AssignmentRow.id)
    )
