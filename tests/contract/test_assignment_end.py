"""Who is told that an assignment has ended before its last iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from orchestrator import endings
from orchestrator.bundle import written
from orchestrator.store import Database, changes
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn, dump
from protocol import topics
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.lifecycle import TaskState
from protocol.module import Side


@pytest.mark.parametrize(
    ("isolation", "told"), [("call", ["late"]), ("assignment", ["done", "late"])]
)
def test_a_vehicle_that_keeps_a_container_is_told_though_it_has_answered(
    tmp_path: Path, isolation: Literal["call", "assignment"], told: list[str]
) -> None:
    spec = Assignment(
        vehicles=Select.all(),
        onboard=Onboard("custom", module="m", signals="S", samples=3, isolation=isolation),
        offboard=Offboard("mean"),
        iterations=5,
    )
    row = AssignmentRow(
        id="a", user_id="ada", iteration=2, state="collecting", spec=dump(spec), targets=b"[]",
        onboard_generation=1, offboard_generation=0, started_at=0.0,
    )  # fmt: skip
    database = Database(f"sqlite:///{tmp_path}/store.db")
    with database.transaction() as session:
        session.add(row)
        session.flush()
        tasks = [
            {
                "id": name, "attempt": 1, "assignment": "a", "iteration": 2, "edge": name,
                "side": Side.ONBOARD, "state": state,
            }
            for name, state in (("done", TaskState.SUCCEEDED), ("late", TaskState.QUEUED))
        ]  # fmt: skip
        changes.add_tasks(session, tasks, now=0.0, cause="asked")
        turn = Turn(session, 1.0)
        endings.cancel(turn, row)
    database.close()
    orders = [
        o.topic for item in turn.outgoing for o in written(item) if o.topic.endswith("orders")
    ]
    assert orders == [topics.orders("vehicles", name) for name in told]
