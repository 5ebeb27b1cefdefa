"""What each container is: every setting that makes the wall, in the words of the Engine API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from edge_runtime.sandbox import seccomp
from protocol.limits import Limits

#: Nobody: no account of any image or host has this number's rights.
USER: Final = "65534:65534"
#: What a module finds in its environment. A name without a value is one that the engine would add.
VARIABLES: Final = (
    "PATH",
    "HOSTNAME",
    "HOME=/tmp",
    "LANG=C.UTF-8",
    "OMP_NUM_THREADS=1",  # threads that are started at import are not wanted by a one-shot call,
    "OPENBLAS_NUM_THREADS=1",  # and would be lost at the fork
    "JOBLIB_MULTIPROCESSING=0",  # there is no shared memory for its semaphores
)
#: How long the libraries that a module imports may take to be imported, in seconds, before the
#: time of the call runs.
IMPORT_S: Final = 30.0


class Shape(NamedTuple):
    """What is decided when a container starts. Those of one shape can stand in for each other."""

    image: str
    memory_mb: int
    cpus: float
    processes: int
    descriptors: int
    scratch_mb: int
    scratch_files: int

    @classmethod
    def of(cls, image: str, limits: Limits) -> Shape:
        """The shape that a call with these limits needs."""
        return cls(image, *(getattr(limits, name) for name in cls._fields[1:]))


def is_gvisor(runtime: str | None) -> bool:
    """True for gVisor's runtime, `runsc`, under whatever ending its name was registered."""
    return runtime is not None and runtime.startswith("runsc")


def pids_limit(shape: Shape, runtime: str | None) -> int:
    """How many processes and threads the host counts at most.

    gVisor's kernel is a process of the host with some 50 threads, and runs each process of the
    guest in several more; the guest's own are then limited from within (`guest_processes`).
    """
    return 64 + 6 * shape.processes if is_gvisor(runtime) else shape.processes


def guest_processes(shape: Shape, runtime: str | None) -> int:
    """How many processes the guest itself allows; 0 where the host's count is the limit.

    The kernel's own limit counts by account, and all containers of the host share one.
    """
    return shape.processes if is_gvisor(runtime) else 0


def answer_size(limits: Limits) -> int:
    """How many bytes an answer may have on the pipe.

    Text on the pipe is longer than what the bound counts, where bytes are written as base64 or
    floats as decimals; three times covers both. The exact size is checked afterwards.
    """
    return 3 * limits.value.size + 4096


def container(
    shape: Shape,
    command: Sequence[str],
    labels: Mapping[str, str],
    runtime: str | None = None,
) -> dict[str, Any]:
    """Return the body of the engine's `create`."""
    memory = shape.memory_mb * 2**20
    scratch = f"size={shape.scratch_mb}m,nr_inodes={shape.scratch_files},mode=1777"
    ceilings = {
        "nofile": shape.descriptors,
        "fsize": shape.scratch_mb * 2**20,
        "core": 0,
        "msgqueue": 0,
    }
    host = {
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp.profile()}"],
        "Privileged": False,
        "NetworkMode": "none",
        "IpcMode": "none",  # no /dev/shm
        "Tmpfs": {"/tmp": f"{scratch},noexec,nosuid,nodev"},  # noqa: S108 - inside the container
        "PidsLimit": pids_limit(shape, runtime),
        "Memory": memory,
        "MemorySwap": memory,  # memory and swap together: no swap
        "NanoCpus": int(shape.cpus * 1e9),
        "Ulimits": [{"Name": n, "Soft": most, "Hard": most} for n, most in ceilings.items()],
        "OomScoreAdj": 1000,  # if the host runs out of memory, this goes first
        "LogConfig": {"Type": "none"},  # what is printed would fill the host's disk
        "Init": False,
        "RestartPolicy": {"Name": "no"},
    }
    if runtime is not None:
        host["Runtime"] = runtime
    return {
        "Image": shape.image,
        "Cmd": list(command),
        "User": USER,
        "WorkingDir": "/tmp",  # noqa: S108
        "Hostname": "sandbox",
        "Env": list(VARIABLES),
        "Labels": dict(labels),
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        # Beside the mode "none": the engine then has no network to set up, which is half of the
        # time that a start takes. The container has a namespace of its own with nothing in it.
        "NetworkDisabled": True,
        "HostConfig": host,
    }
