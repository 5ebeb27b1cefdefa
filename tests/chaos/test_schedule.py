"""A seed says everything: the same one draws the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import EVERYBODY, FULL, SHORT, WEIGHTS, Schedule

seeds = st.integers(0, 2**32)


@given(seeds)
def test_the_same_seed_draws_the_same(seed: int) -> None:
    assert Schedule.of(seed, FULL) == Schedule.of(seed, FULL)
    assert str(Schedule.of(seed, FULL)) == str(Schedule.of(seed, FULL))


@given(seeds)
def test_whatever_is_drawn_can_be_done(seed: int) -> None:
    schedule = Schedule.of(seed, SHORT)
    size = schedule.size
    parts = {*size.vehicle_names, *size.orchestrator_names, *size.worker_names}
    for fault in schedule.faults:
        assert fault.part in {*parts, "broker", EVERYBODY}
        assert 0 < fault.at_s <= size.seconds
        assert fault.for_s > 0
    assert schedule.small_disks <= set(size.sandboxed_names)
    assert [r.tag for r in schedule.replacements] == list(range(2, 2 + size.replacements))
    assert len(schedule.asks) == size.asks


def test_other_seeds_draw_something_else_and_every_kind_comes() -> None:
    drawn = [Schedule.of(seed, FULL) for seed in range(1, 21)]
    assert len({str(schedule) for schedule in drawn}) == len(drawn)
    assert {f.kind for schedule in drawn for f in schedule.faults} == set(WEIGHTS)


def test_another_size_draws_something_else() -> None:
    assert Schedule.of(1, FULL).faults != Schedule.of(1, replace(FULL, vehicles=3)).faults
