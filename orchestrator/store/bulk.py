"""One statement for many rows, where there may be thousands.

SQLAlchemy writes the statement; the rows go to the driver as they are. Its own way handles every
value of every row in Python, which took as long as all that the database does with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from sqlalchemy import Dialect, Insert, Update
from sqlalchemy.orm import Session

Row = Mapping[str, str | int | float | bytes | None]


def execute(session: Session, statement: Insert | Update, rows: Sequence[Row]) -> int:
    """Execute a statement for each row; how many rows it met.

    Every row has the same keys: a new row's columns, or the names of the statement's parameters.
    Their values are what the driver takes: plain text, and no members of an enumeration.
    """
    session.flush()
    connection = session.connection()
    text = _text(statement, connection.dialect, tuple(rows[0]))
    return connection.exec_driver_sql(text, list(rows)).rowcount


@lru_cache(maxsize=64)
def _text(statement: Insert | Update, dialect: Dialect, keys: tuple[str, ...]) -> str:
    return str(statement.compile(dialect=dialect, column_keys=list(keys)))
