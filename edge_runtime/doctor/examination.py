"""Looking at the machine: what is asked of the engine and the system, and judged."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from edge_runtime.doctor import judge, trials
from edge_runtime.sandbox import Limits, Sandbox
from edge_runtime.sandbox.engine import EngineFailure, Engines
from edge_runtime.sandbox.settings import Shape, container
from protocol.finding import Finding, Level, problem, warning

#: Where the engine's client looks if DOCKER_HOST does not say.
LOCAL: Final = "unix:///var/run/docker.sock"


def examine(
    images: Mapping[str, str], role: str = "vehicle", runtime: str | None = None
) -> Iterator[Finding]:
    """Look at everything, one finding after the other; less if the engine does not answer.

    Args:
        images: environment -> sandbox image, those that the runtime is to be given.
        role: "vehicle" or "worker".
        runtime: the engine's runtime for sandboxes; None for its default.
    """
    host = os.environ.get("DOCKER_HOST") or LOCAL
    yield _address(host)
    engines = Engines()
    try:
        with engines.borrow() as engine:
            info, present = engine.info(), engine.images()
    except EngineFailure as failure:
        todo = "start it (`images/engine.sh` in a checkout), or correct DOCKER_HOST"
        yield problem("engine", str(failure)[:500], todo)
        return
    except ImportError as missing:
        todo = "install the edge runtime with its libraries: the extra `edge`"
        yield problem("engine", f"the library {missing.name} is not installed", todo)
        return
    finally:
        engines.close()
    yield from _said(info, runtime)
    found = judge.images(images, present, role)
    yield found
    yield _disk(info, host)
    yield judge.memory(int(info.get("MemTotal") or 0), _available(host))
    yield from _tried(images, found, runtime)


def _said(info: Mapping[str, Any], runtime: str | None) -> Iterator[Finding]:
    version = str(info.get("ServerVersion") or "")
    components: dict[str, str] = info["Components"]
    yield judge.engine(version, str(info["ApiVersion"]))
    yield judge.runc(components)
    yield judge.kernel(str(info.get("KernelVersion") or ""))
    yield judge.cgroups(str(info.get("CgroupVersion") or ""), str(info.get("CgroupDriver") or ""))
    yield judge.support(info)
    yield judge.seccomp([str(option) for option in info.get("SecurityOptions") or ()])
    yield judge.io_uring(version, own_profile=has_own_profile())
    yield judge.gvisor([str(name) for name in info.get("Runtimes") or ()], runtime)


def has_own_profile() -> bool:
    """True if our containers come with a profile of system calls of their own."""
    body = container(Shape.of("image", Limits()), [], {})
    return any(option.startswith("seccomp=") for option in body["HostConfig"]["SecurityOpt"])


def _address(host: str) -> Finding:
    socket = Path(host.removeprefix("unix://"))
    return judge.address(
        host,
        there=socket.exists(),
        may_write=os.access(socket, os.R_OK | os.W_OK),
        user=_user(),
        tls=bool(os.environ.get("DOCKER_TLS_VERIFY")),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without an account, as in a container
        return str(os.getuid())


def _disk(info: Mapping[str, Any], host: str) -> Finding:
    place = str(info.get("DockerRootDir") or "")
    try:
        free = shutil.disk_usage(place).free if place and host.startswith("unix://") else None
    except OSError:
        free = None
    return judge.disk(free, place)


def _available(host: str) -> int | None:
    if not host.startswith("unix://"):
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        said = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(said.split()[1]) * 1024
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _tried(images: Mapping[str, str], found: Finding, runtime: str | None) -> Iterator[Finding]:
    """Try the limits in the smallest environment that is named and there."""
    if not images or found.level is Level.PROBLEM:
        yield warning("limits, tried", "not tried: there is no image to try them in", found.todo)
        return
    name = "minimal" if "minimal" in images else next(iter(images))
    try:
        with Sandbox({name: images[name]}, owner="doctor", runtime=runtime) as sandbox:
            yield from trials.run(sandbox, name)
    except EngineFailure as failure:
        todo = "the engine has stopped answering: see its log"
        yield problem("limits, tried", str(failure)[:500], todo)
