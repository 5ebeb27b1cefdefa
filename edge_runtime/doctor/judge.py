"""What to think of what an engine and its machine say of themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from protocol.finding import Finding, ok, problem, warning

#: The first releases without the breakouts that are known of each line of runc. The lines before
#: them have no such release of their own.
_RUNC: Final = {(1, 2): 8, (1, 3): 3}
#: runc releases of this line and later have them all, but its first candidates not.
_RUNC_SINCE: Final = (1, 4)
_RUNC_CANDIDATE: Final = 3
#: Without it the engine cannot read our profile of system calls (`errnoRet`).
_ENGINE_LEAST: Final = (20, 10, 10)
#: Since then the engine's own profile of system calls refuses io_uring.
_ENGINE_IO_URING: Final = (25, 0, 0)
#: The oldest line of the kernel that its makers still repair.
_KERNEL_LEAST: Final = (5, 10, 0)
_MB: Final = 2**20
#: Bytes below which it is tight for images and containers' disks, and below which it is hopeless.
DISK_TIGHT: Final = 2048 * _MB
DISK_LEAST: Final = 256 * _MB
#: Bytes of memory for a few containers at once.
MEMORY_TIGHT: Final = 512 * _MB
MEMORY_LEAST: Final = 128 * _MB
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_CANDIDATE: Final = re.compile(r"rc[.-]?(\d+)")


class Version(NamedTuple):
    """Three numbers at the start of a version. Distributions put more behind them."""

    major: int
    minor: int
    patch: int

    @classmethod
    def of(cls, text: str) -> Version | None:
        """Read "v1.1.5+ds1" or "6.18-arm"; None if there is no version in it."""
        found = _VERSION.search(text)
        return cls(int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def engine(version: str, interface: str) -> Finding:
    """The engine is one that can be used."""
    seen = f"version {version or 'unknown'}, interface {interface or 'unknown'}"
    number = Version.of(version)
    if number is None:
        return warning("engine", seen, "it is none that is known here: see whether the limits hold")
    if number < _ENGINE_LEAST:
        return problem("engine", seen, "install Docker Engine 20.10.10 or newer")
    return ok("engine", seen)


def runc(components: Mapping[str, str]) -> Finding:
    """The program that starts containers has no known way out."""
    text = components.get("runc", "")
    number = Version.of(text)
    if number is None:
        others = ", ".join(f"{name} {version}" for name, version in components.items())
        return warning(
            "runc", f"the engine names no version of runc ({others or 'nothing at all'})",
            "see that whatever starts its containers is up to date",
        )  # fmt: skip
    line = number[:2]
    candidate = _CANDIDATE.search(text)
    if line >= _RUNC_SINCE:
        early = line == _RUNC_SINCE and number.patch == 0 and candidate is not None
        safe = not (early and candidate is not None and int(candidate[1]) < _RUNC_CANDIDATE)
    else:
        safe = line in _RUNC and number.patch >= _RUNC[line]
    if safe:
        return ok("runc", f"version {text}")
    return warning(
        "runc", f"version {text}, from which ways out of a container are known",
        "update to 1.2.8, 1.3.3 or newer; a distribution may have repaired an older one, which "
        "its list of security notices says",
    )  # fmt: skip


def kernel(release: str) -> Finding:
    """The kernel, which is the other side of the wall, is still repaired."""
    number = Version.of(release)
    if number is None:
        return warning("kernel", f"{release or 'unknown'}", "see that it is up to date")
    if number < _KERNEL_LEAST:
        return warning("kernel", release, "update it: this line is not repaired any more")
    return ok("kernel", release)


def io_uring(engine_version: str, *, own_profile: bool) -> Finding:
    """Containers cannot reach io_uring, of which many ways out of containers were made."""
    number = Version.of(engine_version)
    lets_through = number is None or number < _ENGINE_IO_URING
    if own_profile:
        but = "; the engine's own would let io_uring through" if lets_through else ""
        return ok("profile of system calls", f"ours is used{but}")
    if lets_through:
        return warning(
            "profile of system calls", f"the one of engine {engine_version} allows io_uring",
            "update the engine to 25 or newer",
        )  # fmt: skip
    return ok("profile of system calls", "the engine's, which refuses io_uring")


def seccomp(options: Sequence[str]) -> Finding:
    """The kernel can refuse system calls."""
    found = next((option for option in options if "seccomp" in option), None)
    if found is None:
        return problem(
            "seccomp", f"the engine cannot filter system calls (it has {list(options)})",
            "use a kernel with CONFIG_SECCOMP_FILTER and an engine that is built with seccomp",
        )  # fmt: skip
    return ok("seccomp", found)


def cgroups(version: str, driver: str) -> Finding:
    """Containers can be limited at all."""
    seen = f"version {version or 'unknown'}, driver {driver or 'unknown'}"
    if driver == "none":
        todo = "an engine without root needs control groups that are handed to its user, version 2"
        return problem("control groups", seen, todo)
    return ok("control groups", seen)


#: What the engine calls a limit -> what it bounds, and whether it is a problem to be without.
_SUPPORT: Final = {
    "MemoryLimit": ("memory", True),
    "SwapLimit": ("swap", False),
    "PidsLimit": ("processes", True),
    "CpuCfsQuota": ("processor", True),
}


def support(info: Mapping[str, Any]) -> Finding:
    """The engine says that it can limit what calls use. Whether it does is tried elsewhere."""
    missing = [key for key in _SUPPORT if info.get(key) is False]
    words = ", ".join(_SUPPORT[key][0] for key in missing)
    if not missing:
        return ok("limits, as the engine says", "memory, swap, processes, processor")
    todo = "start the kernel with cgroup_enable=memory swapaccount=1, or use control groups 2"
    seen = f"it cannot limit {words}"
    serious = any(_SUPPORT[key][1] for key in missing)
    return (problem if serious else warning)("limits, as the engine says", seen, todo)


def gvisor(runtimes: Collection[str], wanted: str | None) -> Finding:
    """The runtime that was asked for is there; gVisor is a choice."""
    known = ", ".join(sorted(runtimes)) or "none"
    if wanted is not None and wanted not in runtimes:
        todo = f"install it and name it in the engine's daemon.json, or drop --runtime {wanted}"
        return problem("runtimes", f"there is no {wanted}; there are {known}", todo)
    choice = "" if "runsc" in runtimes else "; gVisor (runsc), a second wall, would be a choice"
    return ok("runtimes", f"{known}{choice}")


def images(wanted: Mapping[str, str], present: Collection[str], role: str) -> Finding:
    """The sandbox images that were named are there."""
    if not wanted:
        return warning(
            "images", "none was named: without one only built-in methods run here",
            "name them as for the runtime itself: --image minimal=IMAGE",
        )  # fmt: skip
    missing = {name: image for name, image in wanted.items() if not _is_among(image, present)}
    if missing:
        listed = ", ".join(f"{name} ({image})" for name, image in missing.items())
        todo = "build them (`make setup`, `python -m images.build`) or pull them"
        return problem("images", f"the engine has no image for {listed}", todo)
    if role == "worker" and len(wanted) == 1:
        todo = "a worker tries every module: give it the images of all environments in use"
        return warning("images", f"only {', '.join(wanted)} is here", todo)
    return ok("images", ", ".join(f"{name} ({image})" for name, image in wanted.items()))


def _is_among(image: str, present: Collection[str]) -> bool:
    name = image.rpartition("/")[2]
    return image in present or (":" not in name and f"{image}:latest" in present)


def disk(free: int | None, place: str) -> Finding:
    """There is room for images and containers. ``free`` in bytes, None where it cannot be seen."""
    if free is None:
        todo = f"run this on the engine's machine, outside of a container, or look at {place} there"
        return warning("disk", f"{place or 'its folder'} cannot be seen from here", todo)
    seen = f"{free // _MB} MB free in {place}"
    todo = "make room; `python -m images.build --prune` removes images of older definitions"
    if free < DISK_LEAST:
        return problem("disk", seen, todo)
    return warning("disk", seen, todo) if free < DISK_TIGHT else ok("disk", seen)


def memory(total: int, available: int | None) -> Finding:
    """There is memory for a few containers. Bytes; ``available`` is None where it is not said."""
    free = total if available is None else min(total, available)
    seen = f"{free // _MB} of {total // _MB} MB are available"
    todo = "a call takes up to its limit of memory: lower it or --calls, or end other programs"
    if free < MEMORY_LEAST:
        return problem("memory", seen, todo)
    return warning("memory", seen, todo) if free < MEMORY_TIGHT else ok("memory", seen)


def address(host: str, *, there: bool, may_write: bool, user: str, tls: bool) -> Finding:
    """The engine's address is one that this user may use, and others may not."""
    if not host.startswith("unix://"):
        if tls or host.startswith("ssh://"):
            return ok("address of the engine", host)
        todo = "whoever reaches it is root there: use a local socket, or TLS (DOCKER_TLS_VERIFY)"
        return warning("address of the engine", f"{host}, without TLS", todo)
    if not there:
        todo = "start the engine (`images/engine.sh` in a checkout), or correct DOCKER_HOST"
        return problem("address of the engine", f"there is no {host}", todo)
    if not may_write:
        todo = f"add the user to the socket's group: usermod -aG docker {user}, and log in again"
        return problem("address of the engine", f"{user} may not use {host}", todo)
    return ok("address of the engine", f"{host}, for {user}")
