"""Where a module goes, who is told, and that two users never meet."""

from __future__ import annotations

import signal

import pytest

import oodida
from tests.conftest import until
from tests.end_to_end.conftest import VEHICLES, StartVehicle, System

ONE = "def custom_code(window):\n    return 1\n"
TWO = "def custom_code(window):\n    return 2\n"


def collect(module: str, **changes: object) -> oodida.Assignment:
    return oodida.Assignment(
        onboard=oodida.Onboard("custom", module=module, signals="VEHICLE_SPEED", samples=2),
        offboard=oodida.Offboard("collect"),
        **changes,  # type: ignore[arg-type]
    )


def test_the_analyst_is_told_when_each_vehicle_has_it(ada: oodida.Fleet) -> None:
    deployment = ada.deploy(ONE, name="m")
    assert {deployment.states[vehicle] for vehicle in VEHICLES} == {"ready"}
    assert (deployment.name, deployment.generation) == ("m", 1)
    assert ada.deploy(TWO, name="m").generation == 2
    assert ada.deploy(TWO, name="m").generation == 3
    (module,) = ada.modules()
    assert (module.generation, module.size) == (3, len(TWO))


def test_the_stored_file_carries_the_users_id(ada: oodida.Fleet, system: System) -> None:
    ada.deploy(ONE, name="m")
    for vehicle in VEHICLES:
        path = system.folder / f"vehicle-{vehicle}" / "modules" / "onboard" / f"{ada.user}@m.py"
        assert path.read_text() == ONE


def test_two_users_modules_of_one_name_never_meet(ada: oodida.Fleet, bob: oodida.Fleet) -> None:
    ada.deploy(ONE, name="m")
    bob.deploy(TWO, name="m")
    runs = ada.submit(collect("m")), bob.submit(collect("m"))
    assert [run.result() for run in runs] == [[1, 1, 1], [2, 2, 2]]
    assert [m.generation for m in ada.modules()] == [1]


def test_the_two_sides_of_one_name_are_two_modules(ada: oodida.Fleet) -> None:
    ada.deploy(ONE, name="m")
    ada.deploy("def custom_code(results):\n    return len(results)\n", name="m", to="cloud")
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("custom", module="m"),
        )
    )
    assert run.result() == 3


def test_a_subset_gets_it_and_the_unknown_are_named(ada: oodida.Fleet, system: System) -> None:
    deployment = ada.deploy(ONE, name="m", vehicles=oodida.Select.ids("car-1", "ghost"))
    assert deployment.states == {"car-1": "ready", "ghost": "unknown"}
    assert not any(f"vehicle-car-2/modules/onboard/{ada.user}" in name for name in system.files())


def test_a_function_object_is_deployed_with_the_modules_it_uses(ada: oodida.Fleet) -> None:
    deployment = ada.deploy(_spread, name="spread", to="cloud")
    assert deployment.states == {"worker-1": "ready"}
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=7),
            offboard=oodida.Offboard("custom", module="spread"),
        )
    )
    assert run.result() == 0.0


def _spread(results: list[float]) -> float:
    return math.fsum((max(results), -min(results)))


def test_of_two_deployments_at_once_the_later_request_wins(ada: oodida.Fleet) -> None:
    slow = "import time\ntime.sleep(3)\n" + ONE
    first = ada.deploy(slow, name="m", wait=False)
    second = ada.deploy(TWO, name="m")
    with pytest.raises(oodida.ModuleRefused, match="later deployment"):
        first.wait()
    assert second.generation == ada.modules()[0].generation == 1
    assert ada.submit(collect("m", vehicles=oodida.Select.ids(*VEHICLES))).result() == [2, 2, 2]


def test_who_was_away_finds_the_newest_waiting(
    ada: oodida.Fleet, system: System, start_vehicle: StartVehicle
) -> None:
    name = f"late-{ada.user}"
    process = start_vehicle(name)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert until(lambda: not _online(ada, name))
    only = oodida.Select.ids("car-1", name)
    ada.deploy(ONE, name="m", vehicles=only)
    newest = ada.deploy(TWO, name="m", vehicles=only)
    assert newest.states == {"car-1": "ready", name: "offline"}
    start_vehicle(name)
    # It has no sandbox image, so it says that it cannot run the module: the newest, and no other.
    assert until(lambda: newest.states[name] == "refused")
    assert "minimal" in newest.reasons[name]
    stored = [f for f in system.files() if f.startswith(f"{name}/")]
    assert stored == []


def test_a_vehicle_seen_for_the_first_time_gets_what_all_should_have(
    ada: oodida.Fleet, start_vehicle: StartVehicle
) -> None:
    ada.deploy(ONE, name="m")
    name = f"new-{ada.user}"
    start_vehicle(name)
    assert until(lambda: name in ada.modules()[0].states)
    assert until(lambda: ada.modules()[0].states[name] == "refused")


def _online(fleet: oodida.Fleet, name: str) -> bool:
    return any(v.name == name and v.online for v in fleet.vehicles())


import math  # noqa: E402 - a module that _spread uses from outside itself
