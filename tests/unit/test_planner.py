"""The planner: a situation in, a step out; and the laws that hold whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.consistency import Made
from orchestrator.planner import (
    MAX_ATTEMPTS,
    REBOOT_S,
    RECONNECT_S,
    Close,
    Closed,
    Count,
    Decision,
    Failure,
    Fleet,
    Halt,
    Miss,
    Situation,
    TaskView,
    Wait,
    close,
    count,
    decide,
    needed,
    nobody,
    stale,
)
from protocol.assignment import Assignment, Offboard, Onboard
from protocol.lifecycle import OPEN, TaskState
from protocol.outcome import Kind

OLD, NEW = "a" * 64, "b" * 64
CRASH = Failure(Kind.MODULE_ERROR, "KeyError: 'x' (line 3, in custom_code)")
LIMIT = Failure(Kind.LIMIT_EXCEEDED, "memory limit of 512 MiB exceeded")
BUDGET = Failure(Kind.LIMIT_EXCEEDED, "budget limit of 3 container starts exceeded", budget=True)
BEGAN, NOW, DEADLINE = 100.0, 110.0, 130.0


def done(vehicle: str, digest: str = NEW, generation: int = 2) -> TaskView:
    return TaskView(vehicle, TaskState.SUCCEEDED, digest, generation)


def still(vehicle: str, state: TaskState = TaskState.QUEUED) -> TaskView:
    return TaskView(vehicle, state)


def failed(vehicle: str, failure: Failure = CRASH) -> TaskView:
    return TaskView(vehicle, TaskState.FAILED, NEW, 2, failure)


def situation(*, custom: bool = True, **changes: Any) -> Situation:
    facts: dict[str, Any] = {
        "iteration": 1, "now": NOW, "began_at": BEGAN, "deadline_at": DEADLINE,
        "quorum_at": None, "current": NEW, "pinned": None,
    }  # fmt: skip
    own = {name: changes.pop(name) for name in list(changes) if name in facts}
    onboard = (
        Onboard("custom", module="m", signals="A", samples=1)
        if custom
        else Onboard("mean", signals="A", samples=1)
    )
    spec = Assignment(onboard=onboard, offboard=Offboard("mean"), **changes)
    return Situation(assignment=spec, **{**facts, **own})


def all_online(*tasks: TaskView) -> Fleet:
    return Fleet(frozenset(t.vehicle for t in tasks), {})


def decision(now: Situation, *tasks: TaskView, fleet: Fleet | None = None) -> Decision:
    return decide(now, count(tasks, now, fleet or all_online(*tasks)))


def statuses(closed: Closed) -> dict[str, str]:
    return {vehicle: standing.status for vehicle, standing in closed.ledger.items()}


# --- who is awaited ---------------------------------------------------------------------------


def test_it_waits_for_a_vehicle_that_can_still_answer() -> None:
    assert decision(situation(), done("car-1"), still("car-2")) == Wait(DEADLINE)


def test_it_does_not_wait_for_one_that_is_gone_or_was_never_there() -> None:
    tasks = (done("car-1"), still("car-2"), still("ghost"))
    fleet = Fleet(frozenset({"car-1"}), {"car-2": NOW - 1})
    # It may only have lost its connection: a broker that restarts takes everybody's.
    assert decision(situation(), *tasks, fleet=fleet) == Wait(NOW - 1 + RECONNECT_S)
    fleet = Fleet(frozenset({"car-1"}), {"car-2": NOW - RECONNECT_S})
    assert decision(situation(), *tasks, fleet=fleet) == Close()
    closed = close(tasks, situation(), fleet)
    assert closed.kept == ("car-1",)
    assert statuses(closed) == {"car-1": "included", "car-2": "offline", "ghost": "unknown"}


@pytest.mark.parametrize("state", OPEN[1:])
def test_one_that_accepted_and_is_lost_is_given_the_time_of_a_reboot(state: TaskState) -> None:
    tasks = (done("car-1"), still("car-2", state))
    lost = Fleet(frozenset({"car-1"}), {"car-2": NOW - 5})
    assert decision(situation(), *tasks, fleet=lost) == Wait(NOW - 5 + REBOOT_S)
    assert decision(situation(now=NOW - 5 + REBOOT_S), *tasks, fleet=lost) == Close()
    late = situation(now=DEADLINE)
    assert decision(late, *tasks, fleet=Fleet(frozenset({"car-1"}), {"car-2": DEADLINE})) == Close()


def test_a_deadline_ends_the_iteration_with_what_is_there() -> None:
    tasks, now = (done("car-1"), still("car-2")), situation(now=DEADLINE)
    assert decision(now, *tasks) == Close()
    assert statuses(close(tasks, now, all_online(*tasks))) == {
        "car-1": "included", "car-2": "late",
    }  # fmt: skip


def test_failures_are_told_apart_with_their_reason() -> None:
    refused = TaskView("car-4", TaskState.REJECTED, failure=Failure(Kind.REFUSED, "no signal A"))
    tasks = (done("car-1"), failed("car-2"), failed("car-3", LIMIT), refused)
    closed = close(tasks, situation(), all_online(*tasks))
    assert statuses(closed) == {
        "car-1": "included", "car-2": "crashed", "car-3": "limit", "car-4": "refused",
    }  # fmt: skip
    assert "line 3" in closed.ledger["car-2"].reason
    assert "memory" in closed.ledger["car-3"].reason
    assert "no signal A" in closed.ledger["car-4"].reason


def test_not_one_usable_result_says_why() -> None:
    now = situation(now=DEADLINE)
    closed = close([still("car-1")], now, all_online(still("car-1")))
    assert closed.kept == ()
    assert "car-1 is late" in nobody(closed.ledger)


# --- code that was replaced -------------------------------------------------------------------


def test_newest_asks_again_of_those_whose_code_was_replaced() -> None:
    tasks, now = (done("car-1"), done("car-2", OLD, 1)), situation(consistency="newest")
    assert stale(tasks, now, all_online(*tasks)) == ("car-2",)
    often = tuple(t._replace(attempt=MAX_ATTEMPTS) for t in tasks)
    assert stale(often, now, all_online(*tasks)) == ()
    assert stale(tasks, now._replace(now=DEADLINE), all_online(*tasks)) == ()


def test_newest_ends_at_the_deadline_without_them() -> None:
    tasks = (done("car-1"), done("car-2", OLD, 1))
    now = situation(consistency="newest", now=DEADLINE)
    assert statuses(close(tasks, now, all_online(*tasks))) == {
        "car-1": "included", "car-2": "wrong_code",
    }  # fmt: skip


# --- quorum -----------------------------------------------------------------------------------


def test_a_quorum_that_is_reached_gives_the_others_as_long_again() -> None:
    tasks, now = (done("car-1"), done("car-2"), still("car-3")), situation(quorum=2)
    assert decision(now, *tasks) == Wait(until=NOW + (NOW - BEGAN), quorum_at=NOW)
    rest = now._replace(quorum_at=NOW, now=NOW + 9)
    assert decision(rest, *tasks) == Wait(until=NOW + 10, quorum_at=NOW)
    over = now._replace(quorum_at=NOW, now=NOW + 10)
    assert decision(over, *tasks) == Close()
    reason = close(tasks, over, all_online(*tasks)).ledger["car-3"].reason
    assert "quorum" in reason


def test_a_quorum_that_is_reached_at_once_gives_the_others_a_second() -> None:
    now = situation(quorum=1, now=BEGAN + 0.01)
    found = decision(now, done("car-1"), still("car-2"))
    assert found == Wait(until=BEGAN + 1.01, quorum_at=BEGAN + 0.01)


def test_a_quorum_counts_the_results_that_would_be_combined() -> None:
    tasks = (done("car-1"), done("car-2", OLD, 1), still("car-3"))
    assert decision(situation(quorum=2), *tasks) == Wait(DEADLINE)
    assert isinstance(decision(situation(quorum=3), *tasks), Miss)
    assert decision(situation(quorum=2, consistency="any"), *tasks) != Wait(DEADLINE)


def test_a_quorum_is_missed_at_the_deadline_or_when_it_cannot_be_reached() -> None:
    waiting = (done("car-1"), still("car-2"))
    missed = decision(situation(quorum=2, now=DEADLINE), *waiting)
    assert isinstance(missed, Miss)
    assert "1 usable results of 2" in missed.message
    refused = TaskView("car-3", TaskState.REJECTED, failure=Failure(Kind.REFUSED, "no"))
    assert decision(situation(quorum=2), *waiting, refused) == Wait(DEADLINE)
    assert isinstance(decision(situation(quorum=3), *waiting, refused), Miss)


def test_a_share_is_of_those_that_were_asked_and_a_number_is_itself() -> None:
    assert [needed(0.5, n) for n in (0, 1, 3, 4)] == [1, 1, 2, 2]
    assert needed(0.55, 100) == 55
    assert needed(1.0, 7) == 7
    assert needed(1, 7) == 1
    away = TaskView("car-3", TaskState.EXPIRED)
    fleet = Fleet(frozenset({"car-1", "car-2"}), {"car-3": None})
    now = situation(quorum=1.0)
    assert decision(now, done("car-1"), done("car-2"), away, fleet=fleet) == Close()


# --- halting ----------------------------------------------------------------------------------


def test_it_halts_as_soon_as_the_module_fails_on_too_many() -> None:
    others = [still(f"car-{i}") for i in range(3, 7)]
    halt = decision(situation(), failed("car-1"), failed("car-2", LIMIT), *others)
    assert isinstance(halt, Halt)
    assert halt.share == 2 / 6
    assert "2 of 6" in halt.message
    more = [*others, still("car-7")]
    assert decision(situation(), failed("car-1"), failed("car-2"), *more) == Wait(DEADLINE)


def test_one_vehicle_alone_halts_only_what_worked_before() -> None:
    assert decision(situation(), failed("car-1")) == Close()
    assert decision(situation(), failed("car-1"), still("car-2")) == Wait(DEADLINE)
    assert isinstance(decision(situation(iteration=2), failed("car-1")), Halt)
    assert decision(situation(iteration=2), failed("car-1"), still("car-2")) == Wait(DEADLINE)


def test_what_is_not_the_modules_fault_halts_nothing() -> None:
    ours = Failure(Kind.ENGINE_FAILURE, "the engine failed")
    for why in (BUDGET, ours):
        tasks = [failed(f"car-{i}", why) for i in range(3)]
        assert decision(situation(iteration=2), *tasks) == Close()
    crashed = [failed(f"car-{i}") for i in range(3)]
    assert decision(situation(custom=False), *crashed) == Close()
    assert decision(situation(halt_on_failure=None), *crashed) == Close()


# --- late answers -----------------------------------------------------------------------------


def test_a_late_answer_is_taken_where_the_vehicle_has_not_answered_this_time() -> None:
    tasks = (done("car-1"), still("car-2"), failed("car-3"), done("car-4"))
    late = [Made(f"car-{i}", NEW, 2) for i in (2, 3, 4, 5)]
    now = situation(iteration=2, now=DEADLINE, late="next")
    closed = close(tasks, now, all_online(*tasks), late)
    assert closed.kept == ("car-1", "car-2", "car-4")
    assert closed.late == {"car-2"}
    assert "iteration 1" in closed.ledger["car-2"].reason
    assert closed.ledger["car-3"].status == "crashed"


def test_late_answers_have_no_say_in_which_code_counts() -> None:
    tasks = (done("car-1", NEW), still("car-2"), still("car-3"))
    late = [Made("car-2", OLD, 1), Made("car-3", OLD, 1)]
    now = situation(iteration=2, now=DEADLINE, late="next")
    closed = close(tasks, now, all_online(*tasks), late)
    assert closed.kept == ("car-1",)
    assert statuses(closed)["car-2"] == "wrong_code"
    alone = close(tasks[1:], now, all_online(*tasks), late)
    assert alone.kept == ("car-2", "car-3")


# --- laws -------------------------------------------------------------------------------------

FAILURES = st.sampled_from(
    [CRASH, LIMIT, BUDGET, Failure(Kind.ENGINE_FAILURE, "x"), Failure(Kind.REFUSED, "x")]
)


@st.composite
def tasks_of(draw: st.DrawFn) -> list[TaskView]:
    """An iteration's tasks in any states that can be met."""
    found = []
    for number in range(draw(st.integers(0, 8))):
        states = [s for s in TaskState if s is not TaskState.SUPERSEDED]
        state = draw(st.sampled_from(states))
        digest, failure = None, None
        if state is TaskState.SUCCEEDED:
            digest = draw(st.sampled_from([OLD, NEW]))
        elif state in (TaskState.FAILED, TaskState.REJECTED):
            failure = draw(FAILURES)
        found.append(TaskView(f"car-{number}", state, digest, 1 + (digest == NEW), failure))
    return found


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Some of the vehicles are there, some are gone, some nobody has ever seen."""
    online, gone = set(), {}
    for number in range(8):
        where = draw(st.sampled_from(["online", "gone", "unknown"]))
        if where == "online":
            online.add(f"car-{number}")
        elif where == "gone":
            gone[f"car-{number}"] = draw(st.none() | st.floats(BEGAN, DEADLINE))
    return Fleet(frozenset(online), gone)


SITUATIONS = st.builds(
    situation,
    custom=st.booleans(),
    iteration=st.integers(1, 3),
    now=st.floats(BEGAN, DEADLINE + 10),
    quorum=st.none() | st.integers(1, 9) | st.floats(0.01, 1.0),
    quorum_at=st.none() | st.floats(BEGAN, DEADLINE),
    halt_on_failure=st.none() | st.floats(0.01, 1.0),
    consistency=st.sampled_from(["majority", "newest", "pinned", "any"]),
    late=st.just("next"),
    pinned=st.sampled_from([None, OLD, NEW]),
)
LATE = st.lists(
    st.builds(
        Made,
        st.integers(0, 8).map(lambda n: f"car-{n}"),
        st.sampled_from([OLD, NEW]),
        st.integers(1, 2),
    ),
    unique_by=lambda made: made.vehicle,
)


@given(tasks_of(), fleets(), SITUATIONS)
def test_it_waits_for_somebody_and_never_past_the_deadline(
    tasks: list[TaskView], fleet: Fleet, now: Situation
) -> None:
    so_far = count(tasks, now, fleet)
    step = decide(now, so_far)
    if isinstance(step, Wait):
        assert so_far.awaited > 0
        assert now.now < step.until <= now.deadline_at
    if now.overdue or not so_far.awaited:
        assert not isinstance(step, Wait)


@given(tasks_of(), fleets(), SITUATIONS, LATE, st.sampled_from(["", "it was cancelled"]))
def test_everyone_asked_is_named_once_and_code_is_mixed_only_knowingly(
    tasks: list[TaskView], fleet: Fleet, now: Situation, late: list[Made], ended: str
) -> None:
    closed = close(tasks, now, fleet, late, ended=ended)
    assert list(closed.ledger) == sorted(t.vehicle for t in tasks)
    included = [v for v, standing in closed.ledger.items() if standing.status == "included"]
    assert sorted(closed.kept) == included
    assert len(set(closed.kept)) == len(closed.kept)
    own = {t.vehicle: t.digest for t in tasks if t.state is TaskState.SUCCEEDED}
    old = {m.vehicle: m.digest for m in late}
    if now.assignment.consistency != "any":
        assert len({own.get(v, old.get(v)) for v in closed.kept}) <= 1
    # A vehicle's own answer comes first, and a late one is taken where there is none.
    assert not closed.late & own.keys()
    assert closed.late == {v for v in closed.kept if v not in own}
    assert not (ended and closed.kept)


@given(tasks_of(), fleets(), SITUATIONS)
def test_a_quorum_is_missed_or_it_is_reached_before_anything_is_combined(
    tasks: list[TaskView], fleet: Fleet, now: Situation
) -> None:
    so_far = count(tasks, now, fleet)
    step = decide(now, so_far)
    quorum = now.assignment.quorum
    if isinstance(step, Close) and quorum is not None:
        assert so_far.usable >= needed(quorum, so_far.asked)
        assert len(close(tasks, now, fleet).kept) >= so_far.usable
    if isinstance(step, Miss):
        assert quorum is not None
        assert so_far.usable < needed(quorum, so_far.asked)


@given(
    st.integers(0, 50), st.integers(0, 50), st.integers(1, 5),
    st.none() | st.floats(0.01, 1.0), st.floats(BEGAN, DEADLINE + 1),
)  # fmt: skip
def test_it_halts_exactly_when_the_share_is_passed(
    asked: int, faults: int, iteration: int, most: float | None, time: float
) -> None:
    faults = min(faults, asked)
    now = situation(halt_on_failure=most, iteration=iteration, now=time)
    step = decide(now, Count(asked, asked - faults, 0, faults))
    passed = most is not None and faults > most * asked + 1e-9
    enough = faults >= 2 or (faults == asked and iteration > 1)
    assert isinstance(step, Halt) == (passed and enough)
    if isinstance(step, Halt):
        assert 0 < step.share <= 1


@given(st.data())
def test_no_answer_is_combined_twice_over_all_iterations(data: st.DataObject) -> None:
    combined: list[tuple[str, int]] = []
    late: list[Made] = []
    for iteration in range(1, 5):
        now = situation(iteration=iteration, now=DEADLINE, late="next")
        tasks = data.draw(tasks_of())
        closed = close(tasks, now, all_online(*tasks), late)
        combined += [(vehicle, iteration - (vehicle in closed.late)) for vehicle in closed.kept]
        mute = [t.vehicle for t in tasks if t.state in OPEN]
        late = [Made(v, NEW, 2) for v in mute if data.draw(st.booleans())]
    assert len(set(combined)) == len(combined)
