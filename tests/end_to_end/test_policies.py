"""Quorum, late answers, halting and resuming, late joiners; and what can be asked afterwards."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import oodida
from images.recipe import reference
from oodida.cli.app import app
from tests.conftest import until
from tests.end_to_end.conftest import VEHICLES, StartVehicle, System

#: On trial a window has 100 samples.
CRASHES = "def custom_code(window):\n    return 0 if len(window) == 100 else {}['speed']\n"
WORKS = "def custom_code(window):\n    return len(window)\n"


def custom(module: str, **changes: Any) -> oodida.Assignment:
    spec: dict[str, Any] = {
        "vehicles": oodida.Select.ids(*VEHICLES),
        "onboard": oodida.Onboard("custom", module=module, signals="VEHICLE_SPEED", samples=4),
        "offboard": oodida.Offboard("collect"),
        "deadline_s": 20,
    }
    return oodida.Assignment(**{**spec, **changes})


def only_for(fleet: oodida.Fleet, name: str, *vehicles: str) -> None:
    """Deploy a module to these only: the others wait for it until the deadline."""
    fleet.deploy(WORKS, name=name, vehicles=oodida.Select.ids(*vehicles))


def test_a_quorum_ends_an_iteration_before_its_deadline(ada: oodida.Fleet) -> None:
    only_for(ada, "m", "car-1", "car-2")
    run = ada.submit(custom("m", quorum=2, deadline_s=600))
    assert run.result(timeout_s=60) == [4, 4]
    why = run.participation()["car-3"]
    assert why.status == "late"
    assert "quorum" in why.reason


def test_a_missed_quorum_fails_the_assignment_and_says_who_is_missing(ada: oodida.Fleet) -> None:
    only_for(ada, "m", "car-1", "car-2")
    run = ada.submit(custom("m", quorum=1.0, deadline_s=4))
    with pytest.raises(oodida.AssignmentFailed, match="2 usable results of 3") as caught:
        run.result(timeout_s=30)
    assert caught.value.details["reason_code"] == "quorum"
    statuses = {v: p.status for v, p in caught.value.participation.items()}
    assert statuses == {"car-1": "cancelled", "car-2": "cancelled", "car-3": "late"}
    assert {v: p.status for v, p in run.participation(iteration=1).items()} == statuses


def test_a_quorum_that_cannot_be_reached_is_not_waited_for(ada: oodida.Fleet) -> None:
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1", "ghost"),
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("sum"),
            quorum=2,
            deadline_s=600,
        )
    )
    with pytest.raises(oodida.AssignmentFailed, match="no more can come"):
        run.result(timeout_s=20)


def test_a_late_answer_is_combined_in_the_next_iteration(
    ada: oodida.Fleet, start_vehicle: StartVehicle, tmp_path: Path
) -> None:
    recording = tmp_path / "backwards.csv"
    recording.write_text("VEHICLE_SPEED\n-1\n-2\n")
    name = f"tardy-{ada.user}"
    start_vehicle(
        name, f"--recording={recording}", f"--image=minimal={reference('sandbox-minimal')}"
    )
    ada.deploy(
        "import time\ndef custom_code(window):\n"
        "    if min(window) < 0:\n        time.sleep(4.5)\n"
        "    return len(window)\n",
        name="m",
    )
    vehicles = oodida.Select.ids("car-1", name)
    run = ada.submit(custom("m", vehicles=vehicles, iterations=2, late="next", deadline_s=3))
    assert run.result(timeout_s=60) == [4, 4]
    first, second = run.iterations
    assert (first.value, first.participation[name].status) == ([4], "late")
    assert second.participation[name].status == "included"
    assert "iteration 1" in second.participation[name].reason
    assert {r.vehicle: r.iteration for r in second.results} == {"car-1": 2, name: 1}
    # As it was told, so it is after reconnecting: the first iteration has not gained a result.
    assert [sorted(r.vehicle for r in i.results) for i in ada.run(run.id)] == [
        ["car-1"],
        ["car-1", name],
    ]


def test_a_budget_of_container_starts_ends_at_the_vehicle(ada: oodida.Fleet) -> None:
    ada.deploy(WORKS, name="m")
    vehicles, budget = oodida.Select.ids("car-1"), oodida.Budget(container_starts=2)
    run = ada.submit(custom("m", vehicles=vehicles, iterations=5, budget=budget))
    with pytest.raises(oodida.AssignmentFailed) as caught:
        run.result(timeout_s=60)
    assert caught.value.code == "assignment_failed"  # no repair of the module would help
    assert len(run.iterations) == 2
    car = run.participation()["car-1"]
    assert car.status == "limit"
    assert "budget" in car.reason
    used = [p.usage.container_starts for _, p in car.history if p.usage is not None]
    assert sum(used) == 2


def test_the_commands_tell_who_is_missing_and_resume(ada: oodida.Fleet) -> None:
    ada.deploy(CRASHES, name="m")
    run = ada.submit(custom("m", deadline_s=30))
    with pytest.raises(oodida.AssignmentHalted, match=f"oodida resume {run.id}"):
        run.result(timeout_s=30)
    who = ["--url", ada.url, "--user", ada.user]
    shown = CliRunner().invoke(app, ["participation", run.id, *who])
    assert shown.exit_code == 0, shown.output
    assert "crashed" in shown.output
    told = CliRunner().invoke(app, ["participation", run.id, "--iteration", "1", "--json", *who])
    assert set(json.loads(told.stdout)["participation"]) == set(VEHICLES)
    one = CliRunner().invoke(app, ["participation", run.id, "car-1", "--json", *who])
    assert json.loads(one.stdout.splitlines()[0])["iteration"] == 1
    nobody = CliRunner().invoke(app, ["participation", run.id, "ghost", "--json", *who])
    assert nobody.exit_code == 1
    assert json.loads(nobody.stdout)["error"]["code"] == "bad_request"
    changes = CliRunner().invoke(app, ["watch", run.id, "--changes", "--json", *who])
    assert [json.loads(line)["new"] for line in changes.stdout.splitlines()].count("halted") == 1
    ada.deploy(WORKS, name="m")
    resumed = CliRunner().invoke(app, ["resume", run.id, *who])
    assert resumed.exit_code == 0, resumed.output
    assert run.result(timeout_s=30) == [4, 4, 4]
    again = CliRunner().invoke(app, ["resume", "no-such-one", "--json", *who])
    assert json.loads(again.stdout)["error"]["code"] == "unknown_assignment"


def test_halt_repair_and_resume(ada: oodida.Fleet, system: System) -> None:
    ada.deploy(WORKS, name="m")
    run = ada.submit(custom("m", iterations=200))
    iterations = iter(run)
    assert next(iterations).value == [4, 4, 4]
    broken = ada.deploy(CRASHES, name="m")
    reached = [i.number for i in iterations]  # it ends where the assignment halts
    assert run.halted
    assert run.state == "halted"
    assert not run.ended
    with pytest.raises(oodida.AssignmentHalted) as caught:
        run.result()
    error = caught.value
    assert error.code == "halted"
    assert error.details["digest"] == broken.digest
    assert error.details["generation"] == broken.generation
    assert error.details["share"] > 0.3
    assert "KeyError" in error.details["reason"]
    assert "crashed" in {p.status for p in error.participation.values()}
    (listed,) = ada.assignments()
    assert listed.state == "halted"
    halted_at = listed.iteration
    assert "crashed" in {p.status for p in run.participation(halted_at).values()}

    repaired = ada.deploy(WORKS, name="m")
    with system.user(ada.user) as elsewhere:  # another process, which saw nothing of it before
        elsewhere.run(run.id).resume()
        run_there = elsewhere.run(run.id)
        run_there.resume()  # said twice
    following = next(iterations)
    assert following.number == halted_at == len(reached) + 2
    assert {r.generation for r in following.results} == {repaired.generation}
    assert run.participation(halted_at)["car-1"].status == "included"
    run.cancel()
    with pytest.raises(oodida.OodidaError) as refused:
        ada.resume(run.id)
    assert refused.value.code == "not_halted"


def test_a_halted_assignment_can_be_cancelled(ada: oodida.Fleet) -> None:
    ada.deploy(CRASHES, name="m")
    run = ada.submit(custom("m"))
    with pytest.raises(oodida.AssignmentHalted):
        run.result(timeout_s=30)
    run.cancel()
    assert until(lambda: run.ended)
    with pytest.raises(oodida.AssignmentCancelled):
        run.result()


def test_without_halting_the_assignment_fails_or_goes_on(ada: oodida.Fleet) -> None:
    ada.deploy(CRASHES, name="m")
    run = ada.submit(custom("m", halt_on_failure=None))
    with pytest.raises(oodida.AssignmentFailed) as caught:
        run.result(timeout_s=30)
    assert caught.value.code == "assignment_failed"


def test_a_vehicle_that_is_new_takes_part_from_the_next_iteration(
    ada: oodida.Fleet, start_vehicle: StartVehicle
) -> None:
    name, model = f"new-{ada.user}", f"model-{ada.user}"
    start_vehicle(f"first-{ada.user}", f"--attribute=model={model}")
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.where(model=model),
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=5, rate_hz=20),
            offboard=oodida.Offboard("sum"),
            iterations=500,
        )
    )
    iterations = iter(run)
    assert list(next(iterations).participation) == [f"first-{ada.user}"]
    start_vehicle(name, f"--attribute=model={model}")
    joined = next(i for i in iterations if name in i.participation)
    assert joined.participation[name].status == "included"
    assert joined.value == 10
    run.cancel()


def test_why_a_vehicle_is_missing_can_be_asked_afterwards(
    ada: oodida.Fleet, system: System
) -> None:
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1", "ghost"),
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("sum"),
            iterations=3,
        )
    )
    run.result()
    with system.user(ada.user) as elsewhere:
        again = elsewhere.run(run.id)
        ghost = again.participation()["ghost"]
        assert ghost.status == "unknown"
        assert "ever seen" in ghost.reason
        assert [number for number, _ in ghost.history] == [1, 2, 3]
        assert again.participation()["car-1"].usage is not None
        assert again.participation(iteration=2)["car-1"].status == "included"
        with pytest.raises(oodida.OodidaError, match="iteration 4"):
            again.participation(iteration=4)


def test_each_change_has_its_time_and_cause(ada: oodida.Fleet) -> None:
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("sum"),
        )
    )
    run.result()
    told = run.changes()
    assert [(c.old, c.new) for c in told if c.kind == "assignment"][-2:] == [
        ("collecting", "combining"),
        ("combining", "succeeded"),
    ]
    of_car = [c for c in told if c.edge == "car-1"]
    assert of_car[0].new == "queued"
    assert of_car[-1].new == "succeeded"
    assert all(c.cause and c.at for c in told)
    assert run.changes(after=told[-2].number) == told[-1:]


def test_what_waits_hears_of_a_resumption(ada: oodida.Fleet) -> None:
    ada.deploy(CRASHES, name="m")
    run = ada.submit(custom("m"))
    with pytest.raises(oodida.AssignmentHalted):
        run.result(timeout_s=30)
    ada.deploy(WORKS, name="m")
    run.resume()
    results: list[object] = []
    waiting = threading.Thread(target=lambda: results.append(run.result(timeout_s=30)))
    waiting.start()
    waiting.join(40)
    assert results == [[4, 4, 4]]
