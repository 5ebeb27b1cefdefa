"""Vehicles that lose their power in a task, in a whole system: the result comes all the same."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

import oodida
from oodida.local import sandbox_images
from tests.cloud_double import Vehicle
from tests.conftest import until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(240)]
MODULE = "def custom_code(window):\n    return len(window) * 1000 + sum(window)\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("power-cut")


@pytest.fixture(scope="module")
def fleet(engine: None, folder: Path) -> Iterator[oodida.Fleet]:  # noqa: ARG001
    """A system whose broker comes back at the same address, without a vehicle."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with oodida.local({}, port=port, folder=folder / "system", trust=False) as fleet:
        yield fleet


@pytest.fixture
def vehicle(fleet: oodida.Fleet, folder: Path) -> Iterator[Vehicle]:
    images = [f"--image={name}={image}" for name, image in sandbox_images().items()]
    made = Vehicle(fleet.url, "car-1", folder / "car-1", *images, "--rate-hz=10")
    made.start()
    yield made
    made.stop()


def rows(vehicle: Vehicle, table: str) -> int:
    """How many rows a table of the vehicle's journal has."""
    with closing(sqlite3.connect(vehicle.folder / "journal.db", timeout=5)) as journal:
        (count,) = journal.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(count)


def broker(fleet: oodida.Fleet) -> str:
    """The id of the broker's container."""
    port = fleet.url.rpartition(":")[2]
    with closing(docker.from_env()) as client:
        for found in client.api.containers(filters={"label": "io.oodida.local"}):
            if any(str(p.get("PublicPort")) == port for p in found["Ports"]):
                return str(found["Id"])
    raise LookupError("there is no broker")


def asked(samples: int) -> oodida.Assignment:
    onboard = oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=samples)
    return oodida.Assignment(
        vehicles=oodida.Select.ids("car-1"),
        onboard=onboard,
        offboard=oodida.Offboard("mean"),
        deadline_s=120,
    )


def computed(vehicle_name: str, samples: int) -> float:
    """What the module gives on a drive that was not interrupted."""
    from edge_runtime.signals import SimulatedDriver

    speeds = SimulatedDriver.named(vehicle_name).samples("VEHICLE_SPEED", 0, samples)
    return samples * 1000 + sum(speeds)


def test_killed_in_a_window_the_vehicle_gives_its_result_after_all(
    fleet: oodida.Fleet, vehicle: Vehicle
) -> None:
    fleet.deploy(MODULE, name="m")
    run = fleet.submit(asked(samples=60))
    assert until(lambda: rows(vehicle, "samples") >= 2)
    vehicle.kill()
    vehicle.start()
    run.result(timeout_s=120)
    (iteration,) = run
    assert iteration.participation["car-1"].status == "included"
    result = iteration.results[0]
    assert result.value == pytest.approx(computed("car-1", 60))
    assert result.gaps is not None
    assert result.gaps.count == 1


def test_without_a_network_it_works_from_what_it_has_and_tells_it_later(
    fleet: oodida.Fleet, vehicle: Vehicle
) -> None:
    fleet.deploy(MODULE, name="m")
    run = fleet.submit(asked(samples=40))
    assert until(lambda: rows(vehicle, "samples") >= 1)
    vehicle.kill()
    with closing(docker.from_env()) as client:
        container = broker(fleet)
        client.api.pause(container)
        try:
            vehicle.start(wait=False)  # nothing can be sent to it, no module either
            assert until(lambda: rows(vehicle, "reports") == 1, seconds=60)
            assert rows(vehicle, "orders") == 0
        finally:
            client.api.unpause(container)
    run.result(timeout_s=120)
    (iteration,) = run
    assert iteration.results[0].value == pytest.approx(computed("car-1", 40))
    assert until(lambda: rows(vehicle, "reports") == 0)
