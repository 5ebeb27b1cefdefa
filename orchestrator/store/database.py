"""Opening the store: one engine, its migrations, and transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import SQLITE_BUSY, SQLITE_LOCKED, OperationalError
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

MIGRATIONS: Final = Path(__file__).parent / "migrations"
#: The lock of whoever migrates a PostgreSQL; any number that nobody else uses there.
MIGRATING: Final = 0x_00D1_DA00
#: How long an SQLite store may be in others' hands when it is opened, in seconds.
OPEN_S: Final = 30.0
#: How long a transaction on SQLite waits for the others, in milliseconds.
BUSY_MS: Final = 5000


class Database:
    """A store at an SQLAlchemy URL, migrated to the newest schema when opened."""

    def __init__(self, url: str) -> None:
        # An orchestrator works in one transaction at a time; whoever looks at figures, beside it.
        pool: dict[str, Any] = {"pool_size": 2, "max_overflow": 3, "pool_timeout": 10}
        backend = make_url(url).get_backend_name()
        if backend == "sqlite":
            pool = {"paramstyle": "named"}  # as PostgreSQL's: see `bulk`
        self._engine = create_engine(url, pool_pre_ping=backend != "sqlite", **pool)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _tune_sqlite)
            event.listen(self._engine, "begin", _begin)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        _patiently(lambda: migrate(url, self._engine))

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end, or leaves nothing changed if the block raises."""
        with self._sessions.begin() as session:
            yield session

    def close(self) -> None:
        """Give up every connection."""
        self._engine.dispose()


def migrate(url: str, engine: Any) -> None:
    """Bring the store to the newest schema; does nothing if it is there already."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Several that start at once: the first one migrates, the others wait for it. (SQLite's
            # transactions are one at a time by themselves.)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATING})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _patiently(open_it: Callable[[], None]) -> None:
    """Open a store that others are at work on.

    Who waits for SQLite's lock is in no queue: after a restart of everything, others may be faster
    for longer than a transaction waits. That is no reason to end.
    """
    until = time.monotonic() + OPEN_S
    while True:
        try:
            open_it()
        except DBAPIError as problem:
            if not _busy(problem.orig) or time.monotonic() >= until:
                raise
        else:
            return


def _busy(problem: BaseException | None) -> bool:
    if not isinstance(problem, OperationalError):
        return False
    return problem.sqlite_errorcode & 0xFF in (SQLITE_BUSY, SQLITE_LOCKED)


def _begin(connection: Any) -> None:
    # Left to itself, Python's driver begins no transaction before a savepoint, whose release would
    # then be the commit. IMMEDIATE: a turn writes, and must not find out late that it cannot.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _write_ahead(cursor: Any) -> None:
    """Have a store with a write-ahead log: once it has, this takes no lock.

    Of several that open a new one at once, one may change it. SQLite refuses the others without
    the wait that it otherwise has for a lock.
    """
    until = time.monotonic() + OPEN_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except OperationalError as problem:
            if not _busy(problem) or time.monotonic() >= until:
                raise
            time.sleep(0.02)
        else:
            return


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`
    cursor = connection.cursor()
    _write_ahead(cursor)
    # FULL: a receipt is sent after the commit, so the commit must be on the disk.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    cursor.close()
