"""Several tasks at once on one vehicle: collecting a window never blocks another task."""

from __future__ import annotations

import oodida

WHEN = """\
import time


def custom_code(window):
    began = time.time()
    time.sleep({seconds})
    return [began, time.time()]
"""


def on_car_1(onboard: oodida.Onboard, **changes: object) -> oodida.Assignment:
    return oodida.Assignment(
        vehicles=oodida.Select.ids("car-1"),
        onboard=onboard,
        offboard=oodida.Offboard("collect"),
        deadline_s=60,
        **changes,  # type: ignore[arg-type]
    )


def test_a_window_that_fills_slowly_holds_nobody_up(ada: oodida.Fleet, bob: oodida.Fleet) -> None:
    slow = oodida.Onboard("count", signals="VEHICLE_SPEED", samples=100, rate_hz=2)
    collecting = [bob.submit(on_car_1(slow)) for _ in range(20)]
    ada.deploy("def custom_code(window):\n    return len(window)\n", name="m")
    custom = oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=3)
    builtin = oodida.Onboard("count", signals="VEHICLE_SPEED", samples=3)
    for onboard in (custom, builtin):
        assert ada.submit(on_car_1(onboard)).result() == [3]
    assert not any(run.ended for run in collecting)
    for run in collecting:
        run.cancel()


def test_calls_of_two_users_run_at_the_same_time(ada: oodida.Fleet, bob: oodida.Fleet) -> None:
    onboard = oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=3)
    for fleet in (ada, bob):
        fleet.deploy(WHEN.format(seconds=2), name="m")
    runs = [fleet.submit(on_car_1(onboard)) for fleet in (ada, bob)]
    ((first,), (second,)) = (run.result() for run in runs)
    assert max(first[0], second[0]) < min(first[1], second[1])


def test_a_burst_of_assignments_all_come_back(ada: oodida.Fleet) -> None:
    onboard = oodida.Onboard("sum", signals="VEHICLE_SPEED", samples=30)
    runs = [ada.submit(on_car_1(onboard, iterations=5)) for _ in range(30)]
    values = [[iteration.value for iteration in run] for run in runs]
    assert all(len(v) == 5 and v == values[0] for v in values)
