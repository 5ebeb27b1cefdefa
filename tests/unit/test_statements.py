"""Many statements as few: the same rows are there afterwards."""

from __future__ import annotations

import sqlite3
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.journal import schema, statements
from edge_runtime.journal.statements import MANY, ROWS, Statement, joined, of_rows

TABLES = ("orders", "samples", "reports", "seen", "accounts")
SMALL = st.sampled_from(["a", "b", "c"])
KEY = st.tuples(SMALL, SMALL, st.integers(1, 2))
NUMBER = st.integers(0, 3)
STATEMENTS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    statements.SEEN: st.builds(lambda k, n: (*k, n), KEY, NUMBER),
    statements.ORDER: st.builds(lambda k, a, n: (*k, a, b"", "", "boot", n, n), KEY, SMALL, NUMBER),
    statements.NO_ORDER: KEY,
    statements.NO_SAMPLES: KEY,
    statements.REPORT: st.tuples(SMALL, SMALL, NUMBER, NUMBER, st.just(b""), st.just("")),
    statements.NO_REPORT: st.tuples(SMALL, SMALL),
    statements.ACCOUNT: st.tuples(SMALL, SMALL, NUMBER, NUMBER, NUMBER, NUMBER),
    "DELETE FROM orders WHERE edge=? AND assignment=?": st.tuples(SMALL, SMALL),
}


def store() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.executescript(schema.SCHEMA)
    return made


def contents(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    select = "SELECT * FROM "
    return {table: sorted(connection.execute(select + table)) for table in TABLES}


@st.composite
def runs_of_one_kind(draw: st.DrawFn) -> list[Statement]:
    """What a batch is made of: work on one key is in one batch only where its order is kept."""
    made: list[Statement] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(sorted(STATEMENTS)))
        made += [(kind, values) for values in draw(st.lists(STATEMENTS[kind], max_size=8))]
        made.append(("DELETE FROM samples WHERE 0=?", (1,)))  # no other is moved over it
    return made


@given(runs_of_one_kind())
def test_joined_statements_leave_the_same_rows(batch: list[Statement]) -> None:
    one, many = store(), store()
    for statement, values in batch:
        one.execute(statement, values)
    for statement, row in joined(batch):
        many.execute(statement, row)
    assert contents(one) == contents(many)


def test_a_batch_takes_few_statements_and_no_more_values_than_there_may_be() -> None:
    many = [(statements.SEEN, ("a", str(i), 1, 0.0)) for i in range(20_000)]
    found = list(joined(many))
    assert len(found) <= len(many) / max(ROWS) + len(ROWS)
    assert max(len(values) for _, values in found) <= 32_766  # what every SQLite takes
    assert sum(len(values) for _, values in found) == 4 * len(many)


def test_what_is_not_alike_keeps_its_place() -> None:
    cancel = ("DELETE FROM orders WHERE edge=? AND assignment=?", ("a", "x"))
    before = (statements.ORDER, ("a", "1", 1, "x", b"", "", "", 0, 0))
    after = (statements.ORDER, ("a", "2", 1, "x", b"", "", "", 0, 0))
    assert list(joined([before, cancel, after])) == [before, cancel, after]


def test_each_is_found_by_the_whole_key() -> None:
    connection = store()
    for statement in MANY:
        if not statement.startswith("DELETE"):
            continue
        _, _, table, _, *key = statement.split()
        for rows in ROWS:
            plan = connection.execute(
                "EXPLAIN QUERY PLAN " + of_rows(statement, rows),
                ["a"] * rows * statement.count("?"),
            )
            found = [step[3] for step in plan if table in step[3]]
            assert len(found) == rows, statement
            assert all(f"({' '.join(key)})" in step for step in found), found


def test_statements_are_few_enough_to_stay_prepared() -> None:
    assert len(MANY) * len(ROWS) < 128  # sqlite3.connect's own default
