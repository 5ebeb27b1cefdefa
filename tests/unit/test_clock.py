"""Deadlines count on the boot clock: whatever the wall clock does, none is early or late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.clock import Clock, Stamp

SECONDS = st.floats(0, 1e6)
JUMPS = st.floats(-1e10, 1e10)
#: What happens to a machine: so many seconds pass, or the wall clock jumps by so many.
EVENTS = st.lists(st.tuples(st.sampled_from(["passes", "jumps"]), SECONDS, JUMPS), max_size=20)


class Machine:
    """A machine whose clocks do as they are told."""

    def __init__(self) -> None:
        self.up, self.wall, self.boot = 0.0, 1e9, "a"

    @property
    def clock(self) -> Clock:
        return Clock(self.boot, lambda: self.up, lambda: self.wall)

    def passes(self, seconds: float) -> None:
        self.up += seconds
        self.wall += seconds

    def reboots(self, off_s: float) -> None:
        self.boot, self.up = self.boot + "a", 0.0
        self.wall += off_s


@given(EVENTS, st.floats(0, 1e6))
def test_within_a_boot_no_jump_makes_a_deadline_early_or_late(
    events: list[tuple[str, float, float]], timeout_s: float
) -> None:
    machine = Machine()
    begun, passed = machine.clock.now(), 0.0
    for kind, seconds, jump in events:
        if kind == "passes":
            machine.passes(seconds)
            passed = machine.up - begun.since_boot
        else:
            machine.wall += jump
        assert machine.clock.passed(begun) == passed
        assert machine.clock.left(begun, timeout_s) == max(0.0, timeout_s - passed)


@given(SECONDS, SECONDS, st.floats(0, 1e6))
def test_over_a_reboot_the_wall_clock_tells_how_long_it_was_off(
    up: float, off: float, timeout_s: float
) -> None:
    machine = Machine()
    begun = machine.clock.now()
    machine.passes(up)
    machine.reboots(off)
    left = machine.clock.left(begun, timeout_s)
    assert abs(left - max(0.0, timeout_s - up - off)) < 1e-3


@given(JUMPS, st.floats(0, 1e6))
def test_over_a_reboot_what_is_left_is_never_more_than_there_was(
    jump: float, timeout_s: float
) -> None:
    machine = Machine()
    begun = machine.clock.now()
    machine.reboots(jump)
    assert 0 <= machine.clock.left(begun, timeout_s) <= timeout_s


def test_this_machine_has_a_boot_that_all_its_processes_share() -> None:
    one, two = Clock.of_this_machine(), Clock.of_this_machine()
    assert one.boot == two.boot
    before: Stamp = one.now()
    assert two.passed(before) >= 0
