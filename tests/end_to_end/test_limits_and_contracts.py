"""What a module may use and what it may return: asked for with it, held on every vehicle."""

from __future__ import annotations

import pytest

import oodida
from images.recipe import reference
from protocol.outcome import Kind
from tests.end_to_end.conftest import VEHICLES, StartVehicle

MEAN = oodida.Offboard("mean")
SLEEPY = "import time\ndef custom_code(window):\n    time.sleep(60)\n    return 1.0\n"
SPEEDS = "def custom_code(window) -> list[float]:\n    return [min(window), max(window)]\n"
#: What was declared, and what comes all the same once the window is a real one (not the trial's).
LIES = """
def custom_code(window) -> dict[str, float]:
    if len(window) == 7:
        return {"place": "57.7 N, 11.9 E"}
    return {"mean": sum(window) / len(window)}
"""


def run_of(
    fleet: oodida.Fleet, module: str = "m", samples: int = 7, **how: object
) -> oodida.Iteration:
    """The only iteration of an assignment with this module."""
    assignment = oodida.Assignment(
        onboard=oodida.Onboard("custom", module=module, signals="VEHICLE_SPEED", samples=samples),
        offboard=oodida.Offboard("collect"),
        vehicles=oodida.Select.ids(*VEHICLES),
        **how,  # type: ignore[arg-type]
    )
    (iteration,) = list(fleet.submit(assignment))
    return iteration


def failed_participation(fleet: oodida.Fleet, samples: int = 7) -> dict[str, tuple[str, str]]:
    """Why each vehicle is out of an iteration for which nobody had a value."""
    assignment = oodida.Assignment(
        onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=samples),
        offboard=oodida.Offboard("collect"),
        vehicles=oodida.Select.ids(*VEHICLES),
        halt_on_failure=None,  # or the last one would be told to stop, and have nothing to say
    )
    with pytest.raises(oodida.AssignmentFailed) as caught:
        fleet.submit(assignment).result()
    return {v: (p.status, p.reason) for v, p in caught.value.participation.items()}


# --- limits -----------------------------------------------------------------------------------


def test_a_deployment_lowers_a_limit(ada: oodida.Fleet) -> None:
    ada.deploy(SLEEPY.replace("60", "window[0] * 0"), name="m")  # the trial must return
    ada.deploy(
        "import time\ndef custom_code(window):\n    time.sleep(60 if len(window) == 7 else 0)\n",
        name="m",
        limits={"time_s": 0.5},
    )
    for status, reason in failed_participation(ada).values():
        assert status == "limit"
        assert "time limit of 0.5 s" in reason


def test_a_vehicles_own_maximum_wins_and_says_so(ada: oodida.Fleet) -> None:
    three = oodida.Select.ids(*VEHICLES)  # others, of other tests, may be away
    deployment = ada.deploy(SPEEDS, name="m", profile="large", vehicles=three)
    assert deployment.states == dict.fromkeys(VEHICLES, "ready")
    for reason in deployment.reasons.values():
        assert "memory_mb is 128 here, not 2048" in reason


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"profile": "huge"}, "no profile 'huge'"),
        ({"limits": {"time_s": 3600}}, "can only be lowered"),
        ({"limits": {"tim_s": 1}}, "no limit 'tim_s'"),
        ({"limits": {"processes": 1}}, "processes"),
    ],
)
def test_limits_that_cannot_be_had_are_one_clear_error(
    ada: oodida.Fleet, asked: dict[str, object], what: str
) -> None:
    ada.deploy(SPEEDS, name="m")
    with pytest.raises(oodida.OodidaError, match=what):
        ada.deploy(SPEEDS + "\n", name="m", **asked)  # type: ignore[arg-type]
    assert [m.generation for m in ada.modules()] == [1]


# --- the result contract ----------------------------------------------------------------------


def test_what_a_module_declares_is_what_it_may_return(ada: oodida.Fleet) -> None:
    ada.deploy(SPEEDS, name="m")
    assert {r.outcome for r in run_of(ada).results} == {Kind.VALUE}


