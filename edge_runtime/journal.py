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
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_runtime import metrics
from edge_runtime.clock import Stamp
from edge_runtime.statements import (
    ACCOUNT,
    NO_ORDER,
    NO_REPORT,
    NO_SAMPLES,
    ORDER,
    REPORT,
    SEEN,
    SESSION,
    Statement,
    joined,
)
from protocol.account import Usage
from protocol.errors import OodidaError

log = logging.getLogger(__name__)

VERSION: Final = 1
#: Writes that share a commit at most: bounds how long one holds the others up.
BATCH: Final = 2000
#: What nobody waits for is tried again so many seconds later, and so much of it at most.
AGAIN_S: Final = 1.0
LEFT: Final = 10_000
#: How long it is remembered that an order was carried out: longer than a broker keeps it. Of so
#: many it is remembered however old they seem, because a clock may have jumped; of no more than so
#: many however young.
SEEN_DAYS: Final = 8
SEEN_ORDERS: Final = (10_000, 200_000)
#: How many journals that could not be read are kept beside the one in use.
ASIDE: Final = 2
#: What the disk, and not the statement, is to be blamed for.
_DISK: Final = frozenset(
    {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
    }
)  # fmt: skip
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
CREATE TABLE sessions (edge TEXT PRIMARY KEY, upto INTEGER) WITHOUT ROWID;
CREATE INDEX orders_of_assignment ON orders (edge, assignment);
CREATE INDEX seen_by_time ON seen (wall);
"""


_FORGET: Final = (
    "DELETE FROM seen WHERE edge=?1 AND (task, attempt) IN "
    "(SELECT task, attempt FROM seen WHERE edge=?1"
)


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


#: To look again at what was left.
_NOTHING: Final = _Write((), None)


class Journal:
    """A journal file. `of` gives one vehicle's view; `close` waits for what is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        #: What nobody waits for and the disk had no room for; the writer's thread alone uses it.
        self._left: deque[_Write] = deque(maxlen=LEFT)
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None

    def of(self, edge: str) -> EdgeJournal:
        """The part of one vehicle or worker."""
        return EdgeJournal(self, edge)

    def _open(self) -> sqlite3.Connection:
        """A connection; what cannot be read is put aside first. Raises sqlite3.Error, OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.Error as problem:
            if not _damaged(problem):
                raise
            self._put_aside(problem)
            return self._connect()

    def _put_aside(self, problem: sqlite3.Error) -> None:
        """Make room for a new file: this one is damaged, or of a later release."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._reader = self._writer = None
        aside = self.path.with_suffix(f".aside-{time.time_ns()}")
        log.error("the journal cannot be read (%s): it is put aside as %s", problem, aside.name)
        metrics.ASIDE.add()
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{end}").rename(f"{aside}{end}")
        found = sorted(self.path.parent.glob(f"{self.path.stem}.aside-*[0-9]"))
        for old in found[:-ASIDE]:
            for end in ("", "-wal", "-shm"):
                Path(f"{old}{end}").unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA busy_timeout=5000")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA journal_size_limit=4194304")
            _bring_up_to_date(connection)
            if self._reader is None and self._writer is None:
                _examine(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """What is committed. Short: it is read in the caller's thread. Raises JournalFull."""
        with self._lock:
            try:
                if self._reader is None:
                    self._reader = self._open()
                return self._reader.execute(query, values).fetchall()
            except (sqlite3.Error, OSError) as problem:
                if isinstance(problem, sqlite3.Error) and _damaged(problem):
                    self._put(_Write((), None))  # the writer puts it aside
                raise JournalFull(f"the journal: {problem}") from None

    def write(self, *statements: Statement) -> Future[None]:
        """Commit these together; the future is done when they are on the disk."""
        done: Future[None] = Future()
        self._put(_Write(statements, done))
        return done

    def post(self, *statements: Statement) -> None:
        """Commit these together some time: nobody waits. On a full disk they are tried again."""
        self._put(_Write(statements, None))

    async def commit(self, *statements: Statement) -> None:
        """Commit these together, and return when they are on the disk.

        They are committed even if the caller gives up. Raises JournalFull.
        """
        await asyncio.shield(self.ask(*statements))

    def ask(self, *statements: Statement) -> asyncio.Future[None]:
        """The same for who does not wait: the future, not to be cancelled, may have JournalFull."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Write(statements, done))
        return done

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
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._batch()
            try:
                self._carry_out(batch)
            except Exception as problem:  # noqa: BLE001 - the thread must outlive whatever comes
                log.warning("the journal cannot be written: %s", problem)
                metrics.UNWRITTEN.add(by=len(batch))
                if isinstance(problem, sqlite3.Error) and _of_the_disk(problem):
                    self._left.extend(w for w in batch if w.done is None and w.statements)
                _settle(batch, str(problem))
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _batch(self) -> tuple[list[_Write], bool]:
        """What is asked for by now, at least one; and whether it is the last."""
        batch = list(self._left)
        try:
            item = self._queue.get(timeout=AGAIN_S if batch else None)
        except queue.Empty:
            item = _NOTHING
        self._left.clear()
        while item is not None:
            if item.begins():
                batch.append(item)
            if len(batch) >= BATCH or self._queue.empty():
                return batch, False
            item = self._queue.get()
        return batch, True

    def _carry_out(self, batch: Sequence[_Write]) -> None:
        """Commit a batch and tell its callers. Raises what keeps all of it from being committed."""
        with self._lock:
            if self._writer is None:
                self._writer = self._open()
            writer = self._writer
        try:
            self._commit(writer, batch)
        except Exception as problem:
            with contextlib.suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            if isinstance(problem, sqlite3.Error) and _damaged(problem):
                with self._lock:
                    self._put_aside(problem)
                    self._writer = writer = self._open()
                self._commit(writer, batch)
            elif len(batch) == 1 or _of_the_disk(problem):
                raise
            else:  # one of them is to blame, which must not take the others along
                self._one_by_one(batch)

    def _one_by_one(self, batch: Sequence[_Write]) -> None:
        for write in batch:
            try:
                self._carry_out([write])
            except Exception as problem:
                log.exception("something cannot be kept in the journal")
                _settle([write], str(problem))

    @staticmethod
    def _commit(connection: sqlite3.Connection, batch: Sequence[_Write]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement, values in joined(s for write in batch for s in write.statements):
            connection.execute(statement, values)
        if not any(write.statements for write in batch):  # nobody's write, but somebody's doubt
            _examine(connection)
        connection.execute("COMMIT")
        _settle(batch, None)


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
        raise _Unreadable(f"version {version} is of a later release")
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={VERSION};COMMIT;")


class _Unreadable(sqlite3.DatabaseError):
    """The file is whole for SQLite, and not for us."""


def _examine(connection: sqlite3.Connection) -> None:
    """Raise _Unreadable if the file is damaged."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _Unreadable(found)


def _code(problem: Exception) -> int:
    """SQLite's primary code of an error; 0 if it is none of SQLite's."""
    return int(getattr(problem, "sqlite_errorcode", 0)) & 0xFF


def _damaged(problem: sqlite3.Error) -> bool:
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return isinstance(problem, _Unreadable) or _code(problem) in codes


def _of_the_disk(problem: Exception) -> bool:
    return isinstance(problem, OSError) or _code(problem) in _DISK


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

    def seen(self, most: int) -> set[tuple[str, int]]:
        """Orders that were accepted before, the newest: task and attempt."""
        rows = self._journal.read(
            "SELECT task, attempt FROM seen WHERE edge=? ORDER BY wall DESC LIMIT ?",
            (self._edge, most),
        )
        return {(task, attempt) for task, attempt in rows}

    def carried_out(
        self, task: str, attempt: int, wall: float, report: StoredReport
    ) -> asyncio.Future[None]:
        """Keep an order that is done already: that it was accepted, and its report, in one commit.

        There is no moment at which it would have to be gone on with, so it has no row of its own.
        The future may have JournalFull; then it is not accepted.
        """
        return self._journal.ask((SEEN, (self._edge, task, attempt, wall)), self._report(report))

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
        statements = self._forget(task, attempt)
        if (task, attempt) in self._fresh:  # it has no samples
            self._fresh.discard((task, attempt))
            del statements[1:]
        if report is not None:
            statements.append(self._report(report))
        if usage is not None:
            statements.append(self._account(assignment, usage))
        await self._write(*statements)

    async def cancel(self, assignment: str, tasks: Sequence[str] = ()) -> None:
        """Nothing of this assignment is resumed any more; or of it, not these tasks."""
        of_it = (self._edge, assignment)
        if tasks:
            await self._write(
                *(
                    (f"DELETE FROM {table} WHERE edge=? AND task=?", (self._edge, task))  # noqa: S608
                    for task in tasks
                    for table in ("samples", "orders")
                )
            )
            return
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

    def reports(self) -> list[tuple[StoredReport, int]]:
        """What has no receipt, in the order in which it goes out: without payload, and its size."""
        rows = self._journal.read(
            "SELECT id, priority, wall, content_type, length(payload) FROM reports WHERE edge=? "
            "ORDER BY priority, rowid", (self._edge,),
        )  # fmt: skip
        return [(StoredReport(a, b, c, b"", d), size) for a, b, c, d, size in rows]

    def payload(self, id_: str) -> bytes | None:
        """A report as it travels; None if it is not here."""
        rows = self._journal.read(
            "SELECT payload FROM reports WHERE edge=? AND id=?", (self._edge, id_)
        )
        return bytes(rows[0][0]) if rows else None

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

    def charge(self, assignment: str, usage: Usage) -> None:
        """Something was used for which there is no report. Nobody waits for it."""
        self._journal.post(self._account(assignment, usage))

    def _account(self, assignment: str, usage: Usage) -> Statement:
        spent = (usage.cpu_s, usage.bytes_sent, usage.container_starts)
        return ACCOUNT, (self._edge, assignment, *spent, time.time())

    # --- upkeep -----------------------------------------------------------------------------------

    async def forget_old(self, before: float) -> None:
        """Forget which orders were carried out, and what they used, before a time."""
        least, most = SEEN_ORDERS
        await self._write(
            (
                f"{_FORGET} AND wall<?3 ORDER BY wall DESC LIMIT -1 OFFSET ?2)",
                (self._edge, least, before),
            ),
            (
                f"{_FORGET} ORDER BY wall DESC LIMIT -1 OFFSET ?2)",
                (self._edge, most),
            ),
            ("DELETE FROM accounts WHERE wall<? AND edge=?", (before, self._edge)),
        )

    # --- sessions ---------------------------------------------------------------------------------

    def sessions(self) -> int:
        """Up to which number connections were counted; 0 if none was."""
        rows = self._journal.read("SELECT upto FROM sessions WHERE edge=?", (self._edge,))
        return int(rows[0][0]) if rows else 0

    def reserve_sessions(self, upto: int) -> None:
        """Connections will be counted up to here. Nobody waits for it."""
        self._journal.post((SESSION, (self._edge, upto)))

    async def _write(self, *statements: Statement) -> None:
        await self._journal.commit(*statements)
