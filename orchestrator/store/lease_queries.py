"""What is asked of the store about the leases of off-board tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session

from orchestrator.store.tables import AssignmentRow, TaskRow
from protocol.lifecycle import OPEN, AssignmentState, TaskState
from protocol.module import Side

#: How long a worker may be silent before its task is another's, in seconds.
LEASE_S: Final = 15.0
#: Those of a stopped worker have to be asked for again as well: the assignment has not ended.
_WANTED: Final = (*OPEN, TaskState.CANCELLED)


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
    return session.scalars(
        select(TaskRow.lease_until)
        .where(TaskRow.lease_until.is_not(None), TaskRow.state.in_(_WANTED))
        .order_by(TaskRow.lease_until)
        .limit(1)
    ).first()


def _waiting(*which: ColumnElement[bool]) -> Select[str]:
    return (
        select(AssignmentRow.id)
        .join(
            TaskRow,
            and_(
                TaskRow.assignment == AssignmentRow.id, TaskRow.iteration == AssignmentRow.iteration
            ),
        )
        .where(
            AssignmentRow.state == AssignmentState.COMBINING,
            TaskRow.side == Side.OFFBOARD,
            *which,
        )
        .order_by(AssignmentRow.id)
    )
