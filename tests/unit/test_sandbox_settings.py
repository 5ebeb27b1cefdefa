"""Every setting of the wall, and that none can be widened by what a call brings along."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from edge_runtime.sandbox import DEFAULT_LIMITS, Call, Limits, seccomp
from edge_runtime.sandbox import settings as s
from edge_runtime.sandbox.reaper import is_alive, process_mark
from protocol import values
from protocol.module import Environment, Side

BODY = s.container(s.Shape.of("image", Limits(memory_mb=64, scratch_mb=2)), ["x"], {"a": "b"})
HOST = BODY["HostConfig"]


def test_wall() -> None:
    assert BODY["User"] == "65534:65534"
    assert BODY["NetworkDisabled"] is True
    assert BODY["Tty"] is False
    assert HOST["CapDrop"] == ["ALL"]
    assert HOST["SecurityOpt"] == ["no-new-privileges", f"seccomp={seccomp.profile()}"]
    assert HOST["ReadonlyRootfs"] is True
    assert HOST["NetworkMode"] == "none"
    assert HOST["IpcMode"] == "none"
    assert HOST["Memory"] == HOST["MemorySwap"] == 64 * 2**20
    assert HOST["LogConfig"] == {"Type": "none"}
    assert set(HOST["Tmpfs"]) == {"/tmp"}  # noqa: S108 - inside the container
    options = HOST["Tmpfs"]["/tmp"].split(",")  # noqa: S108
    assert {"size=2m", "nr_inodes=1024", "noexec", "nosuid", "nodev"} <= set(options)
    assert not {"Binds", "Mounts", "Devices", "PidMode", "CapAdd", "VolumesFrom"} & set(HOST)
    assert "Runtime" not in HOST


def test_runtime() -> None:
    body = s.container(s.Shape.of("image", DEFAULT_LIMITS), [], {}, "runsc")
    assert body["HostConfig"]["Runtime"] == "runsc"
    # gVisor's own threads count on the host, so there the guest limits its processes itself.
    shape = s.Shape.of("image", Limits(processes=10))
    assert s.pids_limit(shape, "runsc-kvm") > 64
    assert s.guest_processes(shape, "runsc-kvm") == 10
    for runtime in (None, "runc", "kata"):
        assert (s.pids_limit(shape, runtime), s.guest_processes(shape, runtime)) == (10, 0)


def test_environment_is_an_allow_list() -> None:
    names = {variable.partition("=")[0] for variable in BODY["Env"]}
    # The first two have no value: this is how the engine is told to leave them out.
    assert names == {
        "PATH", "HOSTNAME", "HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "JOBLIB_MULTIPROCESSING",
    }  # fmt: skip


def test_what_a_call_brings_by_itself_needs_no_other_container() -> None:
    shape = s.Shape.of("image", DEFAULT_LIMITS)
    same = Limits(time_s=1, cpu_s=1, output_kb=1, value_bytes=16, value_depth=1, value_items=1)
    assert s.Shape.of("image", same) == shape
    for other in ({"memory_mb": 64}, {"cpus": 0.5}, {"processes": 9}, {"scratch_files": 99}):
        assert s.Shape.of("image", Limits.model_validate(other)) != shape


@pytest.mark.parametrize(
    "wrong", [{"time_s": 0}, {"memory_mb": 1}, {"processes": -1}, {"nonsense": 1}, {"cpu_s": "x"}]
)
def test_limits_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(wrong)


def test_limits_from_plain_data() -> None:
    limits = Limits.model_validate({"value_bytes": 50, "value_depth": 2, "value_items": 9})
    assert limits.value == values.Bounds(50, 2, 9)


def test_request() -> None:
    call = Call("source", Environment.MINIMAL, argument=[b"x"], verify=Side.OFFBOARD)
    assert values.from_text(call.request(values.Bounds(1, 2, 3))) == {
        "source": "source", "argument": [b"x"], "previous": None, "verify": "offboard",
        "bounds": {"size": 1, "depth": 2, "items": 3},
    }  # fmt: skip


def test_marks_of_processes() -> None:
    assert is_alive(process_mark())
    assert not is_alive(process_mark() + "1")
    assert not is_alive(process_mark().replace(" ", " 9", 1))
    for garbage in ("", "x", "a b c", "a b -1 c"):
        assert not is_alive(garbage)


def test_a_mark_does_not_outlive_its_process() -> None:
    program = "from edge_runtime.sandbox.reaper import process_mark; print(process_mark())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    mark = done.stdout.strip()
    assert mark.split()[0] == process_mark().split()[0]
    assert not is_alive(mark)


def test_importing_the_sandbox_loads_no_client_of_the_engine() -> None:
    """It is 8 MB of memory that an idle vehicle can do without."""
    program = (
        "import sys, edge_runtime.sandbox as s; print({'docker', 'requests'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
