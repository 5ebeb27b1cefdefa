"""What the parts have written that no fault excuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_BAD: Final = re.compile(r" (ERROR|CRITICAL) |^Traceback ", re.MULTILINE)
#: Words that a part may write when this has been done to it.
EXCUSES: Final = {
    "disk": ("No space left", "disk is full", "database or disk is full", "ENOSPC"),
    "store": ("connection", "server closed", "terminating", "OperationalError"),
}


def complaints(folder: Path, excused: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Errors in the parts' logs, the first of each part. ``excused``: part and kind of excuse."""
    allowed = list(excused)
    for path in sorted(folder.glob("*.log")):
        words = [w for part, kind in allowed if part == path.stem for w in EXCUSES[kind]]
        for entry in _entries(path.read_text(errors="replace")):
            if _BAD.search(entry) and not any(word in entry for word in words):
                yield f"{path.stem} logged: {' | '.join(entry.strip().splitlines()[-6:])[-600:]}"
                break


def _entries(text: str) -> Iterator[str]:
    """Log lines, each with the lines that belong to it."""
    entry = ""
    for line in text.splitlines(keepends=True):
        if re.match(r"\d{4}-\d\d-\d\d |\{", line) and entry:
            yield entry
            entry = ""
        entry += line
    yield entry
