"""From what an analyst asks for to a lock and its wheels; from a lock to the same wheels."""

from __future__ import annotations

import platform
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from edge_runtime.cancelled import NEVER, check
from edge_runtime.environments.bounds import BOUNDS, Bounds
from edge_runtime.environments.closure import PYTHON, Package, applies, bare, closure, markers
from edge_runtime.environments.pip import Source, download, platforms, too_large
from edge_runtime.environments.wheel import locked, opened
from protocol.environment import (
    MAX_PACKAGES,
    EnvironmentSpec,
    Lock,
    Locked,
    Reason,
    WheelRef,
    refused,
    wheel_of,
)
from protocol.errors import EnvironmentRefused

_ROUNDS: Final = 5
_DEFAULT: Final = Source()


def resolve(
    spec: EnvironmentSpec,
    base: str,
    into: Path,
    *,
    sent: Path | None = None,
    source: Source = _DEFAULT,
    bounds: Bounds = BOUNDS,
    cancelled: threading.Event = NEVER,
) -> Lock:
    """Find the libraries, and put their wheels into a new folder. Blocks; runs none of their code.

    Args:
        spec: what is asked for.
        base: the image that they will be put on.
        into: the folder; it must not be there. After an error it is not there.
        sent: the folder in which the wheels of `spec` lie.
        source: where the others come from.
        bounds: what all of it may come to.
        cancelled: stops it.

    Raises:
        EnvironmentRefused: it cannot be had; `reason_code` in the details.
        Cancelled: it was stopped.
    """
    target = f"linux_{platform.machine()}"
    own = _sent(spec.wheels, sent, target)
    environment = markers(platform.machine())
    wanted = [Requirement(line) for line in spec.requirements]
    top = [bare(r) for r in wanted if applies(r, environment)]
    mine = [f"{locked.name} @ {path.as_uri()}" for locked, path in own]
    wanted += [Requirement(f"{locked.name}=={locked.version}") for locked, _ in own]
    more: list[str] = []
    missing: tuple[str, ...] = ()
    for _ in range(_ROUNDS):
        with _new_folder(into) as folder:
            lines = [*top, *mine, *more]
            if lines:
                download(lines, folder, target, source=source, bounds=bounds, cancelled=cancelled)
            files = _wheels(folder, bounds)
            found = _read(files, bounds, cancelled)
            whole = closure(wanted, found, environment)
            if not whole.missing:
                kept = _keep(files, whole.needed)
                if not kept:
                    message = (
                        f"Nothing of what is asked for is meant for Python {PYTHON} on {target}."
                    )
                    raise refused(Reason.BAD_REQUIREMENT, message)
                _require_as_sent(kept, own)
                return Lock(base=base, python=PYTHON, platform=target, packages=tuple(kept))
            shutil.rmtree(folder)
        missing = whole.missing
        if set(missing) <= set(more):
            break
        more = sorted({*more, *missing})
    message = f"The libraries do not go together: {', '.join(missing)} cannot be met as well."
    raise refused(Reason.CONFLICT, message)


def fetch(
    lock: Lock,
    into: Path,
    *,
    sent: Path | None = None,
    source: Source = _DEFAULT,
    bounds: Bounds = BOUNDS,
    cancelled: threading.Event = NEVER,
) -> None:
    """Put exactly the locked wheels into a new folder. Blocks.

    Those that lie in the folder `sent` are taken from there, the rest from the source.

    Raises:
        EnvironmentRefused: reason `gone` if one is not to be had any more, `hash_differs` if what
            is there is not what was locked, or another.
        Cancelled: it was stopped.
    """
    if lock.size > bounds.wheels:
        raise too_large(bounds)
    with _new_folder(into) as folder:
        rest = []
        for package in lock.packages:
            check(cancelled)
            path = None if sent is None else sent / package.file
            if path is not None and path.is_file() and locked(path) == package:
                shutil.copyfile(path, folder / package.file)
            else:
                rest.append(package)
        if rest:
            _download_exactly(rest, lock.platform, folder, source, bounds, cancelled)
        if {locked(path) for path in folder.glob("*.whl")} != set(lock.packages):
            message = "The index gives other files than were locked. Resolve the environment again."
            raise refused(Reason.HASH_DIFFERS, message)


