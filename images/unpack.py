"""Unpacks wheels into a folder of an image and compiles them; runs inside the build.

The wheels were downloaded and checked against their hashes before. To unpack them here needs no
installer in the image, and no network in the build.

Usage: unpack.py WHEELS DESTINATION
"""

from __future__ import annotations

import compileall
import shutil
import sys
import zipfile
from pathlib import Path
from py_compile import PycInvalidationMode

#: Of no use without a compiler, an editor or a test runner.
_LEFT_OUT = {".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyi", ".pyx", ".tp"}


def _place(name: str) -> str | None:
    """Return where a member of a wheel goes, or None for what is left out."""
    parts = name.split("/")
    if parts[0].endswith(".data"):
        # Code may lie under either of two names; scripts and headers are of no use here.
        if len(parts) < 3 or parts[1] not in {"purelib", "platlib"}:
            return None
        parts = parts[2:]
    if name.endswith("/") or Path(name).suffix in _LEFT_OUT or "tests" in parts[:-1]:
        return None
    return "/".join(parts)


def main(wheels: Path, destination: Path) -> None:
    """Unpack each wheel of the folder `wheels` into `destination`."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                place = _place(member.filename)
                if place is None:
                    continue
                target = destination / place
                if not target.resolve().is_relative_to(destination):
                    sys.exit(f"{wheel.name} holds {member.filename!r}, which lies outside of it.")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    compileall.compile_dir(
        destination,
        quiet=2,
        workers=0,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve())
