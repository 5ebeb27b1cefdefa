"""What must survive a power cut: accepted orders, windows that fill, reports without a receipt.

One SQLite file with a write-ahead log. A writer thread commits whatever was asked for meanwhile in
one transaction, and what is alike in one statement, so that many vehicles of one process share a
file and the price of its commits. A caller goes on when what it asked for is on the disk, or hears
`JournalFull`.

The modules are not in it: `edge_runtime/modules.py` keeps each as a file with its user's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_runtime.clock import Stamp
from edge_runtime.statements import (
    ACCOUNT,
    NO_ORDER,
    NO_REPORT,
    NO_SAMPLES,
    ORDER,
    REPORT,
    SEEN,
    Statement,
    joined,
)
from protocol.account import Usage
from protocol.errors import OodidaError

log = logging.getLogger(__name__)

VERSION: Final = 1
#: Writes that share a commit at most: bounds how long one holds the others up.
BATCH: Final = 2000
#: How long it is remembered that an order was carried out: longer than a broker keeps it.
SEEN_DAYS: Final = 8
_SCHEMA: Final = """
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
CREATE INDEX orders_of_assignment ON orders (edge, assignment);
CREATE INDEX seen_by_time ON seen (wall);
"""


class JournalFull(OodidaError):
    """The journal cannot be written: the disk is full or fails; make room on it."""

    code = "journal_full"


class StoredOrder(NamedTuple):
    """An order that was accepted and is not finished; ``stamp`` is when it was accepted."""

    task: str
    attempt: int
    assignment: str
    payload: bytes
    content_type: str
    stamp: Stamp


class StoredSamples(NamedTuple):
    """Consecutive samples of a window from number ``first`` on; ``stamp`` is when they were kept.

    ``gap_s`` is by how many seconds the window was interrupted before them, 0 if it was not.
    """

    first: int
    stamp: Stamp
    gap_s: float
    data: bytes


class StoredReport(NamedTuple):
    """A report that has no receipt yet; the lowest priority number goes first."""

    id: str
    priority: int
    wall: float
    payload: bytes
    content_type: str


class _Write(NamedTuple):
    statements: Sequence[Statement]
    done: Future[None] | asyncio.Future[None] | None

    def begins(self) -> bool:
        """False if its caller has given up."""
        if isinstance(self.done, Future):
            return self.done.set_running_or_notify_cancel()
        return self.done is None or not self.done.cancelled()


class Journal:
    """A journal file. `of` gives one vehicle's view; `close` waits for what is being written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reader = self._open()

    def of(self, edge: str) -> EdgeJournal:
        """The part of one vehicle or worker."""
        return EdgeJournal(self, edge)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as problem:
            if isinstance(problem, sqlite3.OperationalError) and not _damaged(problem):
                raise JournalFull(f"{self.path} cannot be opened: {problem}") from None
            aside = self.path.with_suffix(f".damaged-{int(time.time())}")
            log.error("the journal cannot be read (%s): it is put aside as %s", problem, aside.name)  # noqa: TRY400
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self.path}{end}").rename(f"{aside}{end}")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA busy_timeout=5000")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA journal_size_limit=4194304")
            _bring_up_to_date(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """What is committed. Short: it is read in the caller's thread."""
        with self._lock:
            return self._reader.execute(query, values).fetchall()

    def write(self, *statements: Statement) -> Future[None]:
        """Commit these together; the future is done when they are on the disk."""
        done: Future[None] = Future()
        self._put(_Write(statements, done))
        return done

    def post(self, *statements: Statement) -> None:
        """Commit these together some time. What cannot be written is lost."""
        self._put(_Write(statements, None))

    async def commit(self, *statements: Statement) -> None:
        """Commit these together, and return when they are on the disk."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Write(statements, done))
        await done

    def _put(self, write: _Write) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
            self._thread.start()
        self._queue.put(write)

    def close(self) -> None:
        """Commit what was asked for, and close the file."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        with self._lock:
            self._reader.close()

    def _run(self) -> None:
        connection = None
        last = False
        while not last:
            batch: list[_Write] = []
            item = self._queue.get()
            while True:
                if item is None:
                    last = True
                    break
                if item.begins():
                    batch.append(item)
                if len(batch) >= BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            try:
                if connection is None:
                    connection = self._connect()
                self._commit(connection, batch)
            except sqlite3.Error as problem:
                log.warning("the journal cannot be written: %s", problem)
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                _settle(batch, str(problem))
        if connection is not None:
            connection.close()

    @staticmethod
    def _commit(connection: sqlite3.Connection, batch: Iterable[_Write]) -> None:
        written = list(batch)
        connection.execute("BEGIN IMMEDIATE")
        for statement, values in joined(s for write in written for s in write.statements):
            connection.execute(statement, values)
        connection.execute("COMMIT")
        _settle(written, None)


def _settle(batch: Iterable[_Write], problem: str | None) -> None:
    """Tell the callers of a batch; each event loop is woken once for all of its own."""
    waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for write in batch:
        if write.done is None:
            continue
        if isinstance(write.done, Future):
            _tell([write.done], problem)
        else:
            waiting.setdefault(write.done.get_loop(), []).append(write.done)
    for loop, futures in waiting.items():
        with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_tell, futures, problem)


