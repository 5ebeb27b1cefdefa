"""Questions about an assignment's iterations. Light rows: there may be a task for each of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, null, select
from sqlalchemy.orm import Session

from orchestrator.store.tables import (
    AssignmentRow,
    EdgeRow,
    IterationRow,
    ModuleRow,
    TaskRow,
    TransitionRow,
)
from protocol.lifecycle import OPEN, AssignmentState, TaskState
from protocol.module import Side

#: The states of a task that its vehicle may not have answered.
_MUTE: Final = (*OPEN, TaskState.TIMED_OUT, TaskState.EXPIRED, TaskState.CANCELLED)


class Whereabouts(NamedTuple):
    """A vehicle: whether it is connected, and when it was lost if it is not."""

    name: str
    online: bool
    gone_at: float | None


class Answer(NamedTuple):
    """One vehicle's newest task. ``outcome`` is NULL where it succeeded: values may be large."""

    vehicle: str
    state: str
    digest: str | None
    generation: int
    attempt: int
    outcome: bytes | None
    account: bytes | None


class Group(NamedTuple):
    """So many tasks that are alike. ``online`` is NULL for a vehicle that was never seen."""

    state: str
    digest: str | None
    online: bool | None
    gone_at: float | None
    number: int


class Answered(NamedTuple):
    """A task with its answer; ``outcome`` is there."""

    vehicle: str
    state: str
    iteration: int
    digest: str | None
    generation: int
    seconds: float
    outcome: bytes
    account: bytes | None
    late_at: float | None


class Late(NamedTuple):
    """An answer that came after its iteration was closed."""

    vehicle: str
    digest: str
    generation: int
    outcome: bytes


def vehicles(session: Session) -> list[Whereabouts]:
    """Every vehicle ever seen."""
    rows = select(EdgeRow.name, EdgeRow.online, EdgeRow.gone_at).where(EdgeRow.role == "vehicles")
    return [Whereabouts(*row) for row in session.execute(rows)]


def presences(session: Session) -> list[tuple[str, bool, bytes]]:
    """Every vehicle ever seen: whether it is connected, and its newest presence."""
    rows = select(EdgeRow.name, EdgeRow.online, EdgeRow.presence).where(EdgeRow.role == "vehicles")
    return [(name, online, blob) for name, online, blob in session.execute(rows)]


def _of(assignment: str, number: int) -> list[ColumnElement[bool]]:
    return [
        TaskRow.assignment == assignment,
        TaskRow.iteration == number,
        TaskRow.side == Side.ONBOARD,
        TaskRow.state != TaskState.SUPERSEDED,
    ]


def answers(session: Session, assignment: str, number: int) -> list[Answer]:
    """An iteration's on-board tasks, each in its newest attempt."""
    why = case((TaskRow.state == TaskState.SUCCEEDED, null()), else_=TaskRow.outcome)
    rows = select(
        TaskRow.edge, TaskRow.state, TaskRow.digest, TaskRow.generation, TaskRow.attempt, why,
        TaskRow.account,
    ).where(*_of(assignment, number))  # fmt: skip
    return [Answer(*row) for row in session.execute(rows)]


def groups(session: Session, assignment: str, number: int) -> list[Group]:
    """An iteration's on-board tasks, counted by state, code and their vehicles' connection."""
    key = (TaskRow.state, TaskRow.digest, EdgeRow.online, EdgeRow.gone_at)
    rows = (
        select(*key, func.count())
        .select_from(TaskRow)
        .outerjoin(EdgeRow, and_(EdgeRow.role == "vehicles", EdgeRow.name == TaskRow.edge))
        .where(*_of(assignment, number))
        .group_by(*key)
    )
    return [Group(*row) for row in session.execute(rows)]


def any_awaited(session: Session, assignment: str, number: int) -> bool:
    """True if a vehicle that is connected has not answered an iteration; told from few rows."""
    row = (
        select(TaskRow.id)
        .join(EdgeRow, and_(EdgeRow.role == "vehicles", EdgeRow.name == TaskRow.edge))
        .where(
            TaskRow.assignment == assignment,
            TaskRow.iteration == number,
            TaskRow.side == Side.ONBOARD,
            TaskRow.state.in_(OPEN),
            EdgeRow.online,
        )
    )
    return session.scalars(row.limit(1)).first() is not None


def failures(session: Session, assignment: str, number: int) -> list[tuple[str, bytes]]:
    """(vehicle, outcome) of the on-board tasks that failed."""
    rows = select(TaskRow.edge, TaskRow.outcome).where(
        *_of(assignment, number), TaskRow.state == TaskState.FAILED, TaskRow.outcome.is_not(None)
    )
    return [(edge, blob) for edge, blob in session.execute(rows) if blob is not None]


