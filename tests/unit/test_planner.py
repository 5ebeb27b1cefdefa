"""The planner: a situation in, a step out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.planner import AskAgain, Combine, GiveUp, Situation, TaskView, Wait, next_step
from protocol.assignment import Assignment, Offboard, Onboard
from protocol.lifecycle import TaskState
from protocol.outcome import Exceeded, Fault, Kind, Limit, Line, Outcome

OLD, NEW = "a" * 64, "b" * 64
VALUE = Outcome(kind=Kind.VALUE, value=1.0)


def done(vehicle: str, digest: str = NEW, generation: int = 2) -> TaskView:
    return TaskView(vehicle, TaskState.SUCCEEDED, digest, generation, VALUE)


def queued(vehicle: str) -> TaskView:
    return TaskView(vehicle, TaskState.QUEUED)


def situation(*tasks: TaskView, consistency: Any = "majority", **changes: Any) -> Situation:
    spec = Assignment(
        onboard=Onboard("custom", module="m", signals="A", samples=1),
        offboard=Offboard("mean"),
        consistency=consistency,
    )
    names = frozenset(t.vehicle for t in tasks)
    facts: dict[str, Any] = {
        "online": names, "known": names, "overdue": False, "current": NEW, "pinned": None,
    }  # fmt: skip
    return Situation(assignment=spec, tasks=tasks, **{**facts, **changes})


def statuses(step: Any) -> dict[str, str]:
    assert isinstance(step, Combine | GiveUp)
    return {vehicle: p.status for vehicle, p in step.participation.items()}


def test_it_waits_for_a_vehicle_that_can_still_answer() -> None:
    assert next_step(situation(done("car-1"), queued("car-2"))) == Wait()


def test_it_does_not_wait_for_one_that_is_gone_or_was_never_there() -> None:
    step = next_step(
        situation(
            done("car-1"), queued("car-2"), queued("ghost"),
            online=frozenset({"car-1"}), known=frozenset({"car-1", "car-2"}),
        )
    )  # fmt: skip
    assert isinstance(step, Combine)
    assert step.kept == ("car-1",)
    assert statuses(step) == {"car-1": "included", "car-2": "offline", "ghost": "unknown"}


def test_a_deadline_ends_the_iteration_with_what_is_there() -> None:
    step = next_step(situation(done("car-1"), queued("car-2"), overdue=True))
    assert statuses(step) == {"car-1": "included", "car-2": "late"}


def test_failures_are_told_apart_with_their_reason() -> None:
    crash = Outcome(
        kind=Kind.MODULE_ERROR,
        fault=Fault(
            type="KeyError", message="'x'", lines=(Line(number=3, function="custom_code"),)
        ),
    )
    limit = Outcome(
        kind=Kind.LIMIT_EXCEEDED,
        exceeded=Exceeded(limit=Limit.MEMORY, configured=512, unit="MiB"),
    )
    refused = Outcome(kind=Kind.REFUSED, reason="no signal A here")
    step = next_step(
        situation(
            done("car-1"),
            TaskView("car-2", TaskState.FAILED, NEW, 2, crash),
            TaskView("car-3", TaskState.FAILED, NEW, 2, limit),
            TaskView("car-4", TaskState.REJECTED, None, 0, refused),
        )
    )
    assert isinstance(step, Combine)
    assert statuses(step) == {
        "car-1": "included", "car-2": "crashed", "car-3": "limit", "car-4": "refused",
    }  # fmt: skip
    assert "line 3" in step.participation["car-2"].reason
    assert "memory" in step.participation["car-3"].reason
    assert "no signal A" in step.participation["car-4"].reason


def test_not_one_usable_result_gives_up_and_says_why() -> None:
    step = next_step(situation(queued("car-1"), overdue=True))
    assert isinstance(step, GiveUp)
    assert "car-1 is late" in step.message


def test_newest_asks_again_of_those_whose_code_was_replaced() -> None:
    now = situation(done("car-1"), done("car-2", OLD, 1), consistency="newest")
    assert next_step(now) == AskAgain(("car-2",))


def test_newest_ends_at_the_deadline_without_them() -> None:
    now = situation(done("car-1"), done("car-2", OLD, 1), consistency="newest", overdue=True)
    assert statuses(next_step(now)) == {"car-1": "included", "car-2": "wrong_code"}


@given(
    st.lists(
        st.sampled_from(list(TaskState)).filter(lambda s: s is not TaskState.SUPERSEDED),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_when_overdue_there_is_always_an_end_and_everyone_is_named(
    states: list[TaskState], alive: bool
) -> None:
    tasks = [
        TaskView(
            f"car-{i}", s, NEW if s is TaskState.SUCCEEDED else None, 1,
            VALUE if s is TaskState.SUCCEEDED else None,
        )
        for i, s in enumerate(states)
    ]  # fmt: skip
    names = frozenset(t.vehicle for t in tasks)
    now = situation(*tasks, overdue=True, online=names if alive else frozenset())
    step = next_step(now)
    assert isinstance(step, Combine | GiveUp)
    assert set(step.participation) == names
