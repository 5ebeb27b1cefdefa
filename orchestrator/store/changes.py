"""Changes of state: the only way one happens. Each is guarded by the state that is expected, and
leaves a row that tells when and why.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import insert, literal, select, update
from sqlalchemy.orm import Session

from orchestrator.metrics import CHANGES
from orchestrator.store import bulk
from orchestrator.store.lease_queries import LEASE_S
from orchestrator.store.problems import Overtaken
from orchestrator.store.queries import Brief
from orchestrator.store.tables import (
    AssignmentRow,
    DeploymentRow,
    EnvironmentRow,
    TaskRow,
    TransitionRow,
)
from protocol.lifecycle import (
    ASSIGNMENT,
    DEPLOYMENT,
    ENVIRONMENT,
    OPEN,
    TASK,
    AssignmentState,
    DeploymentState,
    EnvironmentState,
    TaskState,
    advance,
    leading_to,
)
from protocol.module import Side

log = logging.getLogger(__name__)


_TASKS: Any = TaskRow.__table__
_TRANSITIONS: Any = TransitionRow.__table__
#: What an answer says of a task.
_ANSWER: Final = (
    "edge", "digest", "generation", "seconds", "outcome", "account", "lease_until",
)  # fmt: skip


def add_tasks(session: Session, rows: Iterable[dict[str, Any]], *, now: float, cause: str) -> None:
    """Store new tasks, many at once; each dict has every column but those of the answer."""
    lease = {Side.ONBOARD: None, Side.OFFBOARD: now + LEASE_S}
    listed = [
        {
            **_UNANSWERED, "lease_until": lease[row["side"]], **row, "side": row["side"].value,
            "state": row["state"].value,
        }
        for row in rows
    ]  # fmt: skip
    if not listed:
        return
    why = _clean(cause)
    bulk.insert(session, _TASKS, listed)
    bulk.insert(
        session,
        _TRANSITIONS,
        [
            {
                "at": now, "kind": "task", "subject": row["id"], "attempt": row["attempt"],
                "assignment": row["assignment"], "iteration": row["iteration"],
                "edge": row["edge"], "old": "", "new": row["state"], "cause": why,
            }
            for row in listed
        ],
    )  # fmt: skip
    for state, number in Counter(row["state"] for row in listed).items():
        CHANGES.add("task", state, by=number)


_UNANSWERED: dict[str, Any] = {
    "digest": None, "generation": 0, "seconds": 0.0, "outcome": None, "account": None,
    "late_at": None,
}  # fmt: skip


def _clean(cause: str) -> str:
    """In bounds, and without what PostgreSQL has no place for."""
    return cause[:4000].replace("\0", "")


def move_task(
    session: Session, row: TaskRow, new: TaskState, *, now: float, cause: str, **values: Any
) -> None:
    """Move one task on, and set further columns. Raises IllegalTransition, and Overtaken."""
    advance(TASK, TaskState(row.state), new)
    _move(session, TaskRow, row, new, now=now, cause=cause, values=values)


class Move(NamedTuple):
    """A task on its way to another state, and what its answer says: `_ANSWER`, in each."""

    task: Brief
    new: TaskState
    values: Mapping[str, Any]


def move_tasks(session: Session, moves: Iterable[Move], *, now: float, cause: str) -> None:
    """Move many tasks on, in two statements. Raises IllegalTransition, and Overtaken."""
    listed = list(moves)
    if not listed:
        return
    for move in listed:
        advance(TASK, TaskState(move.task.state), move.new)
    done = bulk.update(
        session,
        _TASKS,
        [
            {
                "was_id": task.id,
                "was_attempt": task.attempt,
                "was_state": task.state,
                "new_state": new.value,
                **{f"new_{name}": values[name] for name in _ANSWER},
            }
            for task, new, values in listed
        ],
    )
    if done != len(listed):
        raise Overtaken(f"{len(listed) - done} tasks are not where they were any more")
    why = _clean(cause)
    bulk.insert(
        session,
        _TRANSITIONS,
        [
            {
                "at": now, "kind": "task", "subject": task.id, "attempt": task.attempt,
                "assignment": task.assignment, "iteration": task.iteration,
                "edge": values["edge"], "old": task.state, "new": new.value, "cause": why,
            }
            for task, new, values in listed
        ],
    )  # fmt: skip
    _forget_tasks(session)
    for new, number in Counter(move.new for move in listed).items():
        CHANGES.add("task", new.value, by=number)


def add_late(session: Session, told: Mapping[tuple[str, int], Mapping[str, Any]]) -> None:
    """Keep answers that came when nobody waited for them any more; no state changes."""
    for (id_, attempt), values in told.items():
        session.execute(
            update(TaskRow)
            .where(TaskRow.id == id_, TaskRow.attempt == attempt, TaskRow.outcome.is_(None))
            .values(**values)
            .execution_options(synchronize_session=False)
        )
    if told:
        _forget_tasks(session)


def _forget_tasks(session: Session) -> None:
    """What this session has read of tasks is read again when it is wanted."""
    for row in session.identity_map.values():
        if isinstance(row, TaskRow):
            session.expire(row)


def end_open_tasks(
    session: Session, assignment: str, iteration: int, *, now: float, cause: str,
    cancelled: bool = False,
) -> None:  # fmt: skip
    """Give up what is open in an iteration: cancelled, timed out, or expired if undelivered."""
    if cancelled:
        _end(session, assignment, iteration, OPEN, TaskState.CANCELLED, now, cause)
        return
    _end(session, assignment, iteration, OPEN[:1], TaskState.EXPIRED, now, cause)
    _end(session, assignment, iteration, OPEN[1:], TaskState.TIMED_OUT, now, cause)


def supersede_tasks(
    session: Session, assignment: str, iteration: int, *, now: float, cause: str
) -> None:
    """An iteration is begun again: later tasks take the place of all that it has."""
    new = TaskState.SUPERSEDED
    _end(session, assignment, iteration, tuple(leading_to(TASK, new)), new, now, cause)


def _end(
    session: Session, assignment: str, iteration: int, old: Sequence[TaskState], new: TaskState,
    now: float, cause: str,
) -> None:  # fmt: skip
    these = (
        TaskRow.assignment == assignment,
        TaskRow.iteration == iteration,
        TaskRow.state.in_(old),
    )
    told = select(
        literal(now), literal("task"), TaskRow.id, TaskRow.attempt, TaskRow.assignment,
        TaskRow.iteration, TaskRow.edge, TaskRow.state, literal(new.value), literal(_clean(cause)),
    ).where(*these)  # fmt: skip
    columns = [
        "at", "kind", "subject", "attempt", "assignment", "iteration", "edge", "old", "new",
        "cause",
    ]  # fmt: skip
    session.execute(insert(TransitionRow).from_select(columns, told))
    done: Any = session.execute(
        update(TaskRow)
        .where(*these)
        .values(state=new, lease_until=None)
        .execution_options(synchronize_session="fetch")
    )
    CHANGES.add("task", new.value, by=max(0, done.rowcount))


def first(
    session: Session, row: AssignmentRow | DeploymentRow, *, now: float, cause: str
) -> None:  # fmt: skip
    """A new assignment or deployment is in its first state."""
    of_assignment = isinstance(row, AssignmentRow)
    kind = "assignment" if of_assignment else "deployment"
    session.add(
        TransitionRow(
            at=now, kind=kind, subject=row.id, attempt=0,
            assignment=row.id if of_assignment else None,
            iteration=row.iteration if isinstance(row, AssignmentRow) else 0,
            edge="", old="", new=str(row.state), cause=_clean(cause),
        )
    )  # fmt: skip
    _tell(kind, row, "", str(row.state), cause)


def move_assignment(
    session: Session, row: AssignmentRow, new: AssignmentState, *, now: float, cause: str
) -> None:
    """Move an assignment on. Raises IllegalTransition, and Overtaken."""
    advance(ASSIGNMENT, AssignmentState(row.state), new)
    _move(session, AssignmentRow, row, new, now=now, cause=cause, values={})


def move_deployment(
    session: Session, row: DeploymentRow, new: DeploymentState, *, now: float, cause: str
) -> None:
    """Move a deployment on. Raises IllegalTransition, and Overtaken."""
    advance(DEPLOYMENT, DeploymentState(row.state), new)
    _move(session, DeploymentRow, row, new, now=now, cause=cause, values={})


def move_environment(
    session: Session, row: EnvironmentRow, new: EnvironmentState, *, now: float, cause: str
) -> None:
    """Move an environment on. Raises IllegalTransition, and Overtaken."""
    old = EnvironmentState(row.state)
    advance(ENVIRONMENT, old, new)
    session.flush()
    done: Any = session.execute(
        update(EnvironmentRow)
        .where(EnvironmentRow.key == row.key, EnvironmentRow.state == old)
        .values(state=new)
        .execution_options(synchronize_session="evaluate")
    )
    if done.rowcount != 1:
        raise Overtaken(f"environment {row.key} is not {old} any more")
    CHANGES.add("environment", new.value)
    session.add(
        TransitionRow(
            at=now, kind="environment", subject=row.key, attempt=0, assignment=None, iteration=0,
            edge="", old=str(old), new=new.value, cause=_clean(cause),
        )
    )  # fmt: skip


def _move(
    session: Session, table: Any, row: Any, new: Any, *, now: float, cause: str,
    values: dict[str, Any],
) -> None:  # fmt: skip
    session.flush()
    old = row.state
    where = [table.id == row.id, table.state == old]
    if table is TaskRow:
        where.append(TaskRow.attempt == row.attempt)
    done: Any = session.execute(
        update(table)
        .where(*where)
        .values(state=new, **values)
        .execution_options(synchronize_session="evaluate")
    )
    if done.rowcount != 1:
        raise Overtaken(f"{table.__tablename__} {row.id} is not {old} any more")
    task, deployment = table is TaskRow, table is DeploymentRow
    kind = "task" if task else "deployment" if deployment else "assignment"
    _tell(kind, row, old, new, cause)
    session.add(
        TransitionRow(
            at=now,
            kind=kind,
            subject=row.id,
            attempt=row.attempt if task else 0,
            assignment=row.assignment if task else None if deployment else row.id,
            iteration=0 if deployment else row.iteration,
            edge=row.edge if task else "",
            old=str(old),
            new=str(new),
            cause=_clean(cause),
        )
    )


def _tell(kind: str, row: Any, old: str, new: str, cause: str) -> None:
    """Count a change and write it to the log: of tasks there are too many to be told unasked."""
    CHANGES.add(kind, str(new))
    level = logging.DEBUG if kind == "task" else logging.INFO
    if log.isEnabledFor(level):
        extra = {kind: row.id}
        if kind == "task":
            extra |= {"attempt": row.attempt, "assignment": row.assignment, "vehicle": row.edge}
        log.log(level, "%s %s -> %s: %s", kind, old, new, cause, extra=extra)
