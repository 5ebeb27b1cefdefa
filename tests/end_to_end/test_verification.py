"""A module is tried before anything leaves the analyst, and again in the cloud's sandbox."""

from __future__ import annotations

import textwrap

import pytest

import oodida
from oodida.deployment import Deployment
from protocol.errors import SourceTooLarge, UnknownEnvironment, UnknownVehicle
from protocol.messages import Deploy, new_id
from tests.end_to_end.conftest import VEHICLES, System

REFUSED = {
    "syntax": ("x = 1\ndef custom_code(w)\n    return 1\n", "syntax_error", 2),
    "does not load": (
        "import math\nmath.nothing\ndef custom_code(w):\n    return 1\n",
        "load_failed",
        2,
    ),
    "no function": ("def other(w):\n    return 1\n", "no_custom_code", 1),
    "no arguments": ("\ndef custom_code():\n    return 1\n", "wrong_arguments", 2),
    "too many": ("def custom_code(a, b, c):\n    return 1\n", "wrong_arguments", 1),
    "raises": ("def custom_code(w):\n    x = 1\n    return x / 0\n", "call_failed", 3),
    "wrong value": ("def custom_code(w):\n    return {1, 2}\n", "bad_value", 1),
    "unknown name": ("def custom_code(w):\n    return median(w)\n", "call_failed", 2),
    "exits": ("import sys\ndef custom_code(w):\n    sys.exit(0)\n", "call_failed", 3),
    "no library": ("import torch\ndef custom_code(w):\n    return 1\n", "missing_library", 1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_module_never_leaves_the_analyst(
    ada: oodida.Fleet, system: System, case: str
) -> None:
    source, code, line = REFUSED[case]
    before = system.files()
    with pytest.raises(oodida.ModuleRefused) as caught:
        ada.deploy(source, name="m")
    assert caught.value.code == "module_refused"
    assert caught.value.details["reason_code"] == code
    assert caught.value.details["line"] == line
    assert f"line {line}" in caught.value.message
    assert ada.modules() == []
    assert system.files() == before


@pytest.mark.parametrize("case", REFUSED)
def test_the_cloud_does_not_trust_the_analyst(ada: oodida.Fleet, system: System, case: str) -> None:
    source, code, line = REFUSED[case]
    before = system.files()
    deployment = _around_the_client(ada, source)
    with pytest.raises(oodida.ModuleRefused) as caught:
        deployment.wait()
    assert (caught.value.details["reason_code"], caught.value.details["line"]) == (code, line)
    assert deployment.generation == 0
    assert deployment.states == {}
    assert ada.modules() == []
    assert system.files() == before


def _around_the_client(fleet: oodida.Fleet, source: str, name: str = "m") -> Deployment:
    request = Deploy(
        mode="deploy_onboard", user_id=fleet.user, id=new_id(), name=name, custom_code=source
    )
    deployment = Deployment(fleet._connection, request.id)
    reply = fleet._connection.ask(request)
    assert reply.deployment is not None
    deployment.take(reply.deployment)
    return deployment


def test_a_module_that_hangs_is_refused_by_the_cloud_with_the_limit(ada: oodida.Fleet) -> None:
    source = "import time\ndef custom_code(w):\n    time.sleep(600)\n"
    with pytest.raises(oodida.ModuleRefused, match="time limit"):
        _around_the_client(ada, source).wait()


def test_a_refused_replacement_leaves_the_old_generation_in_place(ada: oodida.Fleet) -> None:
    ada.deploy("def custom_code(w):\n    return 1\n", name="m")
    with pytest.raises(oodida.ModuleRefused):
        ada.deploy("def custom_code(w):\n    return object()\n", name="m")
    (module,) = ada.modules()
    assert (module.name, module.generation) == ("m", 1)
    assert {module.states[vehicle] for vehicle in VEHICLES} == {"ready"}


def test_an_example_is_what_the_module_is_tried_with(ada: oodida.Fleet) -> None:
    source = textwrap.dedent("""\
        def custom_code(results):
            return {"sum": sum(r["deeply"]["nested"][0] for r in results)}
        """)
    deployment = ada.deploy(
        source,
        name="m",
        to="cloud",
        example=[{"deeply": {"nested": [1.5]}}, {"deeply": {"nested": [2]}}],
    )
    assert deployment.states == {"worker-1": "ready"}
    assert deployment.warning == ""
    with pytest.raises(oodida.ModuleRefused, match="KeyError"):
        ada.deploy(source, name="m", to="cloud", example=[{"other": 1}])


def test_what_cannot_be_a_deployment_is_one_error(ada: oodida.Fleet) -> None:
    good = "def custom_code(w):\n    return 1\n"
    with pytest.raises(SourceTooLarge):
        ada.deploy("#" * 70_000, name="m")
    with pytest.raises(oodida.BadRequest, match="name"):
        ada.deploy(good, name="a/b")
    with pytest.raises(oodida.BadRequest, match="vehicles"):
        ada.deploy(good, name="m", to="moon")  # type: ignore[arg-type]
    with pytest.raises(UnknownEnvironment):
        ada.deploy(good, name="m", environment="torch")
    with pytest.raises(oodida.BadRequest, match="cannot be read"):
        ada.deploy("no/such/file.py")
    with pytest.raises(UnknownVehicle):
        ada.deploy(good, name="m", vehicles=oodida.Select.ids("ghost"))
    with pytest.raises(oodida.BadRequest, match="empty"):
        ada.deploy("   \n", name="m")
    assert ada.modules() == []