def _tell(futures: Iterable[Future[None] | asyncio.Future[None]], problem: str | None) -> None:
    for future in futures:
        if future.done():
            continue  # its caller has given up meanwhile
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(JournalFull(f"the journal: {problem}"))


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise sqlite3.DatabaseError(f"version {version} is of a later release")
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={VERSION};COMMIT;")


def _damaged(problem: sqlite3.OperationalError) -> bool:
    return problem.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class EdgeJournal:
    """One vehicle's or worker's part of a journal. What awaits returns when it is on the disk."""

    def __init__(self, journal: Journal, edge: str) -> None:
        self._journal, self._edge = journal, edge
        #: Orders that came in this life and of which no sample is kept yet.
        self._fresh: set[tuple[str, int]] = set()

    # --- orders -----------------------------------------------------------------------------------

    def has_seen(self, task: str, attempt: int) -> bool:
        """True if this order was accepted before, finished or not."""
        found = self._journal.read(
            "SELECT 1 FROM seen WHERE edge=? AND task=? AND attempt=?", (self._edge, task, attempt)
        )
        return bool(found)

    async def accept(self, order: StoredOrder) -> None:
        """Keep an order. Raises JournalFull; then it is not accepted."""
        key = (self._edge, order.task, order.attempt)
        self._fresh.add((order.task, order.attempt))
        await self._write(
            (SEEN, (*key, order.stamp.wall)),
            (
                ORDER,
                (*key, order.assignment, order.payload, order.content_type, *order.stamp),
            ),
        )

    def orders(self) -> list[StoredOrder]:
        """What was accepted and is not finished, oldest first."""
        rows = self._journal.read(
            "SELECT task, attempt, assignment, payload, content_type, boot, since_boot, wall "
            "FROM orders WHERE edge=? ORDER BY wall", (self._edge,),
        )  # fmt: skip
        return [StoredOrder(a, b, c, d, e, Stamp(*when)) for a, b, c, d, e, *when in rows]

    async def finish(
        self, task: str, attempt: int, report: StoredReport | None,
        assignment: str = "", usage: Usage | None = None,
    ) -> None:  # fmt: skip
        """An order is done with: its report, if there is one, and what it used, in one commit."""
        self._fresh.discard((task, attempt))
        statements = self._forget(task, attempt)
        if report is not None:
            statements.append(self._report(report))
        if usage is not None:
            statements.append(self._account(assignment, usage))
        await self._write(*statements)

    async def cancel(self, assignment: str) -> None:
        """Nothing of this assignment is resumed any more."""
        of_it = (self._edge, assignment)
        await self._write(
            (
                (
                    "DELETE FROM samples WHERE edge=?1 AND (task, attempt) IN "
                    "(SELECT task, attempt FROM orders WHERE edge=?1 AND assignment=?2)"
                ),
                of_it,
            ),
            ("DELETE FROM orders WHERE edge=? AND assignment=?", of_it),
        )

    def _forget(self, task: str, attempt: int) -> list[Statement]:
        key = (self._edge, task, attempt)
        return [(NO_ORDER, key), (NO_SAMPLES, key)]

    # --- windows ----------------------------------------------------------------------------------

    def keep_samples(self, task: str, attempt: int, samples: StoredSamples) -> Future[None]:
        """Keep further samples of a window, of an order that is still there."""
        key = (self._edge, task, attempt)
        self._fresh.discard((task, attempt))
        return self._journal.write(
            (
                (
                    "INSERT OR REPLACE INTO samples SELECT "
                    "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE EXISTS "
                    "(SELECT 1 FROM orders WHERE edge=?1 AND task=?2 AND attempt=?3)"
                ),
                (*key, samples.first, *samples.stamp, samples.gap_s, samples.data),
            )
        )

    def samples(self, task: str, attempt: int) -> list[StoredSamples]:
        """What is kept of a window, in order."""
        if (task, attempt) in self._fresh:
            return []
        rows = self._journal.read(
            "SELECT first, boot, since_boot, wall, gap_s, data FROM samples "
            "WHERE edge=? AND task=? AND attempt=? ORDER BY first", (self._edge, task, attempt),
        )  # fmt: skip
        return [StoredSamples(row[0], Stamp(*row[1:4]), row[4], row[5]) for row in rows]

    async def forget_samples(self, task: str, attempt: int) -> None:
        """The window is collected once more, from its beginning."""
        await self._write(self._forget(task, attempt)[1])

    # --- reports ----------------------------------------------------------------------------------

    async def report(self, report: StoredReport) -> None:
        """Keep a report until its receipt. Raises JournalFull."""
        await self._write(self._report(report))

    def reports(self) -> list[StoredReport]:
        """What has no receipt, in the order in which it goes out."""
        rows = self._journal.read(
            "SELECT id, priority, wall, payload, content_type FROM reports WHERE edge=? "
            "ORDER BY priority, rowid", (self._edge,),
        )  # fmt: skip
        return [StoredReport(*row) for row in rows]

    def received(self, ids: Sequence[str]) -> None:
        """The cloud has committed these reports, or they are given up. Nobody waits for it."""
        self._journal.post(*((NO_REPORT, (self._edge, id_)) for id_ in ids))

    def _report(self, report: StoredReport) -> Statement:
        return REPORT, (self._edge, *report)

    # --- accounts ---------------------------------------------------------------------------------

    def usage(self, assignment: str) -> Usage:
        """What an assignment has used here so far."""
        rows = self._journal.read(
            "SELECT cpu_s, bytes_sent, container_starts FROM accounts WHERE edge=? AND "
            "assignment=?", (self._edge, assignment),
        )  # fmt: skip
        if not rows:
            return Usage()
        cpu_s, bytes_sent, starts = rows[0]
        return Usage(cpu_s=cpu_s, bytes_sent=bytes_sent, container_starts=starts)

    def _account(self, assignment: str, usage: Usage) -> Statement:
        spent = (usage.cpu_s, usage.bytes_sent, usage.container_starts)
        return ACCOUNT, (self._edge, assignment, *spent, time.time())

    # --- upkeep -----------------------------------------------------------------------------------

    async def forget_old(self, before: float) -> None:
        """Forget which orders were carried out, and what they used, before a time."""
        await self._write(
            ("DELETE FROM seen WHERE wall<? AND edge=?", (before, self._edge)),
            ("DELETE FROM accounts WHERE wall<? AND edge=?", (before, self._edge)),
        )

    async def _write(self, *statements: Statement) -> None:
        await self._journal.commit(*statements)
