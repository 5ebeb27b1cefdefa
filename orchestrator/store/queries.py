"""Every question that is asked of the store. Rows come back; whoever asked may change them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from orchestrator.store import bulk, lease_queries
from orchestrator.store.tables import (
    IS_OPEN,
    AssignmentRow,
    DeploymentRow,
    EdgeRow,
    EnvironmentRow,
    IterationRow,
    TaskRow,
)
from protocol.lifecycle import OPEN, AssignmentState, TaskState
from protocol.module import Side

#: The largest number in a column of integers; nothing of ours is counted further.
MOST: Final = 2**31 - 1


class Deadline(NamedTuple):
    """Something whose time has come: an assignment, a deployment or an environment's key."""

    assignment: str | None = None
    deployment: str | None = None
    environment: str | None = None


def edges(session: Session, role: str) -> Sequence[EdgeRow]:
    """Every vehicle or worker ever seen, by name."""
    return session.scalars(select(EdgeRow).where(EdgeRow.role == role).order_by(EdgeRow.name)).all()


def edge(session: Session, role: str, name: str, *, lock: bool = False) -> EdgeRow | None:
    """One vehicle or worker."""
    return session.get(EdgeRow, (role, name), with_for_update=lock, populate_existing=lock)


def edge_to_change(session: Session, role: str, name: str) -> EdgeRow:
    """One vehicle or worker, which is new if nobody has seen it; nobody else changes it now."""
    found = edge(session, role, name, lock=True)
    if found is not None:
        return found
    unseen = {
        "role": role, "name": name, "online": False, "session": 0, "presence": b"",
        "gone_at": None,
    }  # fmt: skip
    postgresql = session.get_bind().dialect.name == "postgresql"
    insert = postgresql_insert if postgresql else sqlite_insert
    session.execute(insert(EdgeRow).values(unseen).on_conflict_do_nothing())
    row = edge(session, role, name, lock=True)
    if row is None:
        raise RuntimeError(f"{name} cannot be stored")
    return row


def online(session: Session, role: str) -> frozenset[str]:
    """The names of those that are connected."""
    found = select(EdgeRow.name).where(EdgeRow.role == role, EdgeRow.online)
    return frozenset(session.scalars(found))


def gone_within(session: Session, role: str, first: float, last: float) -> frozenset[str]:
    """The names of those that were lost between two times, in seconds since 1970."""
    found = select(EdgeRow.name).where(
        EdgeRow.role == role, EdgeRow.online.is_(False), EdgeRow.gone_at.between(first, last)
    )
    return frozenset(session.scalars(found))


def assignment(session: Session, id_: str) -> AssignmentRow | None:
    """One assignment; nobody else changes it, or its tasks, until this transaction ends."""
    session.flush()
    return session.get(AssignmentRow, id_, with_for_update=True, populate_existing=True)


def assignments(session: Session, user: str | None, limit: int = 200) -> Sequence[AssignmentRow]:
    """The newest assignments of a user, or of all, newest first."""
    rows = select(AssignmentRow)
    if user is not None:
        rows = rows.where(AssignmentRow.user_id == user)
    return session.scalars(rows.order_by(AssignmentRow.started_at.desc()).limit(limit)).all()


def collecting(session: Session, *, user: str | None = None) -> Sequence[AssignmentRow]:
    """The assignments whose vehicles are at work."""
    rows = select(AssignmentRow).where(AssignmentRow.state == AssignmentState.COLLECTING)
    if user is not None:
        rows = rows.where(AssignmentRow.user_id == user)
    return session.scalars(rows).all()


def combining(session: Session) -> Sequence[AssignmentRow]:
    """The assignments that wait for a worker."""
    rows = select(AssignmentRow).where(AssignmentRow.state == AssignmentState.COMBINING)
    return session.scalars(rows).all()


def undelivered(session: Session, vehicle: str) -> Sequence[TaskRow]:
    """The tasks that were ordered from a vehicle, which has not said that it has the order."""
    return session.scalars(
        select(TaskRow)
        .where(
            TaskRow.edge == vehicle,
            TaskRow.side == Side.ONBOARD,
            TaskRow.state == TaskState.QUEUED,
            IS_OPEN,
        )
        .order_by(TaskRow.assignment)
    ).all()


def waiting_for(session: Session, vehicle: str) -> Sequence[str]:
    """The assignments that a vehicle has an open task of."""
    return session.scalars(
        select(TaskRow.assignment)
        .where(
            TaskRow.edge == vehicle,
            TaskRow.side == Side.ONBOARD,
            IS_OPEN,
        )
        .distinct()
    ).all()


