"""The journal's file: its tables, opening it, and what its errors mean."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

VERSION: Final = 2
#: What the disk, and not the statement, is to be blamed for.
_DISK: Final = frozenset(
    {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
    }
)  # fmt: skip
SCHEMA: Final = """
CREATE TABLE orders (
    edge TEXT, task TEXT, attempt INTEGER, assignment TEXT, payload BLOB, content_type TEXT,
    boot TEXT, since_boot REAL, wall REAL, PRIMARY KEY (edge, task, attempt)) WITHOUT ROWID;
CREATE TABLE samples (
    edge TEXT, task TEXT, attempt INTEGER, first INTEGER, boot TEXT, since_boot REAL, wall REAL,
    gap_s REAL, data BLOB,
    PRIMARY KEY (edge, task, attempt, first)) WITHOUT ROWID;
CREATE TABLE reports (
    edge TEXT, id TEXT, priority INTEGER, wall REAL, payload BLOB, content_type TEXT,
    PRIMARY KEY (edge, id));
CREATE TABLE seen (
    edge TEXT, task TEXT, attempt INTEGER, wall REAL, PRIMARY KEY (edge, task, attempt)
    ) WITHOUT ROWID;
CREATE TABLE accounts (
    edge TEXT, assignment TEXT, cpu_s REAL, bytes_sent INTEGER, container_starts INTEGER,
    wall REAL, PRIMARY KEY (edge, assignment)) WITHOUT ROWID;
CREATE TABLE sessions (edge TEXT PRIMARY KEY, upto INTEGER) WITHOUT ROWID;
CREATE INDEX orders_of_assignment ON orders (edge, assignment);
CREATE INDEX seen_by_time ON seen (wall);
"""
#: What each later version has more: the first entry is version 2's.
STEPS: Final = (
    """
CREATE TABLE days (
    edge TEXT PRIMARY KEY, day INTEGER, cpu_s REAL, bytes_sent INTEGER, container_starts INTEGER
    ) WITHOUT ROWID;
""",
)


def connect(path: Path, *, examine: bool) -> sqlite3.Connection:
    """A connection to a file that has every table; with ``examine`` it is looked through first.

    Raises sqlite3.Error; `damaged` tells what a new file would mend.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA busy_timeout=5000")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=4194304")
        _bring_up_to_date(connection)
        if examine:
            examine_file(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise _Unreadable(f"version {version} is of a later release")
    if version < VERSION:
        steps = STEPS[version - 1 :] if version else (SCHEMA, *STEPS)
        script = "".join(steps)
        connection.executescript(f"BEGIN IMMEDIATE;{script}PRAGMA user_version={VERSION};COMMIT;")


class _Unreadable(sqlite3.DatabaseError):
    """The file is whole for SQLite, and not for us."""


def examine_file(connection: sqlite3.Connection) -> None:
    """Raise _Unreadable if the file is damaged."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _Unreadable(found)


def _code(problem: Exception) -> int:
    """SQLite's primary code of an error; 0 if it is none of SQLite's."""
    return int(getattr(problem, "sqlite_errorcode", 0)) & 0xFF


def damaged(problem: sqlite3.Error) -> bool:
    """True if the file is of no use any more."""
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return isinstance(problem, _Unreadable) or _code(problem) in codes


def of_the_disk(problem: Exception) -> bool:
    """True if the disk is to blame, and not what was asked of it."""
    return isinstance(problem, OSError) or _code(problem) in _DISK
