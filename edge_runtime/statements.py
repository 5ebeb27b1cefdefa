"""The journal's statements that many callers make at once, and what makes one of many. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

#: A statement, and its values.
Statement = tuple[str, tuple[Any, ...]]

#: How many values one statement takes: what every SQLite is built with since 2020.
VARIABLES: Final = 32_766

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


def _of_many(inserting: str) -> str:
    head, _, rest = inserting.partition("(?")
    return f"{head}{{rows}}{rest.partition(')')[2]}"


def _without_many(table: str, *key: str) -> str:
    # By the edge, which is what the index begins with, and then by the whole key: a key of several
    # columns alone is looked for by reading the whole table.
    columns = ", ".join(key)
    return (
        f"WITH gone({columns}) AS (VALUES {{rows}}) DELETE FROM {table} "  # noqa: S608 - our own
        f"WHERE edge IN (SELECT edge FROM gone) AND ({columns}) IN (SELECT {columns} FROM gone)"
    )


#: A statement -> the same for many rows.
MANY: Final = {
    **{statement: _of_many(statement) for statement in (SEEN, ORDER, REPORT, ACCOUNT, SESSION)},
    NO_ORDER: _without_many("orders", "edge", "task", "attempt"),
    NO_SAMPLES: _without_many("samples", "edge", "task", "attempt"),
    NO_REPORT: _without_many("reports", "edge", "id"),
}


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
        row = f"({', '.join('?' * len(rows[0]))})"
        most = VARIABLES // len(rows[0])
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            if len(some) == 1:
                yield statement, some[0]
            else:
                filled = MANY[statement].replace("{rows}", ", ".join([row] * len(some)))
                yield filled, [value for values in some for value in values]
