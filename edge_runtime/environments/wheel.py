"""One wheel, read without believing it: nothing in it is ever run, or unpacked beside its place."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesHeaderParser
from pathlib import Path, PurePosixPath
from typing import IO, Final

from packaging.requirements import InvalidRequirement, Requirement

from edge_runtime.environments.bounds import BOUNDS, Bounds
from protocol.environment import Locked, Reason, refused

#: An archive's list of contents may have this many bytes: it is read as a whole.
_MAX_LIST: Final = 16 * 2**20
_MAX_METADATA: Final = 4 * 2**20
_MAX_PLACE: Final = 1024
_END: Final = b"PK\x05\x06"
_END_64: Final = b"PK\x06\x07"
_END_SIZE: Final = 22
_CHUNK: Final = 1 << 20
#: Of no use without a compiler, an editor or a test runner.
_LEFT_OUT: Final = frozenset(
    {".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyc", ".pyi", ".pyo", ".pyx", ".tp"}
)


class Wheel:
    """The contents of an open wheel.

    Attributes:
        name: its file name.
        places: where a file goes, relative to the folder of libraries -> the member it is.
        size: bytes of all members, also of those that are left out.
        members: how many there are.
    """

    def __init__(self, name: str, archive: zipfile.ZipFile, bounds: Bounds) -> None:
        self.name, self._archive = name, archive
        self.places: dict[str, zipfile.ZipInfo] = {}
        self.size = self.members = 0
        seen: set[str] = set()
        for member in archive.infolist():
            self.members += 1
            self.size += member.file_size
            if self.size > bounds.unpacked or self.members > bounds.members:
                raise refused(
                    Reason.TOO_LARGE,
                    f"{name} holds more than {bounds.unpacked / 2**20:g} MB or {bounds.members} "
                    "files when it is unpacked. Ask for a smaller library.",
                )
            self._check(member)
            if member.filename in seen:
                raise self._bad(f"holds {member.filename[:200]!r} twice")
            seen.add(member.filename)
            place = _place(member.filename)
            if place is not None:
                if place in self.places:
                    raise self._bad(f"has two files for {place!r}")
                self.places[place] = member

    def open(self, place: str) -> IO[bytes]:
        """Open a file for reading. What is read never has more bytes than were declared."""
        return self._archive.open(self.places[place])

    def read(self, place: str) -> bytes:
        """Return a file's bytes. Raises EnvironmentRefused if they are damaged."""
        try:
            with self.open(place) as source:
                return source.read()
        except (zipfile.BadZipFile, EOFError, OSError, ValueError) as problem:
            raise self._bad(f"is damaged at {place!r}: {problem}") from None
        except Exception as problem:  # noqa: BLE001 - zlib and its like have roots of their own
            raise self._bad(f"is damaged at {place!r}: {problem}") from None

    def requires(self) -> tuple[Requirement, ...]:
        """Return what it says that it needs, in all cases that it knows."""
        for place, member in self.places.items():
            parts = place.split("/")
            if len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] == "METADATA":
                if member.file_size > _MAX_METADATA:
                    raise self._bad("has a description beyond all measure")
                header = BytesHeaderParser().parsebytes(self.read(place))
                break
        else:
            raise self._bad("has no METADATA")
        try:
            return tuple(Requirement(str(line)) for line in header.get_all("Requires-Dist", ()))
        except InvalidRequirement as problem:
            raise self._bad(f"says wrongly what it needs: {problem}") from None

    def _check(self, member: zipfile.ZipInfo) -> None:
        """Raise EnvironmentRefused if a member is not a plain file or folder at a plain place."""
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise self._bad(f"holds {name[:200]!r}, which is a link or a device")
        if member.flag_bits & 0x1:
            raise self._bad(f"holds {name[:200]!r}, which is encrypted")
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise self._bad(f"holds {name[:200]!r}, packed in a way that is not read here")
        parts = name.removesuffix("/").split("/")
        strange = not name.isprintable() or "\\" in name or len(name.encode()) > _MAX_PLACE
        # In a layer, such a name would remove what the layers below have.
        hidden = any(part.startswith(".wh.") or len(part.encode()) > 255 for part in parts)
        if strange or hidden or {"", ".", ".."} & set(parts):
            raise self._bad(f"holds {name[:200]!r}, which is no place inside of it")

    def _bad(self, what: str) -> Exception:
        return refused(
            Reason.BAD_WHEEL,
            f"{self.name} {what}. Nothing of it was used; build the wheel again, or ask for "
            "another version.",
            file=self.name,
        )


@contextmanager
def opened(path: Path, bounds: Bounds = BOUNDS) -> Iterator[Wheel]:
    """Open a wheel and check all that it declares, before any of it is unpacked.

    Raises EnvironmentRefused for what is no wheel, is too large, or holds what may not be in one.
    """
    try:
        _check_list(path)
        archive = zipfile.ZipFile(path)
    # The last is what the library says of a compression that it does not know.
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as problem:
        message = (
            f"{path.name} is no wheel that can be read: {problem}. Build or download it again."
        )
        raise refused(Reason.BAD_WHEEL, message, file=path.name) from None
    with archive:
        yield Wheel(path.name, archive, bounds)


def locked(path: Path) -> Locked:
    """Return name, hash and size of the wheel at this path."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return Locked.of(path.name, digest.hexdigest(), path.stat().st_size)


def _place(name: str) -> str | None:
    """Return where a member goes, as `images/unpack.py` has it; None for what is left out."""
    parts = name.split("/")
    if parts[0].endswith(".data"):
        # Code may lie under either of two names; scripts and headers are of no use here.
        if len(parts) < 3 or parts[1] not in {"purelib", "platlib"}:
            return None
        parts = parts[2:]
    if name.endswith("/") or PurePosixPath(name).suffix in _LEFT_OUT or "tests" in parts[:-1]:
        return None
    return "/".join(parts)


def _check_list(path: Path) -> None:
    """Raise ValueError if reading the archive's list of contents could take much memory.

    It looks for the list in the same way as `zipfile` does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, size - (1 << 16) - _END_SIZE)
        file.seek(start)
        tail = file.read()
    at = len(tail) - _END_SIZE
    if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":
        at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_SIZE:
        raise ValueError("it has no list of contents")
    if tail[max(0, at - 20) : at].startswith(_END_64):
        raise ValueError("it is of the kind for more than 65535 files")
    if int.from_bytes(tail[at + 12 : at + 16], "little") > _MAX_LIST:
        raise ValueError("its list of contents is beyond all measure")
