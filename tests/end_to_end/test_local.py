"""`oodida.local` starts a whole system and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import oodida
from protocol.errors import BadRecording, SetupError

pytestmark = pytest.mark.usefixtures("engine")


def containers() -> set[str]:
    """Every container of this project."""
    import docker

    client = docker.from_env()
    found = client.containers.list(all=True, filters={"label": "io.oodida.owner"})
    found += client.containers.list(all=True, filters={"label": "io.oodida.local"})
    names = {str(c.id) for c in found}
    client.close()
    return names


def processes() -> set[str]:
    """Every process of the parts, by number."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if {b"edge_runtime", b"orchestrator"} & set(words):
            found.add(path.parent.name)
    return found


def folders() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob("oodida-*")}


def nothing_since(before: tuple[set[str], set[str], set[str]]) -> bool:
    """True if nothing is there now that was not there before."""
    return not any(now - then for now, then in zip(everything(), before, strict=True))


def everything() -> tuple[set[str], set[str], set[str]]:
    return containers(), processes(), folders()


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    for _ in range(int(seconds * 20)):
        if condition():
            return True
        threading.Event().wait(0.05)
    return False


def test_it_leaves_nothing_behind() -> None:
    before = containers(), processes(), folders()
    with oodida.local({"car-1": None}) as fleet:
        fleet.deploy("def custom_code(window):\n    return 1\n", name="m")
        run = fleet.submit(
            oodida.Assignment(
                onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=2),
                offboard=oodida.Offboard("mean"),
            )
        )
        assert run.result() == 1
        assert len(processes() - before[1]) == 3
    assert until(lambda: nothing_since(before))


def test_an_error_inside_leaves_nothing_behind_either() -> None:
    before = containers(), processes(), folders()
    with pytest.raises(ZeroDivisionError), oodida.local({"car-1": None}):
        raise ZeroDivisionError
    assert until(lambda: nothing_since(before))


def test_a_killed_program_takes_its_parts_along_and_the_next_removes_its_broker() -> None:
    before = containers(), processes(), folders()
    program = (
        "import oodida, sys\n"
        "with oodida.local({'car-1': None}):\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        os.kill(process.pid, signal.SIGKILL)
    assert until(lambda: not processes() - before[1])
    with oodida.local({"car-1": None}):
        pass
    assert until(lambda: not containers() - before[0])


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="no file"), oodida.local({"car-1": "nowhere.csv"}):
        pass
    broken = tmp_path / "broken.csv"
    broken.write_text("A,A\n1,2\n")
    with pytest.raises(SetupError, match="bad_recording"), oodida.local({"car-1": broken}):
        pass
    with pytest.raises(oodida.BadRequest, match="vehicle name"), oodida.local({"a/b": None}):
        pass
    stranger = {"car-2": {"model": "x"}}
    with (
        pytest.raises(oodida.BadRequest, match="car-2"),
        oodida.local({"car-1": None}, attributes=stranger),
    ):
        pass