def values(session: Session, assignment: str, number: int) -> dict[str, bytes]:
    """The outcomes of the on-board tasks that succeeded, by vehicle."""
    rows = select(TaskRow.edge, TaskRow.outcome).where(
        *_of(assignment, number), TaskRow.state == TaskState.SUCCEEDED
    )
    return {edge: blob for edge, blob in session.execute(rows) if blob is not None}


def late(session: Session, assignment: str, number: int) -> list[Late]:
    """The answers to an iteration that came after it was closed."""
    rows = select(TaskRow.edge, TaskRow.digest, TaskRow.generation, TaskRow.outcome).where(
        *_of(assignment, number),
        TaskRow.late_at.is_not(None),
        TaskRow.digest.is_not(None),
        TaskRow.outcome.is_not(None),
    )
    return [
        Late(edge, digest, generation, outcome)
        for edge, digest, generation, outcome in session.execute(rows)
        if digest is not None and outcome is not None
    ]


def answered(session: Session, assignment: str, number: int) -> list[Answered]:
    """The on-board tasks of an iteration that were answered, in time or late."""
    rows = select(
        TaskRow.edge, TaskRow.state, TaskRow.iteration, TaskRow.digest, TaskRow.generation,
        TaskRow.seconds, TaskRow.outcome, TaskRow.account, TaskRow.late_at,
    ).where(*_of(assignment, number), TaskRow.outcome.is_not(None))  # fmt: skip
    # The query leaves out those without an outcome, which the types do not know.
    found: list[Any] = list(session.execute(rows))
    return [Answered(*row) for row in found]


def asked(
    session: Session, assignment: str, number: int, *, all_: bool = False
) -> list[tuple[str, str]]:
    """(vehicle, task) of those that may still work on an iteration; or of all that had one."""
    rows = select(TaskRow.edge, TaskRow.id).where(*_of(assignment, number))
    if not all_:
        rows = rows.where(TaskRow.outcome.is_(None), TaskRow.state.in_(_MUTE))
    return [(edge, id_) for edge, id_ in session.execute(rows.order_by(TaskRow.edge))]


def told_iterations(
    session: Session, assignment: str, after: int, limit: int
) -> list[tuple[int, bytes]]:
    """(number, participation) of the iterations after a number that are closed, in order."""
    rows = (
        select(IterationRow.number, IterationRow.participation)
        .where(
            IterationRow.assignment == assignment,
            IterationRow.number > after,
            IterationRow.participation != b"{}",
        )
        .order_by(IterationRow.number)
        .limit(limit)
    )
    return [(number, blob) for number, blob in session.execute(rows)]


def transitions(
    session: Session, assignment: str, after: int, limit: int
) -> Sequence[TransitionRow]:
    """The changes of state of an assignment and its tasks after a number, in order."""
    return session.scalars(
        select(TransitionRow)
        .where(TransitionRow.assignment == assignment, TransitionRow.number > after)
        .order_by(TransitionRow.number)
        .limit(limit)
    ).all()


def resumed_since(session: Session, row: AssignmentRow, time: float) -> bool:
    """True if this iteration of an assignment was begun again after a time."""
    found = select(TransitionRow.number).where(
        TransitionRow.assignment == row.id,
        TransitionRow.kind == "assignment",
        TransitionRow.iteration == row.iteration,
        TransitionRow.old == AssignmentState.HALTED,
        TransitionRow.new == AssignmentState.COLLECTING,
        TransitionRow.at > time,
    )
    return session.scalars(found.limit(1)).first() is not None


def moved_at(session: Session, subject: str, state: str) -> float:
    """When something last came to a state; 0 if that is not known any more."""
    found = select(func.max(TransitionRow.at)).where(
        TransitionRow.subject == subject, TransitionRow.new == state
    )
    return session.scalar(found) or 0.0


def cause_of(session: Session, subject: str, state: str) -> str | None:
    """Why something last came to a state; None if that is not known any more."""
    found = select(TransitionRow.cause).where(
        TransitionRow.subject == subject, TransitionRow.new == state
    )
    return session.scalars(found.order_by(TransitionRow.number.desc()).limit(1)).first()


def current_digest(session: Session, user: str, name: str) -> str | None:
    """The digest of the newest generation of an on-board module."""
    return session.scalars(
        select(ModuleRow.digest)
        .where(ModuleRow.user_id == user, ModuleRow.side == Side.ONBOARD, ModuleRow.name == name)
        .order_by(ModuleRow.generation.desc())
        .limit(1)
    ).first()
