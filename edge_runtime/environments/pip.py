"""pip in a process of its own: downloads wheels, builds nothing, runs none of their code."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_runtime.cancelled import NEVER, check
from edge_runtime.environments.bounds import BOUNDS, Bounds
from edge_runtime.environments.closure import PYTHON
from edge_runtime.environments.complaint import complaint
from protocol.environment import Reason, refused

#: Every older C library that wheels are made for runs on that of the images, which is 2.41.
_GLIBC_MINORS: Final = range(41, 4, -1)
_TICK_S: Final = 0.1
#: Memory of the process, in bytes: a description in a wheel may unpack to anything.
_MEMORY: Final = 3 * 2**30
#: pip writes down every file that it does not take; of a large project, there are thousands.
_MAX_WORDS: Final = 32 * 2**20


@dataclass(frozen=True)
class Source:
    """Where wheels come from: folders of them, and the index that pip is configured with.

    A site without a network has `index=False`.
    """

    folders: tuple[Path, ...] = ()
    index: bool = True


def platforms(platform: str) -> list[str]:
    """Return the tags of wheels that run on a platform such as `linux_x86_64`, best first."""
    machine = platform.removeprefix("linux_")
    tags = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    return [*tags, *(f"manylinux{year}_{machine}" for year in (2014, 2010, 1)), platform]


def download(
    requirements: Sequence[str],
    into: Path,
    platform: str,
    *options: str,
    source: Source,
    bounds: Bounds = BOUNDS,
    cancelled: threading.Event = NEVER,
) -> None:
    """Download what the requirements come to, all as wheels, into an empty folder. Blocks.

    Args:
        requirements: lines of a requirements file, made by us: pip reads options in them.
        into: what is in it after an error is of no worth.
        platform: such as `linux_x86_64`.
        options: more of pip's.
        source: where from.
        bounds: what it may come to.
        cancelled: stops it.

    Raises:
        EnvironmentRefused: it cannot be had, with the reason as a sentence.
        Cancelled: it was stopped.
    """
    with tempfile.TemporaryDirectory(prefix="oodida-pip-") as scratch:
        work = Path(scratch)
        listed, words = work / "requirements.txt", work / "words"
        listed.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        (work / "tmp").mkdir()
        command = _command(into, platform, source)
        command += [*options, "--requirement", str(listed)]
        with words.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=work, env=_surroundings(work), start_new_session=True,
            )  # fmt: skip
        try:
            _limit(process.pid, bounds)
            _watch(process, into, work / "tmp", bounds, cancelled)
        finally:
            _end(process)
        if process.returncode != 0:
            with words.open("rb") as said:
                text = said.read(_MAX_WORDS).decode("utf-8", "replace")
            raise complaint(text, PYTHON, platform)


def _command(into: Path, platform: str, source: Source) -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "-vv", "--no-input", "--no-color"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--no-cache-dir"]
    command += ["--retries", "2", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", PYTHON]
    for tag in platforms(platform):
        command += ["--platform", tag]
    if not source.index:
        command.append("--no-index")
    for folder in source.folders:
        command += ["--find-links", str(folder.resolve())]
    return [*command, "--dest", str(into)]


def _surroundings(work: Path) -> dict[str, str]:
    """The site's own settings of pip, and a place for what it writes on its way."""
    # What we say with options must not be said otherwise by a variable.
    kept = {k: v for k, v in os.environ.items() if k not in {"PIP_REQUIREMENT", "PIP_NO_BINARY"}}
    return {**kept, "TMPDIR": str(work / "tmp"), "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}


def _limit(pid: int, bounds: Bounds) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        most = max(bounds.wheels, _MAX_WORDS)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
    except ProcessLookupError:
        return  # it has ended


def _watch(
    process: subprocess.Popen[bytes],
    into: Path,
    scratch: Path,
    bounds: Bounds,
    cancelled: threading.Event,
) -> None:
    """Wait for the end, within time and size."""
    deadline = time.monotonic() + bounds.seconds
    while process.poll() is None:
        check(cancelled)
        # Of one package, several versions may be tried; twice leaves room for it.
        if _size(into) > bounds.wheels or _size(scratch) > 2 * bounds.wheels:
            raise too_large(bounds)
        if time.monotonic() > deadline:
            message = (
                f"The libraries were not found within {bounds.seconds:g} s. Name exact versions, "
                "which shortens the search, or try again when the network is less busy."
            )
            raise refused(Reason.TIMEOUT, message)
        cancelled.wait(_TICK_S)


def too_large(bounds: Bounds) -> Exception:
    """Make the error for wheels beyond their limit."""
    return refused(
        Reason.TOO_LARGE,
        f"The libraries have more than {bounds.wheels / 2**20:g} MB together. Ask for fewer, or "
        "for smaller ones.",
    )


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except FileNotFoundError:  # gone in between
                continue
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and all that it started. One that has ended is fine."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
