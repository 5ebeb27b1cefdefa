"""Who takes part: all, by ids, by attribute, a seeded sample; and who is missing does not stall."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

import oodida
from tests.end_to_end.conftest import VEHICLES, StartVehicle, System


def count(select: oodida.Select, **changes: object) -> oodida.Assignment:
    return oodida.Assignment(
        vehicles=select,
        onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=5),
        offboard=oodida.Offboard("sum"),
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (oodida.Select.ids(*VEHICLES), VEHICLES),
        (oodida.Select.ids("car-2"), ["car-2"]),
        (oodida.Select.where(model="etios"), ["car-1", "car-3"]),
        (oodida.Select.where(model="etios", year=2020), ["car-3"]),
    ],
)
def test_ids_and_attributes(ada: oodida.Fleet, select: oodida.Select, expected: list[str]) -> None:
    run = ada.submit(count(select))
    assert run.result() == 5 * len(expected)
    assert sorted(run.iterations[0].participation) == sorted(expected)


def test_a_seeded_sample_is_the_same_each_time(ada: oodida.Fleet) -> None:
    select = oodida.Select.sample(2, seed=1, year=2014)
    runs = [ada.submit(count(select)) for _ in range(2)]
    for run in runs:
        run.result()
    first, second = (sorted(run.iterations[0].participation) for run in runs)
    assert first == second == ["car-1", "car-2"]


def test_an_unknown_vehicle_is_in_the_participation(ada: oodida.Fleet) -> None:
    run = ada.submit(count(oodida.Select.ids("car-1", "ghost")))
    assert run.result() == 5
    (iteration,) = run.iterations
    assert iteration.participation["car-1"].status == "included"
    assert iteration.participation["ghost"].status == "unknown"


def test_a_vehicle_that_dies_does_not_stall_the_iteration(
    ada: oodida.Fleet, start_vehicle: StartVehicle
) -> None:
    name = f"dying-{ada.user}"
    process = start_vehicle(name)
    spec = oodida.Assignment(
        vehicles=oodida.Select.ids("car-1", name),
        onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=8, rate_hz=4),
        offboard=oodida.Offboard("sum"),
        iterations=2,
        deadline_s=60,
    )
    run = ada.submit(spec)
    process.kill()  # while it collects the first window
    assert run.result(timeout_s=40) == 8
    for iteration in run:
        assert iteration.participation[name].status == "offline"


def test_a_deadline_ends_an_iteration_with_what_is_there(ada: oodida.Fleet) -> None:
    only = oodida.Select.ids("car-1")
    ada.deploy("def custom_code(window):\n    return 1\n", name="m", vehicles=only)
    spec = oodida.Assignment(
        vehicles=oodida.Select.ids("car-1", "car-2"),
        onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
        offboard=oodida.Offboard("collect"),
        deadline_s=6,
    )
    run = ada.submit(spec)  # car-2 was never sent the module, and waits for it until then
    assert run.result() == [1]
    participation = run.iterations[0].participation
    assert participation["car-2"].status == "late"
    assert "6 s" in participation["car-2"].reason


def test_nobody_in_time_fails_the_assignment_with_the_participation(ada: oodida.Fleet) -> None:
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids(*VEHICLES),
            onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=100, rate_hz=1),
            offboard=oodida.Offboard("mean"),
            deadline_s=0.5,
        )
    )
    with pytest.raises(oodida.AssignmentFailed) as caught:
        run.result()
    assert {v: p.status for v, p in caught.value.participation.items()} == (
        dict.fromkeys(VEHICLES, "late")
    )


def test_a_vehicle_without_the_signal_refuses_its_own_task_only(
    ada: oodida.Fleet, start_vehicle: StartVehicle, tmp_path: Path
) -> None:
    recording = tmp_path / "speed_only.csv"
    recording.write_text("VEHICLE_SPEED\n10\n20\n")
    name = f"plain-{ada.user}"
    start_vehicle(name, f"--recording={recording}")
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1", name),
            onboard=oodida.Onboard("count", signals=["VEHICLE_SPEED", "ENGINE_RPM"], samples=4),
            offboard=oodida.Offboard("sum"),
        )
    )
    assert run.result(timeout_s=20) == {"VEHICLE_SPEED": 4, "ENGINE_RPM": 4}
    participation = run.iterations[0].participation
    assert participation["car-1"].status == "included"
    assert participation[name].status == "refused"
    assert "ENGINE_RPM" in participation[name].reason


def test_a_vehicle_that_cannot_run_the_module_says_so_at_once(
    ada: oodida.Fleet, start_vehicle: StartVehicle
) -> None:
    name = f"bare-{ada.user}"
    start_vehicle(name)
    only = oodida.Select.ids("car-1", name)
    deployment = ada.deploy("def custom_code(w):\n    return 1\n", name="m", vehicles=only)
    assert deployment.states == {"car-1": "ready", name: "refused"}
    run = ada.submit(
        oodida.Assignment(
            vehicles=only,
            onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("collect"),
            deadline_s=300,
        )
    )
    assert run.result(timeout_s=30) == [1]
    assert run.iterations[0].participation[name].status == "refused"
    assert "minimal" in run.iterations[0].participation[name].reason


def test_a_vehicle_that_lost_its_state_comes_back(
    ada: oodida.Fleet, system: System, start_vehicle: StartVehicle
) -> None:
    name = f"wiped-{ada.user}"
    for _ in range(2):
        process = start_vehicle(name)
        run = ada.submit(count(oodida.Select.ids(name)))
        assert run.result(timeout_s=20) == 5
        process.send_signal(signal.SIGTERM)
        process.wait()
        shutil.rmtree(system.folder / name)
