"""Around every attack: the host is as before, and the same sandbox serves the next call."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import docker
import pytest

from edge_runtime.sandbox import reaper
from tests.attack import harness
from tests.attack.harness import GVISOR, ISOLATIONS, Rig, Way
from tests.attack.host import Host
from tests.conftest import until


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of the short part."""
    config.addinivalue_line("markers", "gvisor: runs under gVisor too, where the engine has it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make each attack on every kind of isolation, and some of them under gVisor as well."""
    if "rig" not in metafunc.fixturenames:
        return
    runtime = metafunc.config.getoption("--sandbox-runtime")
    ways = [Way(isolation, runtime) for isolation in ISOLATIONS]
    if runtime is None and metafunc.definition.get_closest_marker("gvisor"):
        ways.append(Way("call", GVISOR))
    metafunc.parametrize("rig", ways, indirect=True, ids=str)


@pytest.fixture(scope="session", autouse=True)
def _removed_at_once() -> Iterator[None]:
    """Containers are removed after their call and not a moment later: each test waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reaper, "DELAY_S", 0.0)
        yield


@pytest.fixture(scope="session")
def rigs(engine: None, pytestconfig: pytest.Config) -> Iterator[Callable[[Way], Rig]]:  # noqa: ARG001
    """One sandbox a way for all attacks: what one of them broke, the next would find."""
    runtimes, made = harness.runtimes(), dict[Way, Rig]()
    asked_for = pytestconfig.getoption("--sandbox-runtime")
    with ExitStack() as stack:

        def rig_of(way: Way) -> Rig:
            if way.runtime is not None and way.runtime not in runtimes:
                absent = pytest.fail if way.runtime == asked_for else pytest.skip
                absent(f"the engine has no runtime {way.runtime}; `make setup` adds gVisor's")
            if way not in made:
                made[way] = stack.enter_context(harness.rig(way))
            return made[way]

        yield rig_of


@pytest.fixture(scope="session")
def host(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:  # noqa: ARG001
    """The host, with a folder for temporary files that nobody else writes to."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch, closing(docker.from_env()) as client:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setitem(os.environ, "TMPDIR", folder)
        yield Host(client.api)


@pytest.fixture(autouse=True)
def unharmed(host: Host) -> Iterator[None]:
    """No container, process, volume, memory, disk or file of the attack is left."""
    before = host.state()
    yield
    assert until(lambda: not host.harm(before)), host.harm(before)


@pytest.fixture
def rig(rigs: Callable[[Way], Rig], request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The sandbox under attack. After the test the next call has to succeed."""
    made = rigs(request.param)
    yield made
    assert made.serves_the_next_call()
