"""Files that nobody else may read, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from protocol.certificate import CERTIFICATE, COMING, KEY, key_of


def make_folder(path: Path) -> None:
    """Make a folder that nobody else may enter, and those above it. One that is there is left."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that nobody else may read. Whoever reads it meanwhile has the old one, whole.

    It belongs to whoever the folder belongs to: root writes for a user of its own. ``mode`` is for
    what is no secret.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(new, "xb", opener=_private) as file:
            file.write(content)
            file.flush()
            owner = path.parent.stat()
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        _move(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise


def write_pair(folder: Path, certificate: bytes, key: bytes) -> None:
    """Write a certificate and its key. Whenever it is cut off, `key_of` finds one that fits."""
    coming = folder / COMING
    if key_of(folder) == coming:  # the last time was cut off: its key is needed until now
        _move(coming, folder / KEY)
    write(coming, key)
    write(folder / CERTIFICATE, certificate)
    _move(coming, folder / KEY)


def _move(old: Path, new: Path) -> None:
    """Put a file in another's place, for good."""
    old.replace(new)
    handle = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
