"""A whole system for the end-to-end tests: started once, used by many users."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import oodida
from protocol.assignment import Attribute

VEHICLES = ("car-1", "car-2", "car-3")
#: Short, so that a module that hangs does not hold a test up.
LIMITS = {"time_s": 6, "cpu_s": 2, "memory_mb": 128}


#: Start a vehicle of a name, with further options of `python -m edge_runtime`.
StartVehicle = Callable[..., "subprocess.Popen[bytes]"]


class System(NamedTuple):
    """A running system: its fleet, and the folder with everybody's state."""

    fleet: oodida.Fleet
    folder: Path

    def user(self, name: str) -> oodida.Fleet:
        """A connection as another user."""
        return oodida.connect(self.fleet.url, name)

    def files(self) -> set[str]:
        """Every module file on every vehicle and worker."""
        return {str(p.relative_to(self.folder)) for p in self.folder.glob("*/modules/*/*.py")}


@pytest.fixture(scope="session")
def system(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:  # noqa: ARG001
    """Three simulated drivers, a worker, orchestrator and broker."""
    folder = tmp_path_factory.mktemp("system")
    attributes: dict[str, dict[str, Attribute]] = {
        "car-1": {"model": "etios", "year": 2014},
        "car-2": {"model": "corolla", "year": 2014},
        "car-3": {"model": "etios", "year": 2020},
    }
    with oodida.local(
        dict.fromkeys(VEHICLES),
        user="root",
        attributes=attributes,
        folder=folder,
        limits=LIMITS,
        trust=False,  # any test may be any user
    ) as fleet:
        yield System(fleet, folder)


_numbers = itertools.count(1)


@pytest.fixture
def ada(system: System) -> Iterator[oodida.Fleet]:
    """A user of the test's own, so that no test sees another's modules."""
    with system.user(f"ada-{next(_numbers)}") as fleet:
        yield fleet


@pytest.fixture
def bob(system: System) -> Iterator[oodida.Fleet]:
    """Another user."""
    with system.user(f"bob-{next(_numbers)}") as fleet:
        yield fleet


@pytest.fixture
def start_vehicle(system: System) -> Iterator[StartVehicle]:
    """Start a further vehicle, which the test may end as it likes. It has no sandbox images."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "edge_runtime", f"--name={name}", "--stop-on-eof",
                f"--broker={system.fleet.url}", f"--state={system.folder}/{name}", *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100).strip() == b"ready"
        return process

    yield start
    for process in started:
        process.terminate()  # so that it can remove its containers
        process.wait(20)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