def test_what_it_did_not_declare_never_leaves_the_vehicle(ada: oodida.Fleet) -> None:
    ada.deploy(LIES, name="m")
    for status, reason in failed_participation(ada).values():
        assert status == "crashed"
        assert "expected float, found a str of length 14" in reason
        assert "57.7" not in reason
        assert "place" not in reason
    assert len(run_of(ada, samples=8).results) == len(VEHICLES), "what it declares passes"


def test_a_schema_given_with_the_deployment_goes_before_the_annotation(ada: oodida.Fleet) -> None:
    schema = {"type": "array", "items": {"type": "number", "maximum": -1}}
    deployment = ada.deploy(SPEEDS, name="m", returns=schema)
    assert "it does not declare" in deployment.warning, "the trial noticed"
    for status, reason in failed_participation(ada).values():
        assert status == "crashed"
        assert "-1" in reason
    schema["items"] = {"type": "number", "minimum": 0}
    ada.deploy(SPEEDS, name="m", returns=schema)
    assert len(run_of(ada).results) == len(VEHICLES)


def test_an_example_that_breaks_the_contract_refuses_the_module(ada: oodida.Fleet) -> None:
    with pytest.raises(oodida.ModuleRefused, match="not what it declares") as caught:
        ada.deploy(LIES, name="m", example=[1.0] * 7)
    assert caught.value.details["reason_code"] == "contract_broken"
    assert ada.modules() == []


def test_a_schema_that_is_none_is_one_clear_error(ada: oodida.Fleet) -> None:
    with pytest.raises(oodida.OodidaError, match="nonsense"):
        ada.deploy(SPEEDS, name="m", returns={"type": "nonsense"})
    assert ada.modules() == []


def test_an_annotation_that_is_not_checked_is_told(ada: oodida.Fleet) -> None:
    source = "class Speed: ...\ndef custom_code(window) -> Speed:\n    return 1.0\n"
    deployment = ada.deploy(source, name="m")
    assert "`Speed` in line 2" in deployment.warning


# --- isolation --------------------------------------------------------------------------------

COUNTS = """
import os

def custom_code(window, previous=None):
    leftovers = sorted(os.listdir("/tmp")), hasattr(os, "mine")
    os.mine = 1
    return [list(leftovers[0]), leftovers[1], os.stat("/proc/1").st_ctime_ns, %d]
"""


def test_one_container_for_an_assignment_until_its_end_or_new_code(ada: oodida.Fleet) -> None:
    ada.deploy(COUNTS % 1, name="m")
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard(
                "custom", module="m", signals="VEHICLE_SPEED", samples=3, isolation="assignment"
            ),
            offboard=oodida.Offboard("collect"),
            iterations=100_000,
            consistency="any",
        )
    )
    seen: dict[int, set[int]] = {1: set(), 2: set()}
    for iteration in run:
        ((left, mine, container, code),) = (r.value for r in iteration.results)
        assert (left, mine) == ([], False), "each call is a blank slate"
        seen[code].add(container)
        if iteration.number == 5:
            ada.deploy(COUNTS % 2, name="m")
        if code == 2 and iteration.number > 8:
            run.cancel()
            break
    assert len(seen[1]) == 1
    assert len(seen[2]) == 1
    assert seen[1] != seen[2]


def test_isolation_is_for_ones_own_code() -> None:
    with pytest.raises(oodida.BadRequest, match="needs no isolation"):
        oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=3, isolation="assignment")
    with pytest.raises(oodida.BadRequest):
        oodida.Onboard("custom", module="m", signals="S", samples=3, isolation="thread")  # type: ignore[arg-type]


def test_a_vehicle_without_a_pool_does_the_same(
    ada: oodida.Fleet, start_vehicle: StartVehicle
) -> None:
    name = f"cold-{ada.user}"
    start_vehicle(name, f"--image=minimal={reference('sandbox-minimal')}", "--pool=0")
    ada.deploy(SPEEDS, name="m", vehicles=oodida.Select.ids(name))
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids(name),
            onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=3),
            offboard=MEAN,
        )
    )
    assert run.result() is not None
