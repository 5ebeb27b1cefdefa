"""What is forgotten, and what never is."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from orchestrator.store import Database, changes, queries
from orchestrator.store.retention import DAY_S, Keep, forget
from orchestrator.store.tables import AssignmentRow, IterationRow, TaskRow, TransitionRow
from protocol.lifecycle import TaskState
from protocol.module import Side

NOW = 100 * DAY_S


@pytest.fixture
def database(database: Database) -> Database:
    """A store with an old assignment, a newer one, and one that runs since long ago."""
    with database.transaction() as session:
        for id_, ended in (("old", 10 * DAY_S), ("new", 99 * DAY_S), ("runs", None)):
            session.add(
                AssignmentRow(
                    id=id_, user_id="ada", spec=b"{}", state="succeeded" if ended else "collecting",
                    iteration=1, onboard_generation=0, offboard_generation=0, pinned=None,
                    targets=b"[]", deadline_at=None, wake_at=None, started_at=0.0, began_at=None,
                    quorum_at=None, ended_at=ended, error=None,
                )
            )  # fmt: skip
            session.add(
                IterationRow(
                    assignment=id_, number=1, done=True, participation=b'{"car-1":1}', value=b"1"
                )
            )
            session.flush()
            task = {
                "id": f"t-{id_}", "attempt": 1, "assignment": id_, "iteration": 1,
                "side": Side.ONBOARD, "edge": "car-1", "state": TaskState.SUCCEEDED,
            }  # fmt: skip
            changes.add_tasks(session, [task], now=0.0, cause="asked")
    return database


def left(database: Database) -> tuple[set[str], set[str | None], set[str]]:
    """The assignments with tasks, with changes, and with values."""
    with database.transaction() as session:
        values = select(IterationRow.assignment).where(IterationRow.value.is_not(None))
        return (
            set(session.scalars(select(TaskRow.assignment))),
            set(session.scalars(select(TransitionRow.assignment))),
            set(session.scalars(values)),
        )


def forget_all(database: Database, keep: Keep) -> None:
    gone = 1
    while gone:
        with database.transaction() as session:
            gone = forget(session, keep, NOW)


def test_what_ended_long_ago_is_forgotten_and_who_took_part_is_not(database: Database) -> None:
    forget_all(database, Keep(days=30))
    assert left(database) == ({"new", "runs"},) * 3
    with database.transaction() as session:
        assert queries.assignment(session, "old") is not None
        told = queries.iteration(session, "old", 1)
        assert told is not None
        assert (told.participation, told.value) == (b'{"car-1":1}', None)


def test_of_too_many_rows_the_oldest_go_and_running_ones_never(database: Database) -> None:
    forget_all(database, Keep(days=1000, rows=4))
    assert left(database) == ({"new", "runs"},) * 3
    forget_all(database, Keep(days=1000, rows=0))
    assert left(database) == ({"runs"},) * 3
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(AssignmentRow)) == 3
