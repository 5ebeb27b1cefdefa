"""Libraries for the images, fetched on the host by its own settings and kept in a cache.

A build has no use for the site's index, certificates or proxy then, and none of it gets into an
image.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from images.recipe import IMAGES, ImageError

#: The interpreter of the images, whatever the interpreter of the host is.
_PYTHON: Final = "3.13"
#: Every older C library that wheels are made for runs on that of the images, which is 2.41.
_GLIBC_MINORS: Final = (40, 39, 38, 36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)


def cache_folder() -> Path:
    """Return the folder for what can be had again, made if it is missing."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser() / "oodida"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch(lock: str) -> list[Path]:
    """Return the wheels that the lock names, downloaded and checked if they are not here yet.

    Args:
        lock: a file under `images/locks/`.

    Raises:
        ImageError: one of them cannot be had; with what pip said.
    """
    path = IMAGES / "locks" / lock
    machine = platform.machine()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / "wheels" / f"{path.stem}-{digest}-{machine}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Downloaded beside it and renamed when complete: the folder is there in full or not at all.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as new:
            _download(path, Path(new), machine)
            shutil.copytree(new, f"{new}-done")
            Path(f"{new}-done").rename(folder)
    return sorted(folder.glob("*.whl"))


def _download(lock: Path, folder: Path, machine: str) -> None:
    """Download the wheels of a lock into a folder, checked against its hashes."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", _PYTHON]
    for name in [*platforms, f"manylinux2014_{machine}"]:
        command += ["--platform", name]
    command += ["--dest", str(folder), "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.splitlines()[-8:])
        message = (
            f"The libraries in images/locks/{lock.name} could not be downloaded. Check pip's index "
            f"and network with 'pip download'. It said:\n{last}"
        )
        raise ImageError(message)
