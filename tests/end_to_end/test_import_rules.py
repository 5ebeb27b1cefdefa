"""What modules may import is asked at the analyst, by the cloud, and by every vehicle."""

from __future__ import annotations

from pathlib import Path

import pytest

import oodida
from images.recipe import reference
from oodida.deployment import Deployment
from protocol.messages import Deploy, new_id
from tests.end_to_end.conftest import StartVehicle, System

DENIED = "import math\nimport os, socket as s\n\n\ndef custom_code(window):\n    return 1\n"
USES_JSON = "from json import dumps\n\n\ndef custom_code(window):\n    return dumps(len(window))\n"
STRICTER = """
[[onboard]]
allow = ["math"]

[[onboard]]
deny = ["*"]
why = "this vehicle runs plain arithmetic"
"""


def test_a_denied_import_never_leaves_the_analyst(ada: oodida.Fleet, system: System) -> None:
    before = system.files()
    with pytest.raises(oodida.ModuleRefused, match=r"line 2, column 12: socket .*no network") as e:
        ada.deploy(DENIED, name="m")
    assert e.value.details["reason_code"] == "import_denied"
    assert (e.value.details["line"], e.value.details["column"]) == (2, 12)
    assert ada.modules() == []
    assert system.files() == before


def test_the_cloud_denies_it_to_who_does_not_ask_at_home(ada: oodida.Fleet, system: System) -> None:
    before = system.files()
    request = Deploy(
        mode="deploy_onboard", user_id=ada.user, id=new_id(), name="m", custom_code=DENIED
    )
    deployment = Deployment(ada._connection, request.id)
    reply = ada._connection.ask(request)
    assert reply.deployment is not None
    deployment.take(reply.deployment)
    with pytest.raises(oodida.ModuleRefused, match=r"line 2, column 12: socket .*no network") as e:
        deployment.wait()
    assert e.value.details["reason_code"] == "import_denied"
    assert (e.value.details["line"], e.value.details["column"]) == (2, 12)
    assert ada.modules() == []
    assert system.files() == before


def test_a_vehicle_may_be_stricter_and_keeps_the_code_that_it_has(
    ada: oodida.Fleet, start_vehicle: StartVehicle, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(STRICTER)
    name = f"strict-{ada.user}"
    image = f"--image=minimal={reference('sandbox-minimal')}"
    start_vehicle(name, f"--import-rules={rules}", image)
    both = oodida.Select.ids("car-1", name)
    plain = "import math\ndef custom_code(window):\n    return math.fsum([len(window)])\n"
    first = ada.deploy(plain, name="m", vehicles=both)
    assert first.states == {"car-1": "ready", name: "ready"}
    onboard = oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=4, rate_hz=20)
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids(name),
            onboard=onboard,
            offboard=oodida.Offboard("collect"),
            iterations=10_000,
        )
    )
    running = iter(run)
    next(running)

    second = ada.deploy(USES_JSON, name="m", vehicles=both)

    assert second.states == {"car-1": "ready", name: "refused"}
    assert second.reasons[name] == (
        "line 1, column 18: json.dumps is not allowed here: this vehicle runs plain arithmetic"
    )
    begun = len(run.iterations) + 1
    later = next(i for i in running if i.number > begun)
    run.cancel()
    assert later.value == [4.0]
    assert [r.digest for r in later.results] == [first.digest]
    # Who asks for the new code from now on hears that this vehicle has refused it.
    late = ada.submit(
        oodida.Assignment(vehicles=both, onboard=onboard, offboard=oodida.Offboard("collect"))
    )
    assert late.result(timeout_s=60) == ["4"]
    why = late.iterations[0].participation[name]
    assert why.status != "included"
    assert "plain arithmetic" in why.reason


def test_a_whole_system_has_the_rules_that_it_is_given(tmp_path: Path) -> None:
    with (
        pytest.raises(oodida.BadRequest, match="cannot be read"),
        oodida.local({"car-1": None}, import_rules=tmp_path / "nowhere.toml"),
    ):
        pass
