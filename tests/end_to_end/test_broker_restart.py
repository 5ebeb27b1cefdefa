"""The broker keeps nothing over a restart; the parts make up for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import pytest

import oodida
from tests.conftest import until

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def fleet(engine: None) -> Iterator[oodida.Fleet]:  # noqa: ARG001
    """A system whose broker comes back at the same address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with oodida.local({"car-1": None, "car-2": None}, port=port) as fleet:
        yield fleet


def restart_broker(fleet: oodida.Fleet) -> None:
    port = fleet.url.rpartition(":")[2]
    with closing(docker.from_env()) as client:
        for found in client.api.containers(filters={"label": "io.oodida.local"}):
            if any(str(p.get("PublicPort")) == port for p in found["Ports"]):
                client.api.restart(found["Id"], timeout=0)


def test_what_runs_goes_on_and_modules_are_still_there(fleet: oodida.Fleet) -> None:
    fleet.deploy("def custom_code(window):\n    return len(window)\n", name="m")
    fleet.deploy("def custom_code(results):\n    return sum(results)\n", name="add", to="cloud")
    onboard = oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=8, rate_hz=8)
    spec: dict[str, Any] = {"onboard": onboard, "offboard": oodida.Offboard("custom", module="add")}
    run = fleet.submit(oodida.Assignment(**spec, iterations=6))
    next(iter(run))
    restart_broker(fleet)
    assert run.result(timeout_s=90) == 16
    assert [i.number for i in run] == [1, 2, 3, 4, 5, 6]
    assert until(lambda: sum(v.online for v in fleet.vehicles()) == 2)
    again = fleet.submit(oodida.Assignment(**spec))
    assert again.result(timeout_s=60) == 16
