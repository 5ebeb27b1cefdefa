"""Who is told that an assignment has ended before its last iteration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from orchestrator import assignments, events
from orchestrator.turn import Turn, dump
from protocol import topics
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.lifecycle import AssignmentState, TaskState


@pytest.mark.parametrize(
    ("isolation", "told"), [("call", ["late"]), ("assignment", ["done", "late"])]
)
def test_a_vehicle_that_keeps_a_container_is_told_though_it_has_answered(
    monkeypatch: pytest.MonkeyPatch, isolation: Literal["call", "assignment"], told: list[str]
) -> None:
    spec = Assignment(
        vehicles=Select.all(),
        onboard=Onboard("custom", module="m", signals="S", samples=3, isolation=isolation),
        offboard=Offboard("mean"),
        iterations=5,
    )
    row: Any = SimpleNamespace(
        id="a", user_id="ada", iteration=2, state=AssignmentState.COLLECTING, spec=dump(spec),
        deadline_at=None, error=None,
    )  # fmt: skip
    tasks = [
        SimpleNamespace(edge="done", state=TaskState.SUCCEEDED),
        SimpleNamespace(edge="late", state=TaskState.QUEUED),
    ]
    queries: Any = SimpleNamespace(
        tasks=lambda *_: tasks, online=lambda *_: [], end_open_tasks=lambda *_: None
    )
    monkeypatch.setattr(assignments, "queries", queries)
    monkeypatch.setattr(events, "of_end", lambda *_: spec)
    turn = Turn(session=SimpleNamespace(), now=0.0)  # type: ignore[arg-type]
    assignments.cancel(turn, row)
    orders = [o.topic for o in turn.outgoing if o.topic.endswith("orders")]
    assert orders == [topics.orders("vehicles", name) for name in told]
