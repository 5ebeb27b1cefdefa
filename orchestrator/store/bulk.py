"""Many rows at once, where there may be thousands.

SQLAlchemy writes the statement; the rows go to the driver as they are. Its own way handles every
value of every row in Python, which took as long as all that the database does with them. SQLite is
given row after row. For PostgreSQL each statement is a message there and back, so there it is one
statement for all of them, which it reads from one text: to make arrays of values, one for each
column, takes its driver several times as long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Dialect, Table
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Session

#: The names and values of columns. Values are what the driver takes: no members of an enumeration.
Row = Mapping[str, str | int | float | bytes | None]

#: Before the name of a column: what it is expected to hold, and what it holds from now on.
WAS: Final = "was_"
NEW: Final = "new_"

_Writer = Callable[[Table, Dialect, tuple[str, ...]], str]
#: Bytes are in hexadecimal.
_JSON: Final = json.JSONEncoder(default=bytes.hex, check_circular=False, allow_nan=False)


def insert(session: Session, table: Table, rows: Sequence[Row]) -> None:
    """Add rows, which all have the same columns."""
    _execute(session, _insertion, table, rows)


def update(session: Session, table: Table, rows: Sequence[Row]) -> int:
    """Change rows; how many it met.

    What a row is known by, and must hold still, has `WAS` before its column's name; what it holds
    from now on has `NEW`. All have the same of them.
    """
    return _execute(session, _changing, table, rows)


def among(session: Session, column: Any, names: Collection[str]) -> sa.ColumnElement[bool]:
    """True of the rows whose column has one of these: one parameter, however many there are."""
    text = sa.bindparam(None, _JSON.encode(sorted(names)), type_=sa.Text())
    if session.get_bind().dialect.name == "postgresql":
        told = sa.func.json_array_elements_text(text.cast(JSON)).table_valued("value")
    else:
        told = sa.func.json_each(text).table_valued("value")
    chosen: sa.ColumnElement[bool] = column.in_(sa.select(told.c.value))
    return chosen


def _execute(session: Session, write: _Writer, table: Table, rows: Sequence[Row]) -> int:
    session.flush()
    connection = session.connection()
    text = write(table, connection.dialect, tuple(rows[0]))
    if connection.dialect.name == "postgresql":
        return connection.exec_driver_sql(text, {"rows": _JSON.encode(rows)}).rowcount
    return connection.exec_driver_sql(text, list(rows)).rowcount


@lru_cache(maxsize=64)
def _insertion(table: Table, dialect: Dialect, keys: tuple[str, ...]) -> str:
    if dialect.name != "postgresql":
        return str(sa.insert(table).compile(dialect=dialect, column_keys=list(keys)))
    given = _given(table, keys)
    chosen = sa.select(*(given[key] for key in keys))
    return str(sa.insert(table).from_select(list(keys), chosen).compile(dialect=dialect))


@lru_cache(maxsize=64)
def _changing(table: Table, dialect: Dialect, keys: tuple[str, ...]) -> str:
    given: Any = {key: sa.bindparam(key) for key in keys}
    if dialect.name == "postgresql":
        given = _given(table, keys)
    statement = sa.update(table)
    for key in keys:
        if key.startswith(WAS):
            statement = statement.where(table.c[key.removeprefix(WAS)] == given[key])
        else:
            statement = statement.values({key.removeprefix(NEW): given[key]})
    return str(statement.compile(dialect=dialect))


def _given(table: Table, keys: tuple[str, ...]) -> dict[str, Any]:
    """The columns of a table that is read from a text, each as what it holds."""
    of = {key: table.c[key.removeprefix(WAS).removeprefix(NEW)].type for key in keys}
    # Without its length: a cast would cut off what is too long, where it has to be refused.
    plain = {
        key: sa.Text() if isinstance(type_, sa.String | sa.LargeBinary) else type_
        for key, type_ in of.items()
    }
    rows = sa.func.json_to_recordset(sa.bindparam("rows", type_=sa.Text()).cast(JSON))
    told = rows.table_valued(*(sa.column(*one) for one in plain.items()))
    columns = told.render_derived(with_types=True).c
    return {
        key: sa.func.decode(columns[key], sa.literal_column("'hex'"))
        if isinstance(type_, sa.LargeBinary)
        else columns[key]
        for key, type_ in of.items()
    }
