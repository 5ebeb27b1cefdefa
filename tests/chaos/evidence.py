"""What the store says after it all: read with plain queries, beside the code that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from orchestrator.store.tables import (
    AssignmentRow,
    Base,
    IterationRow,
    ModuleRow,
    OutboxRow,
    TaskRow,
    TransitionRow,
)
from orchestrator.turn import load
from protocol import topics, values
from protocol.assignment import Assignment
from protocol.outcome import Kind
from tests.chaos.asks import tag_of
from tests.chaos.history import Change

#: What analysts are told they may ask for again.
_UNSENT: Final = (
    select(func.count())
    .select_from(OutboxRow)
    .where(OutboxRow.topic.not_like(f"{topics.ROOT}/analysts/%"))
)
_CHANGES: Final = select(TransitionRow).order_by(TransitionRow.number)


@dataclass(frozen=True)
class TaskSeen:
    """A row of the table of tasks."""

    id: str
    attempt: int
    assignment: str
    iteration: int
    side: str
    edge: str
    state: str
    digest: str | None = None
    value: Any = None
    late: bool = False


@dataclass(frozen=True)
class IterationSeen:
    """A row of the table of iterations; ``participation`` is vehicle to status."""

    assignment: str
    number: int
    done: bool
    value: Any
    participation: Mapping[str, str]


@dataclass(frozen=True)
class AssignmentSeen:
    """A row of the table of assignments."""

    id: str
    spec: Assignment
    state: str
    iteration: int
    deadline_at: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Evidence:
    """All of it. ``tags`` is digest to what that code says; ``outbox`` counts unsent messages."""

    assignments: tuple[AssignmentSeen, ...]
    iterations: tuple[IterationSeen, ...]
    tasks: tuple[TaskSeen, ...]
    tags: Mapping[str, int] = field(default_factory=dict)
    outbox: int = 0
    changes: tuple[Change, ...] = ()

    @classmethod
    def read(cls, url: str) -> Evidence:
        """Read it from a store."""
        engine = create_engine(url)
        try:
            with Session(engine) as session:
                return cls(
                    tuple(map(_assignment, session.scalars(select(AssignmentRow)))),
                    tuple(map(_iteration, session.scalars(select(IterationRow)))),
                    tuple(map(_task, session.scalars(select(TaskRow)))),
                    _tags(session),
                    session.scalar(_UNSENT) or 0,
                    tuple(map(_change, session.scalars(_CHANGES))),
                )
        finally:
            engine.dispose()


def copy(url: str, path: Path) -> None:
    """Copy a store into a file: a database that goes with its container cannot be looked at."""
    source, target = create_engine(url), create_engine(f"sqlite:///{path}")
    try:
        Base.metadata.create_all(target)
        with source.connect() as there, target.begin() as here:
            for table in Base.metadata.sorted_tables:
                if rows := [dict(row) for row in there.execute(select(table)).mappings()]:
                    here.execute(table.insert(), rows)
    finally:
        source.dispose()
        target.dispose()


def _assignment(row: AssignmentRow) -> AssignmentSeen:
    return AssignmentSeen(
        id=row.id,
        spec=Assignment.model_validate(load(row.spec)),
        state=row.state,
        iteration=row.iteration,
        deadline_at=row.deadline_at,
        error=load(row.error)["message"] if row.error else "",
    )


def _iteration(row: IterationRow) -> IterationSeen:
    return IterationSeen(
        assignment=row.assignment,
        number=row.number,
        done=row.done,
        value=_value(load(row.value)) if row.value is not None else None,
        participation={v: str(p["status"]) for v, p in load(row.participation).items()},
    )


def _task(row: TaskRow) -> TaskSeen:
    outcome = load(row.outcome) if row.outcome else {}
    return TaskSeen(
        id=row.id,
        attempt=row.attempt,
        assignment=row.assignment,
        iteration=row.iteration,
        side=row.side,
        edge=row.edge,
        state=row.state,
        digest=row.digest,
        value=_value(outcome.get("value")),
        late=row.late_at is not None and outcome.get("kind") == Kind.VALUE,
    )


def _change(row: TransitionRow) -> Change:
    return Change(row.kind, row.subject, row.attempt, row.old, row.new)


def _value(tree: Any) -> Any:
    return values.unpack(values.check(tree))


def _tags(session: Session) -> dict[str, int]:
    found = {row.digest: tag_of(row.source.decode()) for row in session.scalars(select(ModuleRow))}
    return {digest: tag for digest, tag in found.items() if tag is not None}
