"""A small disk of its own for a part's state, which can be filled and freed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

SIZE: Final = "6m"
_FILLER: Final = "filler"
_BLOCK: Final = bytes(4096)


class Disk:
    """A file system in memory, mounted over a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def mount(cls, folder: Path) -> Disk | None:
        """Mount one here; None where that is not permitted."""
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "chaos", str(folder)],  # noqa: S607
            capture_output=True,
            check=False,
        )
        return cls(folder) if done.returncode == 0 else None

    def fill(self) -> None:
        """Leave no room."""
        with contextlib.suppress(OSError), (self._folder / _FILLER).open("ab", buffering=0) as file:
            while file.write(_BLOCK):
                pass

    def free(self) -> None:
        """Give the room back."""
        (self._folder / _FILLER).unlink(missing_ok=True)

    def unmount(self) -> None:
        """Remove it; what is on it is then in the folder."""
        kept = self._folder.with_name(f"{self._folder.name}.kept")
        with contextlib.suppress(OSError):  # what could be copied is there
            self.free()
            shutil.copytree(self._folder, kept)
        subprocess.run(["umount", str(self._folder)], capture_output=True, check=True)  # noqa: S607
        if kept.exists():
            self._folder.rmdir()
            kept.rename(self._folder)