def _download_exactly(
    packages: Iterable[Locked],
    target: str,
    folder: Path,
    source: Source,
    bounds: Bounds,
    cancelled: threading.Event,
) -> None:
    lines = [f"{p.name}=={p.version} --hash=sha256:{p.sha256}" for p in packages]
    with tempfile.TemporaryDirectory(prefix="oodida-fetch-") as scratch:
        try:
            download(
                lines, Path(scratch), target, "--no-deps", "--require-hashes",
                source=source, bounds=bounds, cancelled=cancelled,
            )  # fmt: skip
        except EnvironmentRefused as problem:
            lost = {Reason.UNKNOWN_PACKAGE, Reason.NO_VERSION, Reason.NO_WHEEL}
            if problem.details.get("reason_code") not in lost:
                raise
            name = problem.details.get("package", "a package")
            message = (
                f"The locked file of {name} is not in the index any more. Resolve the environment "
                "again, or send the wheel along."
            )
            raise refused(Reason.GONE, message, package=name) from None
        for path in Path(scratch).glob("*.whl"):
            shutil.move(path, folder / path.name)


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Make a folder that is gone again if anything goes wrong."""
    path.mkdir(parents=True)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _sent(
    wheels: Iterable[WheelRef], folder: Path | None, target: str
) -> list[tuple[Locked, Path]]:
    """Return the wheels that travelled, checked, one of each package that runs on the target."""
    best: dict[str, tuple[int, Locked, Path]] = {}
    ranks = {tag: rank for rank, tag in enumerate(_tags(target))}
    for wheel in wheels:
        path = None if folder is None else folder.resolve() / wheel.name
        if path is None or not path.is_file():
            message = f"{wheel.name} was announced and is not there. Send it again."
            raise refused(Reason.GONE, message)
        mine = locked(path)
        if (mine.sha256, mine.size) != (wheel.sha256, wheel.size):
            raise refused(Reason.HASH_DIFFERS, f"{wheel.name} changed on its way. Send it again.")
        fits = [ranks[tag] for tag in parse_wheel_filename(wheel.name)[3] if tag in ranks]
        rank = min(fits, default=len(ranks))
        known = best.get(mine.name)
        if known is not None and known[1].version != mine.version:
            message = f"There are two versions of {mine.name} among the wheels; send one of them."
            raise refused(Reason.CONFLICT, message, package=mine.name)
        if known is None or rank < known[0]:
            best[mine.name] = (rank, mine, path)
    for rank, mine, _ in best.values():
        if rank == len(ranks):
            message = (
                f"{mine.file} is not for Python {PYTHON} on {target}. Send a wheel that is, or "
                "leave it out and ask for the package by name."
            )
            raise refused(Reason.NO_WHEEL, message, package=mine.name)
    return [(mine, path) for _, mine, path in best.values()]


def _tags(target: str) -> list[Tag]:
    names = platforms(target)
    version = tuple(map(int, PYTHON.split(".")))
    abi = f"cp{PYTHON.replace('.', '')}"
    return [*cpython_tags(version, [abi], names), *compatible_tags(version, abi, names)]


def _wheels(folder: Path, bounds: Bounds) -> dict[str, Path]:
    """Return what was downloaded, by package. Raises EnvironmentRefused if it is too much."""
    paths = sorted(folder.iterdir())
    if len(paths) > MAX_PACKAGES:
        message = f"The libraries need {len(paths)} packages, more than {MAX_PACKAGES}."
        raise refused(Reason.TOO_LARGE, message)
    if sum(path.stat().st_size for path in paths) > bounds.wheels:
        raise too_large(bounds)
    files = {}
    for path in paths:
        wheel = wheel_of(path.name)
        if wheel is None:
            raise refused(
                Reason.NO_WHEEL, f"{path.name[:200]!r} is no wheel; nothing is built here."
            )
        files[wheel[0]] = path
    return files


def _read(files: dict[str, Path], bounds: Bounds, cancelled: threading.Event) -> dict[str, Package]:
    """Return what each wheel says of itself, having checked what all come to when unpacked."""
    found, size, members = {}, 0, 0
    for name, path in files.items():
        check(cancelled)
        with opened(path, bounds) as wheel:
            size, members = size + wheel.size, members + wheel.members
            if size > bounds.unpacked or members > bounds.members:
                message = (
                    f"The libraries have more than {bounds.unpacked / 2**20:g} MB or "
                    f"{bounds.members} files when they are unpacked. Ask for fewer."
                )
                raise refused(Reason.TOO_LARGE, message)
            version = parse_wheel_filename(path.name)[1]
            found[name] = Package(str(version), wheel.requires())
    return found


def _keep(files: dict[str, Path], needed: frozenset[str]) -> list[Locked]:
    """Remove what nobody needs, return the rest."""
    for name, path in files.items():
        if name not in needed:
            path.unlink()
    return [locked(path) for name, path in files.items() if name in needed]


def _require_as_sent(kept: list[Locked], own: list[tuple[Locked, Path]]) -> None:
    missing = {mine for mine, _ in own} - set(kept)
    if missing:
        names = ", ".join(sorted(package.file for package in missing))
        raise refused(Reason.CONFLICT, f"Not the wheels that were sent would be used: {names}.")