def iteration(session: Session, assignment_id: str, number: int) -> IterationRow | None:
    """One iteration."""
    return session.get(IterationRow, (assignment_id, number))


def finished_iterations(
    session: Session, assignment_id: str, after: int, limit: int
) -> Sequence[IterationRow]:
    """The finished iterations after a number, in order."""
    return session.scalars(
        select(IterationRow)
        .where(
            IterationRow.assignment == assignment_id,
            IterationRow.number > after,
            IterationRow.done,
        )
        .order_by(IterationRow.number)
        .limit(limit)
    ).all()


def task(session: Session, id_: str, attempt: int) -> TaskRow | None:
    """One attempt of a task."""
    if attempt > MOST:
        return None
    return session.get(TaskRow, (id_, attempt))


class Brief(NamedTuple):
    """What is needed of a task to take its answer, without its answer."""

    id: str
    attempt: int
    assignment: str
    iteration: int
    side: str
    edge: str
    state: str
    answered: bool


def lock_assignments(session: Session, ids: Collection[str]) -> None:
    """Nobody else changes these, or their tasks, until this transaction ends."""
    if session.get_bind().dialect.name == "sqlite" or not ids:
        return  # there is one transaction at a time
    those = bulk.among(session, AssignmentRow.id, ids)
    session.execute(
        select(AssignmentRow.id).where(those).order_by(AssignmentRow.id).with_for_update()
    )


def briefs(session: Session, ids: Collection[str]) -> dict[tuple[str, int], Brief]:
    """Every attempt of some tasks, by task and attempt."""
    rows = select(
        TaskRow.id, TaskRow.attempt, TaskRow.assignment, TaskRow.iteration, TaskRow.side,
        TaskRow.edge, TaskRow.state, TaskRow.outcome.is_not(None),
    ).where(bulk.among(session, TaskRow.id, ids))  # fmt: skip
    found = (Brief(*row) for row in session.connection().execute(rows))
    return {(brief.id, brief.attempt): brief for brief in found}


def tasks(session: Session, assignment_id: str, number: int, side: Side) -> Sequence[TaskRow]:
    """An iteration's tasks of one side, each in its newest attempt, by vehicle."""
    rows = session.scalars(
        select(TaskRow)
        .where(
            TaskRow.assignment == assignment_id,
            TaskRow.iteration == number,
            TaskRow.side == side,
            TaskRow.state != TaskState.SUPERSEDED,
        )
        .order_by(TaskRow.edge)
    )
    return rows.all()


class Progress(NamedTuple):
    """How many on-board tasks of an iteration were ordered, answered, and failed."""

    answered: int
    asked: int
    failed: int


def progress(session: Session, assignment_id: str, number: int) -> Progress:
    """How far an iteration is, counted from an index alone."""
    rows = (
        select(TaskRow.state, func.count())
        .where(
            TaskRow.assignment == assignment_id,
            TaskRow.iteration == number,
            TaskRow.side == Side.ONBOARD,
        )
        .group_by(TaskRow.state)
    )
    counted = {TaskState(state): count for state, count in session.execute(rows)}
    asked = sum(
        count
        for state, count in counted.items()
        if state not in (TaskState.SUPERSEDED, TaskState.EXPIRED)
    )
    left = sum(counted.get(state, 0) for state in OPEN)
    return Progress(asked - left, asked, counted.get(TaskState.FAILED, 0))


def deadlines(session: Session, until: float, limit: int = 100) -> list[Deadline]:
    """What is overdue at a time and nobody else looks after; it is locked, the oldest first."""

    def due(key: InstrumentedAttribute[str], at: Any) -> Sequence[str]:
        rows = select(key).where(at <= until).order_by(at, key).limit(limit)
        return session.scalars(rows.with_for_update(skip_locked=True)).all()

    session.flush()
    a = due(AssignmentRow.id, AssignmentRow.wake_at)
    d = due(DeploymentRow.id, DeploymentRow.deadline_at)
    e = due(EnvironmentRow.key, EnvironmentRow.deadline_at)
    return [
        *(Deadline(assignment=id_) for id_ in a),
        *(Deadline(deployment=id_) for id_ in d),
        *(Deadline(environment=key) for key in e),
    ]


def next_deadline(session: Session) -> float | None:
    """When to look again."""
    times = [
        session.scalar(select(func.min(AssignmentRow.wake_at))),
        session.scalar(select(func.min(DeploymentRow.deadline_at))),
        session.scalar(select(func.min(EnvironmentRow.deadline_at))),
        lease_queries.next_end(session),
    ]
    return min((t for t in times if t is not None), default=None)
