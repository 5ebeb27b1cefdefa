"""With vehicles on different digests, each mode combines what it says, and names the rest."""

from __future__ import annotations

from typing import NamedTuple

import pytest

import oodida
from tests.end_to_end.conftest import VEHICLES

OLD = "def custom_code(window):\n    return 1\n"
NEW = "def custom_code(window):\n    return 2\n"


class Mixed(NamedTuple):
    """An iteration in which car-1 had the new code and the others the old."""

    iteration: oodida.Iteration
    old: str
    new: str


def mixed(fleet: oodida.Fleet, consistency: str, wanted: dict[str, str]) -> Mixed:
    """Run until an iteration has the participation that is wanted."""
    old = fleet.deploy(OLD, name="m")
    run = fleet.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids(*VEHICLES),
            onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("collect"),
            iterations=100,
            consistency=consistency,  # type: ignore[arg-type]
            deadline_s=6,
        )
    )
    iterations = iter(run)
    first = next(iterations)
    assert first.value == [1, 1, 1]
    new = fleet.deploy(NEW, name="m", vehicles=oodida.Select.ids("car-1"))
    for iteration in iterations:
        found = {vehicle: p.status for vehicle, p in iteration.participation.items()}
        after = {r.vehicle: r.digest for r in iteration.results}
        if found == wanted and (consistency == "pinned" or after.get("car-1") != old.digest):
            run.cancel()
            return Mixed(iteration, old.digest, new.digest)
        assert iteration.number < 20
    raise AssertionError("the assignment ended")


OTHERS = {"car-2": "included", "car-3": "included"}


def test_majority_keeps_the_largest_group(ada: oodida.Fleet) -> None:
    found = mixed(ada, "majority", {"car-1": "wrong_code", **OTHERS})
    assert found.iteration.value == [1, 1]
    assert {r.digest for r in found.iteration.results} == {found.old}
    assert found.new[:12] in found.iteration.participation["car-1"].reason


def test_newest_waits_for_the_current_generation(ada: oodida.Fleet) -> None:
    wanted = {"car-1": "included", "car-2": "late", "car-3": "late"}
    found = mixed(ada, "newest", wanted)
    assert found.iteration.value == [2]
    assert {r.digest for r in found.iteration.results} == {found.new}


def test_newest_takes_those_in_that_get_it_in_time(ada: oodida.Fleet) -> None:
    ada.deploy(OLD, name="m")
    slow = "import time\ndef custom_code(window):\n    time.sleep(0.5)\n    return 1\n"
    ada.deploy(slow, name="m")
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
            offboard=oodida.Offboard("collect"),
            consistency="newest",
            deadline_s=20,
        )
    )
    new = ada.deploy(NEW, name="m")  # while the first iteration runs: all are asked again
    assert run.result() == [2, 2, 2]
    assert {r.digest for r in run.iterations[0].results} == {new.digest}


def test_pinned_keeps_one_digest(ada: oodida.Fleet) -> None:
    found = mixed(ada, "pinned", {"car-1": "wrong_code", **OTHERS})
    assert found.iteration.value == [1, 1]
    assert "pinned" in found.iteration.participation["car-1"].reason


def test_any_mixes_knowingly(ada: oodida.Fleet) -> None:
    found = mixed(ada, "any", {"car-1": "included", **OTHERS})
    assert found.iteration.value == [2, 1, 1]
    assert {r.digest for r in found.iteration.results} == {found.old, found.new}


def test_pinned_to_a_digest_that_was_never_deployed_is_refused(ada: oodida.Fleet) -> None:
    ada.deploy(OLD, name="m")
    with pytest.raises(oodida.OodidaError) as caught:
        ada.submit(
            oodida.Assignment(
                onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
                offboard=oodida.Offboard("collect"),
                consistency="pinned",
                digest="0" * 64,
            )
        )
    assert caught.value.code == "unknown_module"
