"""Wheels as one layer of an image: the same wheels give the same bytes, anywhere."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from edge_runtime.cancelled import NEVER, check
from edge_runtime.environments.bounds import BOUNDS, Bounds
from edge_runtime.environments.compiled import MAX_SOURCE, Run, cache_place, compile_all
from edge_runtime.environments.wheel import Wheel, opened
from protocol.environment import Lock, Reason, refused

#: Where libraries lie in an image; the guest has it last on its path.
LIBRARIES: Final = "oodida/lib"
LOCK_FILE: Final = "oodida/lock.txt"


@dataclass(frozen=True)
class Layer:
    """A layer that was written: its hash as `sha256:…`, bytes of the file, files in it."""

    digest: str
    size: int
    files: int


def write(
    lock: Lock,
    wheels: Path,
    to: Path,
    *,
    run: Run | None,
    bounds: Bounds = BOUNDS,
    cancelled: threading.Event = NEVER,
) -> Layer:
    """Write the layer of the locked wheels in the folder `wheels` as a tar file. Blocks.

    Args:
        lock: what is in it; its text is put into the layer as well.
        wheels: the folder, as `resolve` or `fetch` leaves it.
        to: the file; it must not be there.
        run: compiles in a sandbox. None: left uncompiled, so that each import compiles again.
        bounds: what it may come to, before compiled files.
        cancelled: stops it.

    Raises:
        EnvironmentRefused: a wheel holds what may not be in one, or two do not go together.
        Cancelled: it was stopped.
    """
    try:
        with ExitStack() as stack:
            # As many open files as there are packages, which is bounded.
            archives = [
                stack.enter_context(opened(wheels / package.file, bounds))
                for package in lock.packages
            ]
            files = _merged(archives, bounds)
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oodida-layer-")))
            extra = {LOCK_FILE: made / "lock.txt"}
            extra[LOCK_FILE].write_text(lock.text(), encoding="utf-8")
            if run is not None:
                for place, data in compile_all(_sources(files, cancelled), run):
                    check(cancelled)
                    # Kept in files: together they may be more than the memory has.
                    path = made / f"{len(extra)}.pyc"
                    path.write_bytes(data)
                    extra[f"{LIBRARIES}/{cache_place(place, lock.python)}"] = path
            with to.open("xb") as out:
                digest = _pack(files, extra, out, cancelled)
        return Layer(f"sha256:{digest}", to.stat().st_size, len(files))
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def _merged(wheels: Sequence[Wheel], bounds: Bounds) -> dict[str, Wheel]:
    """Return place -> wheel that has the file, in order. Raises EnvironmentRefused."""
    if (
        sum(w.size for w in wheels) > bounds.unpacked
        or sum(w.members for w in wheels) > bounds.members
    ):
        message = f"The libraries have more than {bounds.unpacked / 2**20:g} MB when unpacked."
        raise refused(Reason.TOO_LARGE, message)
    files: dict[str, Wheel] = {}
    for wheel in wheels:
        for place in wheel.places:
            other = files.setdefault(place, wheel)
            # Packages that share a name often bring the same, mostly empty, file.
            if other is not wheel and other.read(place) != wheel.read(place):
                message = f"{wheel.name} and {other.name} both hold {place!r}. Leave one out."
                raise refused(Reason.CONFLICT, message)
    folders = _folders(files)
    both = sorted(folders & files.keys())
    if both:
        message = f"{files[both[0]].name} holds {both[0]!r} as a file, and it is a folder as well."
        raise refused(Reason.BAD_WHEEL, message)
    return dict(sorted(files.items()))


def _folders(places: Iterable[str]) -> set[str]:
    return {str(parent) for place in places for parent in PurePosixPath(place).parents} - {"."}


def _sources(files: dict[str, Wheel], cancelled: threading.Event) -> Iterator[tuple[str, bytes]]:
    for place, wheel in files.items():
        if place.endswith(".py") and wheel.places[place].file_size <= MAX_SOURCE:
            check(cancelled)
            yield place, wheel.read(place)


def _pack(
    files: dict[str, Wheel],
    extra: dict[str, Path],
    out: IO[bytes],
    cancelled: threading.Event,
) -> str:
    """Write all members in order of their names; return the hash of what was written."""
    hashed = _Hashed(out)
    names = {f"{LIBRARIES}/{place}": wheel for place, wheel in files.items()}
    folders = _folders([*names, *extra]) - {"oodida"}  # which the base has
    with tarfile.open(fileobj=hashed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted({*names, *extra, *folders}):
            check(cancelled)
            member = tarfile.TarInfo(name)  # owner root, time 0
            if name in folders:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
                continue
            member.mode = 0o644
            if name in extra:
                member.size = extra[name].stat().st_size
                with extra[name].open("rb") as source:
                    tar.addfile(member, source)
            else:
                data = names[name].read(name.removeprefix(f"{LIBRARIES}/"))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return hashed.hexdigest()


class _Hashed(io.RawIOBase):
    """Passes on what is written, and hashes it."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._hash = out, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._hash.update(data)
        return self._out.write(data)

    def tell(self) -> int:
        return self._out.tell()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
