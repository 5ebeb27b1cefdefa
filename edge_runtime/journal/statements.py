"""The journal's statements that many callers make at once, and what makes one of many. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

#: A statement, and its values.
Statement = tuple[str, tuple[Any, ...]]

SEEN: Final = "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)"
ORDER: Final = "INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
NO_ORDER: Final = "DELETE FROM orders WHERE edge=? AND task=? AND attempt=?"
NO_SAMPLES: Final = "DELETE FROM samples WHERE edge=? AND task=? AND attempt=?"
REPORT: Final = "INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?, ?, ?)"
NO_REPORT: Final = "DELETE FROM reports WHERE edge=? AND id=?"
ACCOUNT: Final = (
    "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "cpu_s=cpu_s+excluded.cpu_s, bytes_sent=bytes_sent+excluded.bytes_sent, "
    "container_starts=container_starts+excluded.container_starts, wall=excluded.wall"
)
SESSION: Final = (
    "INSERT INTO sessions VALUES (?, ?) ON CONFLICT DO UPDATE SET upto=max(upto, excluded.upto)"
)


#: What is made of many at once.
MANY: Final = frozenset((SEEN, ORDER, NO_ORDER, NO_SAMPLES, REPORT, NO_REPORT, ACCOUNT, SESSION))
#: How many rows a statement takes: one of these, so that SQLite has prepared it before. To prepare
#: one for many rows takes longer than to carry it out.
ROWS: Final = (256, 128, 64, 32, 16, 8, 4, 2, 1)


@cache
def of_rows(statement: str, rows: int) -> str:
    """The same for so many rows."""
    deleting, where, key = statement.partition(" WHERE ")
    if where:
        # Each row by its whole key. Sets of keys (`(a, b) IN (...)`) are looked for by every
        # combination of their parts: the square of their number.
        return f"{deleting}{where}{' OR '.join([f'({key})'] * rows)}"
    inserting, values, conflict = statement.partition(" VALUES ")
    row, _, rest = conflict.partition(")")
    return f"{inserting}{values}{', '.join([f'{row})'] * rows)}{rest}"


def joined(statements: Iterable[Statement]) -> Iterator[tuple[str, Sequence[Any]]]:
    """The same work in few statements: those of `MANY` that are alike as one, with all their rows.

    Each statement gives up the interpreter to the event loop and has to wait until it gets it back,
    which takes longer than the statement. Any other keeps its place: what came before it is done
    before it. Those that are alike keep theirs among each other.
    """
    alike: dict[str, list[tuple[Any, ...]]] = {}
    for statement, values in statements:
        if statement in MANY:
            alike.setdefault(statement, []).append(values)
        else:
            yield from _together(alike)
            alike.clear()
            yield statement, values
    yield from _together(alike)


def _together(alike: dict[str, list[tuple[Any, ...]]]) -> Iterator[tuple[str, Sequence[Any]]]:
    for statement, rows in alike.items():
        start = 0
        for size in ROWS:
            while len(rows) - start >= size:
                some = rows[start : start + size]
                yield of_rows(statement, size), tuple(chain.from_iterable(some))
                start += size
