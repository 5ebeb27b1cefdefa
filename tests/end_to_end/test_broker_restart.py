"""The broker keeps nothing over a restart; the parts make up for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import docker
import pytest

import oodida
from tests.conftest import until

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def fleet(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[oodida.Fleet]:  # noqa: ARG001
    """A system whose broker comes back at the same address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder, cars = tmp_path_factory.mktemp("restarted"), {"car-1": None, "car-2": None}
    with oodida.local(cars, port=port, others=["eve"], folder=folder) as fleet:
        yield fleet


def broker_of(fleet: oodida.Fleet, client: docker.DockerClient) -> Any:
    port = fleet.url.rpartition(":")[2]
    ours: dict[str, Any] = {"label": "io.oodida.local"}
    found = client.containers.list(filters=ours, ignore_removed=True)
    (broker,) = [c for c in found if f"'HostPort': '{port}'" in str(c.ports)]
    return broker


def restart_broker(fleet: oodida.Fleet) -> None:
    with closing(docker.from_env()) as client:
        broker_of(fleet, client).restart(timeout=0)


@contextmanager
def broker_away(fleet: oodida.Fleet) -> Iterator[None]:
    with closing(docker.from_env()) as client:
        broker = broker_of(fleet, client)
        broker.stop(timeout=0)
        try:
            yield
        finally:
            broker.start()


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


def test_whoever_waits_is_told_when_the_cloud_is_away_and_when_it_is_back(
    fleet: oodida.Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    onboard = oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=100, rate_hz=4)
    assert fleet.identity is not None
    eve = fleet.identity.with_name("eve")
    with oodida.connect(fleet.url, "eve", patience_s=6, identity=eve) as impatient:
        both: dict[str, Any] = {"onboard": onboard, "offboard": oodida.Offboard("mean")}
        run = impatient.submit(oodida.Assignment(**both, deadline_s=120))
        with broker_away(fleet):
            with pytest.raises(oodida.CloudAway, match=f"oodida watch {run.id}"):
                run.result()
            assert "no connection to the broker" in caplog.text
        assert run.result(timeout_s=120) is not None  # it went on, and so can whoever asks again
    assert "connected to the broker" in caplog.text


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_the_command_tells_that_the_broker_is_away_and_is_back(
    fleet: oodida.Fleet, more: list[str]
) -> None:
    words = ["run", "--samples", "20", "--rate-hz", "4", "--iterations", "3", "--deadline", "120"]
    with subprocess.Popen(
        [sys.executable, "-c", "from oodida.cli import main; main()", *words, *more],
        env={
            **os.environ, "OODIDA_URL": fleet.url, "OODIDA_USER": "eve", "COLUMNS": "200",
            "OODIDA_IDENTITY": str(fleet.identity and fleet.identity.with_name("eve")),
        },
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        assert command.stderr is not None
        first = command.stdout.readline()
        with broker_away(fleet):
            assert any("no connection to the broker" in line for line in command.stderr)
        assert any("connected to the broker" in line for line in command.stderr)
        assert len([first, *command.stdout]) == 3, "an iteration a line"
    assert command.returncode == 0
