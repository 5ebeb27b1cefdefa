"""What the vehicles' and workers' journals still hold: after it all, nothing that waits."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_runtime.agent import JOURNAL

#: Table -> what its rows are.
_WAITING: Final = {
    "orders": "accepted orders that are not finished",
    "samples": "parts of windows that nobody computes over",
    "reports": "reports without a receipt",
}


def waiting(folder: Path) -> Iterator[str]:
    """What waits, of each part with a state folder here."""
    for path in sorted(folder.glob(f"*/{JOURNAL}")):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
            for table, what in _WAITING.items():
                (rows,) = journal.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
                if rows:
                    yield f"{path.parent.name}: {rows} {what}"


def damaged(folder: Path) -> Iterator[str]:
    """Journals that were found damaged, and put aside."""
    for path in sorted(folder.glob("*/*.damaged-*")):
        yield f"{path.parent.name}: its journal was damaged"
