"""Whether a set of packages is whole: all that is needed is there. Pure.

pip reads conditions such as `python_version < "3.12"` for the interpreter that it runs on, which
need not be that of the images. So what it found is checked again, for theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

#: The interpreter of the images.
PYTHON: Final = "3.13"


@dataclass(frozen=True)
class Package:
    """One package that was found: its version, and what it says that it needs."""

    version: str
    requires: tuple[Requirement, ...] = ()


@dataclass(frozen=True)
class Closure:
    """What is needed and there, by name, and what is needed and is not, as requirements."""

    needed: frozenset[str]
    missing: tuple[str, ...]


def markers(machine: str) -> dict[str, str]:
    """Return what conditions are compared with inside an image, for a machine such as `x86_64`."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{PYTHON}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{PYTHON}.0",
        "python_version": PYTHON,
        "sys_platform": "linux",
    }


def applies(requirement: Requirement, environment: Mapping[str, str], extra: str = "") -> bool:
    """Say whether a requirement's condition holds there."""
    marker = requirement.marker
    return marker is None or marker.evaluate({**environment, "extra": extra})


def bare(requirement: Requirement) -> str:
    """Write a requirement without its condition."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}"


def closure(
    wanted: Iterable[Requirement], found: Mapping[str, Package], environment: Mapping[str, str]
) -> Closure:
    """Follow what is wanted through what was found, by normalised name."""
    needed: set[str] = set()
    missing: set[str] = set()
    done: set[tuple[str, str]] = set()
    open_ends = [r for r in wanted if applies(r, environment)]
    while open_ends:
        requirement = open_ends.pop()
        name = canonicalize_name(requirement.name)
        package = found.get(name)
        if package is None or not requirement.specifier.contains(
            Version(package.version), prereleases=True
        ):
            missing.add(bare(requirement))
            continue
        needed.add(name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in done:
                done.add((name, extra))
                open_ends += (r for r in package.requires if applies(r, environment, extra))
    return Closure(frozenset(needed), tuple(sorted(missing)))
