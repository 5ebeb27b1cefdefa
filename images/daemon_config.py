"""Adds gVisor's runtime to the container engine's settings, and leaves everything else in them.

    python daemon_config.py /etc/docker/daemon.json

Needs the standard library alone. Ends with status 0 if the runtime is in the file now, else with a
sentence and status 1; then the file is as it was.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

NAME: Final = "runsc"
#: No network in gVisor's own stack either: a sandbox has none, and setting one up takes time.
RUNTIME: Final = {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=none"]}


class Unclear(Exception):
    """The file is not what it should be, so nothing is changed in it."""


def with_runtime(text: str) -> str | None:
    """Return the settings with the runtime added; None if they have one of this name.

    Raises Unclear if the text is not an object of JSON with an object of runtimes.
    """
    try:
        settings: Any = json.loads(text) if text.strip() else {}
    except ValueError as problem:
        raise Unclear(f"it is not JSON ({problem})") from problem
    if not isinstance(settings, dict):
        raise Unclear("it holds no object")
    runtimes = settings.setdefault("runtimes", {})
    if not isinstance(runtimes, dict):
        raise Unclear("its runtimes are no object")
    if NAME in runtimes:
        return None
    runtimes[NAME] = RUNTIME
    return json.dumps(settings, indent=4) + "\n"


def add(path: Path) -> bool:
    """Add the runtime to a file, at once or not at all; False if it was there.

    Raises Unclear, or OSError.
    """
    if path.is_symlink():
        raise Unclear("it is a link to somewhere else")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    after = with_runtime(before)
    if after is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(after)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
    return True


def main(path: str) -> int:
    """Carry out the command; return its status."""
    try:
        add(Path(path))
    except (Unclear, OSError, UnicodeDecodeError) as problem:
        wanted = json.dumps({"runtimes": {NAME: RUNTIME}})
        sys.stderr.write(f"{path} is left as it is: {problem}. Add to it: {wanted}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
