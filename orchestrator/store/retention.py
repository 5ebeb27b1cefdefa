"""What is forgotten: tasks, values and changes of assignments that ended long ago.

The assignments themselves, and who took part in which iteration, stay for ever.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from orchestrator.store import usage
from orchestrator.store.tables import AssignmentRow, IterationRow, TaskRow, TransitionRow

#: Rows that are removed in one transaction at most, so that nobody waits for it.
AT_A_TIME: Final = 2000
DAY_S: Final = 86_400.0


class Keep(NamedTuple):
    """For how many days after its end an assignment's rows are kept, and how many rows in all."""

    days: float = 30.0
    rows: int = 5_000_000


def forget(session: Session, keep: Keep, now: float) -> int:
    """Remove some rows of the assignments that ended first, if it is time; how many it were.

    Those that have not ended are never touched. Several may do this at once.
    """
    usage.forget(session, int(now // DAY_S))
    oldest = _oldest(session, None if _too_many(session, keep) else now - keep.days * DAY_S)
    if oldest is None:
        return 0
    gone = _values(session, oldest)
    for table, key in (
        (TaskRow, (TaskRow.id, TaskRow.attempt)),
        (TransitionRow, (TransitionRow.number,)),
    ):
        if gone < AT_A_TIME:
            gone += _some(session, table, key, oldest, AT_A_TIME - gone)
    return gone


def _too_many(session: Session, keep: Keep) -> bool:
    tasks = session.scalar(select(func.count()).select_from(TaskRow)) or 0
    changes = session.scalar(select(func.count()).select_from(TransitionRow)) or 0
    return tasks + changes > keep.rows


def _oldest(session: Session, before: float | None) -> str | None:
    """The assignment that ended first of those that have rows to forget."""
    has_rows = (
        select(TaskRow.id).where(TaskRow.assignment == AssignmentRow.id).exists()
        | select(TransitionRow.number).where(TransitionRow.assignment == AssignmentRow.id).exists()
        | select(IterationRow.number)
        .where(IterationRow.assignment == AssignmentRow.id, IterationRow.value.is_not(None))
        .exists()
    )
    rows = select(AssignmentRow.id).where(AssignmentRow.ended_at.is_not(None), has_rows)
    if before is not None:
        rows = rows.where(AssignmentRow.ended_at < before)
    rows = rows.order_by(AssignmentRow.ended_at).limit(1)
    return session.scalars(rows.with_for_update(skip_locked=True, of=AssignmentRow)).first()


def _values(session: Session, assignment: str) -> int:
    done: Any = session.execute(
        update(IterationRow)
        .where(IterationRow.assignment == assignment, IterationRow.value.is_not(None))
        .values(value=None)
        .execution_options(synchronize_session=False)
    )
    return int(done.rowcount)


def _some(session: Session, table: Any, key: tuple[Any, ...], assignment: str, limit: int) -> int:
    these = session.execute(select(*key).where(table.assignment == assignment).limit(limit)).all()
    for start in range(0, len(these), 200):
        chunk = [tuple(row) for row in these[start : start + 200]]
        session.execute(
            delete(table)
            .where(tuple_(*key).in_(chunk))
            .execution_options(synchronize_session=False)
        )
    return len(these)
