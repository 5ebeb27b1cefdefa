"""The simulated driver: always the same, like nobody else, and possible."""

from __future__ import annotations

import itertools
from array import array
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.signals import SimulatedDriver, powertrain
from edge_runtime.signals.driver import SIGNALS, Cycle, cycle_speeds

CYCLES: tuple[Cycle, ...] = get_args(Cycle)
SOURCE = Path(__file__).parents[3] / "shared" / "data" / "drive_cycles"
NAMES = st.text(min_size=1, max_size=20)


@pytest.mark.parametrize(("cycle", "samples", "fastest"), [
    ("udds", 1370, 25.4), ("us06", 601, 35.9), ("hwfet", 766, 26.8),
])  # fmt: skip
def test_the_cycles_are_those_of_the_epa(cycle: Cycle, samples: int, fastest: float) -> None:
    speeds = cycle_speeds(cycle)
    assert len(speeds) == samples
    assert max(speeds) == pytest.approx(fastest, abs=0.1)
    assert speeds[0] == speeds[-1] == 0.0


@pytest.mark.parametrize("cycle", CYCLES)
def test_the_cycles_are_those_that_were_given(cycle: Cycle) -> None:
    path = SOURCE / f"{cycle}.csv"
    if not path.exists():
        pytest.skip(f"{path} is absent: the drive cycles of ../shared/data are needed")
    rows = path.read_text().splitlines()[1:]
    assert cycle_speeds(cycle) == tuple(float(row.split(",")[1]) for row in rows)


@given(name=NAMES, signal=st.sampled_from(sorted(SIGNALS)), first=st.integers(0, 10**9))
def test_a_vehicles_driver_is_always_the_same(name: str, signal: str, first: int) -> None:
    once, again = SimulatedDriver.named(name), SimulatedDriver.named(name)
    assert once.samples(signal, first, 20) == again.samples(signal, first, 20)
    assert again.samples(signal, first + 7, 1)[0] == once.samples(signal, first, 20)[7]


def test_a_driver_does_not_change_from_one_release_to_the_next() -> None:
    driver = SimulatedDriver.named("car-1")
    assert driver.cycle == "hwfet"
    assert (driver.gain, driver.noise, driver.shift_rpm) == pytest.approx(
        (0.9813824011711403, 0.047985535403713586, 2177.548694657162)
    )
    assert driver.samples("VEHICLE_SPEED", 1000, 3).tolist() == pytest.approx(
        [77.65377163899164, 76.81250247849718, 76.135389115852]
    )


def test_every_vehicle_has_its_own_driver() -> None:
    drivers = [SimulatedDriver.named(f"car-{i}") for i in range(50)]
    assert {driver.cycle for driver in drivers} == set(CYCLES)
    assert len({(d.gain, d.noise, d.shift_rpm, d.seed) for d in drivers}) == 50
    assert len({d.samples("VEHICLE_SPEED", 0, 200).tobytes() for d in drivers}) == 50


@given(name=NAMES, first=st.integers(0, 10_000))
def test_the_signals_are_possible_and_agree(name: str, first: int) -> None:
    driver = SimulatedDriver.named(name)
    window = {signal: driver.samples(signal, first, 50) for signal in SIGNALS}
    for i in range(50):
        speed, gear = window["VEHICLE_SPEED"][i], window["GEAR"][i]
        assert 0 <= speed < 170
        assert gear in range(6)
        assert (gear == 0) == (speed == 0)
        assert 800 <= window["ENGINE_RPM"][i] < 6500
        assert 0 <= window["ENGINE_LOAD"][i] <= 100
        assert 0 <= window["THROTTLE"][i] <= 100
        assert 20 <= window["COOLANT_TEMPERATURE"][i] <= 88
        assert abs(window["ACCELERATION"][i]) < 8
        rpm = powertrain.engine_rpm(speed / 3.6, int(gear))
        assert window["ENGINE_RPM"][i] == pytest.approx(rpm)
    changes = [(b - a) / 3.6 for a, b in itertools.pairwise(window["VEHICLE_SPEED"])]
    assert window["ACCELERATION"][1:].tolist() == pytest.approx(changes, abs=1e-9)


def test_the_speed_is_the_cycles_but_for_gain_and_noise() -> None:
    exact = SimulatedDriver("udds", gain=1.1, noise=0)
    wanted = [3.6 * 1.1 * speed for speed in cycle_speeds("udds")]
    assert exact.samples("VEHICLE_SPEED", 1370, 1370).tolist() == pytest.approx(wanted)
    noisy = SimulatedDriver("udds", gain=1.1, noise=0.05).samples("VEHICLE_SPEED", 0, 1370)
    assert noisy != array("d", wanted)
    assert all(abs(n - w) <= 0.05 * w + 1e-9 for n, w in zip(noisy, wanted, strict=True))


def test_noise_differs_from_lap_to_lap_and_gears_do_not() -> None:
    driver = SimulatedDriver("hwfet", seed=1)
    speeds = [driver.samples("VEHICLE_SPEED", lap * 766, 766) for lap in (0, 1)]
    gears = [driver.samples("GEAR", lap * 766, 766) for lap in (0, 1)]
    assert speeds[0] != speeds[1]
    assert gears[0] == gears[1]


@given(shift_rpm=st.floats(1000, 6000), speed=st.floats(0.5, 45))
def test_at_a_steady_speed_the_gear_does_not_hunt(shift_rpm: float, speed: float) -> None:
    found = powertrain.gears([0, *[speed] * 20], shift_rpm)
    assert found[0] == 0
    assert len(set(found[1:])) == 1


def test_shifting_has_hysteresis() -> None:
    up = [0.0, *(step / 10 for step in range(1, 300))]
    gears = powertrain.gears([*up, *up[::-1]], 2500)
    rising = dict(zip(up, gears, strict=False))
    falling = dict(zip(up, gears[::-1], strict=False))
    assert set(rising.values()) == set(falling.values()) == {0, 1, 2, 3, 4, 5}
    assert all(falling[speed] >= rising[speed] for speed in up)
    assert sum(falling[speed] > rising[speed] for speed in up) > 50


def test_the_engine_works_harder_uphill_of_nothing_but_speed_and_acceleration() -> None:
    assert powertrain.engine_load(20, 0, 4) < powertrain.engine_load(30, 0, 4)
    assert powertrain.engine_load(20, 0, 4) < powertrain.engine_load(20, 0.5, 4)
    assert powertrain.engine_load(20, -3, 4) == powertrain.engine_load(0, 0, 0)
    assert powertrain.engine_load(20, 9, 5) == 100.0
    assert powertrain.throttle(100.0) > powertrain.throttle(50.0)


@pytest.mark.parametrize(
    "habits", [{"gain": 0.0}, {"noise": 1.0}, {"noise": -0.1}, {"shift_rpm": float("inf")}]
)
def test_impossible_habits_are_refused(habits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a driver has"):
        SimulatedDriver("udds", gain=habits.get("gain", 1.0), noise=habits.get("noise", 0.0),
                        shift_rpm=habits.get("shift_rpm", 2500.0))  # fmt: skip
