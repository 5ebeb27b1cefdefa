"""What an attack must leave as it was: the host, seen from outside of the sandbox."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker

from tests.attack.harness import GVISOR, RUN, SESSION_LABEL

#: The user of every sandbox's processes, also as the host sees them.
GUEST_UID: Final = "65534"
#: How much less there may be afterwards. Attacks try for gigabytes; others use the host too.
MEMORY_MB: Final = 200
DISK_MB: Final = 256
#: Processes of a container that waits for its next call.
_IDLE_PROCESSES: Final = 1
_CONTAINER: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Process:
    """A process on the host, and the container that it is in."""

    pid: int
    started: str
    container: str | None


@dataclass(frozen=True)
class State:
    """What there was before. Sizes in megabytes."""

    memory: float
    disk: float
    volumes: frozenset[str]
    files: frozenset[str]
    processes: frozenset[Process]
    interfaces: frozenset[str]


class Host:
    """Looks at the host. What other owners run on the same engine is left out of account."""

    def __init__(self, client: docker.APIClient) -> None:
        self._client = client
        info = client.info()
        self._root = Path(info["DockerRootDir"])
        if not self._root.is_dir():  # the engine is on another machine, or not ours to look into
            self._root = Path("/")

    def state(self) -> State:
        """What there is now."""
        return State(
            memory=_held(),
            disk=shutil.disk_usage(self._root).free / 2**20,
            volumes=frozenset(self._volumes()),
            files=frozenset(path.name for path in Path(tempfile.gettempdir()).iterdir()),
            processes=frozenset(_guests()),
            interfaces=frozenset(name for _, name in socket.if_nameindex()),
        )

    def harm(self, before: State) -> list[str]:
        """What is not as it was, in words; empty if all is."""
        now = self.state()
        running = self._client.containers()
        ours = {c["Id"]: c for c in running if _owner(c).startswith(RUN)}
        waiting = {id_ for id_, c in ours.items() if _waits(c)}
        others = {c["Id"] for c in running} - set(ours)
        found = [f"{c['Names'][0]} still runs" for id_, c in ours.items() if id_ not in waiting]
        found += [
            f"process {process.pid} of a container is left"
            for process in now.processes - before.processes
            if process.container not in others | waiting
        ]
        inside = Counter(process.container for process in now.processes)
        found += [
            f"{ours[id_]['Names'][0]} waits, but something runs in it"
            for id_ in waiting
            if inside[id_] > _IDLE_PROCESSES and not _under_gvisor(ours[id_])
        ]
        found += [f"volume {name} is left" for name in now.volumes - before.volumes]
        found += [f"file {name} is left" for name in now.files - before.files]
        gone = before.interfaces - now.interfaces  # those of single containers come and go
        found += [f"network {name} is gone" for name in gone if not name.startswith("veth")]
        if now.memory - before.memory > MEMORY_MB:
            found.append(f"{now.memory - before.memory:.0f} MB of memory are gone")
        if before.disk - now.disk > DISK_MB:
            found.append(f"{before.disk - now.disk:.0f} MB of disk are gone")
        return found

    def _volumes(self) -> Iterator[str]:
        # One that nobody uses: what runs beside us may have volumes.
        for volume in self._client.volumes({"dangling": True})["Volumes"] or ():
            yield volume["Name"]


def _owner(container: dict[str, Any]) -> str:
    return str(container["Labels"].get("io.oodida.owner", ""))


def _waits(container: dict[str, Any]) -> bool:
    """True for one that was started ahead of need, or serves a session that is open."""
    labels = container["Labels"]
    return labels.get("io.oodida.pool") == "idle" or f"io.oodida.{SESSION_LABEL}" in labels


def _under_gvisor(container: dict[str, Any]) -> bool:
    """True if the host does not see the guest's processes, but those of a kernel for them."""
    return str(container["Labels"].get(f"io.oodida.{SESSION_LABEL}", "")).endswith(GVISOR)


def _held() -> float:
    """Megabytes that are held by no process but the kernel, or by this one.

    Those of other processes come and go as they like; a guest's are seen by its process. What could
    stay behind is what a container leaves in the kernel (scratch space, tables), and what the one
    who reads its output has taken.
    """
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kernel = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    own = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert own is not None
    held = ("Shmem", "SUnreclaim", "KernelStack", "PageTables")
    return (sum(kernel[name] for name in held) + int(own[1])) / 1024


def _guests() -> Iterator[Process]:
    """The processes of every sandbox on this machine, or of whatever has got the same user."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text(encoding="utf-8", errors="replace")
            inside = _CONTAINER.search((folder / "cgroup").read_text(encoding="utf-8"))
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended
            continue
        if re.search(rf"^Uid:\s+{GUEST_UID}\s", status, re.MULTILINE):
            started = stat.rpartition(")")[2].split()[19]
            yield Process(int(folder.name), started, inside[0] if inside else None)
