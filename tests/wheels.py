"""Tiny wheels, written by the tests themselves, good and bad."""

from __future__ import annotations

import socket
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from protocol.environment import EnvironmentSpec, Lock, Locked
from protocol.errors import EnvironmentRefused

MODULE = "def answer():\n    return 42\n"


def make(
    folder: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: Iterable[str] = (),
    tags: str = "py3-none-any",
    metadata: bool = True,
) -> Path:
    """Write a wheel with these files (a module of its name if none), and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    package = name.replace("-", "_")
    info = f"{package}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    head += "".join(f"Requires-Dist: {line}\n" for line in requires)
    contents: dict[str, str | bytes] = dict(files or {f"{package}.py": MODULE})
    if metadata:
        contents[f"{info}/METADATA"] = head
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n"
    contents[f"{info}/RECORD"] = "".join(f"{place},,\n" for place in contents)
    path = folder / f"{package}-{version}-{tags}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, data in contents.items():
            archive.writestr(zipfile.ZipInfo(place), data, zipfile.ZIP_DEFLATED)
    return path


def lock(*paths: Path, base: str = "oodida/sandbox-minimal:test") -> Lock:
    """The lock of these wheels."""
    from edge_runtime.environments.wheel import locked

    packages: tuple[Locked, ...] = tuple(map(locked, paths))
    return Lock(base=base, python="3.13", platform="linux_x86_64", packages=packages)


def ask(*requirements: str) -> EnvironmentSpec:
    """A request for these libraries."""
    return EnvironmentSpec(requirements=requirements)


def refusal(call: Callable[[], Any]) -> EnvironmentRefused:
    """The error with which an environment is refused."""
    with pytest.raises(EnvironmentRefused) as refused:
        call()
    return refused.value


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
