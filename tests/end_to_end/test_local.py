"""`oodida.local` starts a whole system and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

import oodida
from protocol.errors import BadAuthorityFile, BadRecording, Forbidden, SetupError
from protocol.messages import new_id
from tests.conftest import until

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made in this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def containers(*, vehicle: str = "", pid: int = 0) -> list[dict[str, Any]]:
    """The sandbox containers of a vehicle, and the brokers that a process started."""
    with closing(docker.from_env()) as client:
        found = client.api.containers(all=True, filters={"label": "io.oodida.owner"})
        found += client.api.containers(all=True, filters={"label": "io.oodida.local"})
    return [
        c
        for c in found
        if c["Labels"].get("io.oodida.owner") == f"vehicle-{vehicle}"
        or c["Labels"].get("io.oodida.local", "").startswith(f"{pid}:")
    ]


def processes(vehicle: str, url: str = "") -> list[str]:
    """The processes of a vehicle, or of all parts on a broker, by number."""
    marks = {f"--name={vehicle}".encode(), url.encode() or b"-"}
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if marks & set(words):
            found.append(path.parent.name)
    return found


def test_it_leaves_nothing_behind(folder: Path) -> None:
    name = f"car-{new_id()}"
    with oodida.local({name: None}) as fleet:
        url = fleet.url
        fleet.deploy("def custom_code(window):\n    return 1\n", name="m")
        run = fleet.submit(
            oodida.Assignment(
                onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
                offboard=oodida.Offboard("mean"),
            )
        )
        assert run.result() == 1
        assert len(processes(name, url)) == 3
        assert len(containers(pid=os.getpid())) >= 1
        assert len(list(folder.iterdir())) == 1
    assert processes(name, url) == []
    assert containers(vehicle=name) == []
    assert list(folder.iterdir()) == []


def test_an_error_inside_leaves_nothing_behind_either(folder: Path) -> None:
    name = f"car-{new_id()}"
    brokers = len(containers(pid=os.getpid()))
    with pytest.raises(ZeroDivisionError), oodida.local({name: None}):
        raise ZeroDivisionError
    assert processes(name) == []
    assert len(containers(pid=os.getpid())) == brokers
    assert list(folder.iterdir()) == []


def test_a_killed_program_takes_its_parts_along_and_the_next_removes_its_broker() -> None:
    name = f"car-{new_id()}"
    program = (
        "import oodida, sys\n"
        f"with oodida.local({{'{name}': None}}) as fleet:\n"
        "    fleet.submit(oodida.Assignment(\n"  # so that messages pour in when the end comes
        "        onboard=oodida.Onboard('count', signals='VEHICLE_SPEED', samples=2),\n"
        "        offboard=oodida.Offboard('sum'), iterations=100_000))\n"
        "    print(fleet.url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert len(processes(name, url)) == 3
        os.kill(process.pid, signal.SIGKILL)
    assert until(lambda: not processes(name, url))
    assert len(containers(pid=process.pid)) == 2  # broker and registry
    with oodida.local({f"car-{new_id()}": None}):
        assert containers(pid=process.pid) == []


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="no file"), oodida.local({"car-1": "nowhere.csv"}):
        pass
    broken = tmp_path / "broken.csv"
    broken.write_text("A,A\n1,2\n")
    with pytest.raises(BadRecording, match="A"), oodida.local({"car-1": broken}):
        pass
    with pytest.raises(oodida.BadRequest, match="vehicle name"), oodida.local({"a/b": None}):
        pass
    stranger = {"car-2": {"model": "x"}}
    with (
        pytest.raises(oodida.BadRequest, match="car-2"),
        oodida.local({"car-1": None}, attributes=stranger),
    ):
        pass
    roles = tmp_path / "roles.toml"
    for text, kind, said in (
        (None, BadAuthorityFile, "cannot be read"),
        ("[users.bob]\nrole = 'king'\n", BadAuthorityFile, "roles.toml: users"),
        ("[users.bob]\nrole = 'analyst'\n", Forbidden, "ada has no role"),
    ):
        if text is not None:
            roles.write_text(text)
        with (
            pytest.raises(kind, match=said),
            oodida.local({"car-1": None}, user="ada", authority=roles),
        ):
            pass


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    brokers = len(containers(pid=os.getpid()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match="taken"), oodida.local({"car-1": None}, port=port):
            pass
    assert len(containers(pid=os.getpid())) == brokers


def test_what_the_users_own_code_raises_stays_what_it_is() -> None:
    with pytest.raises(docker.errors.NotFound), oodida.local({}):
        raise docker.errors.NotFound("the user's own")
