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
from edge_runtime.journal import schema
from edge_runtime.journal.statements import (
    Statement,
    joined,
)
from edge_runtime.journal.stored import JournalFull

log = logging.getLogger(__name__)

#: Writes that share a commit at most: bounds how long one holds the others up.
BATCH: Final = 2000
#: What nobody waits for is tried again so many seconds later, and so much of it at most.
AGAIN_S: Final = 1.0
LEFT: Final = 10_000
#: How many journals that could not be read are kept beside the one in use.
ASIDE: Final = 2


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
    """A journal file. `close` waits for what is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        #: What nobody waits for and the disk had no room for; the writer's thread alone uses it.
        self._left: deque[_Write] = deque(maxlen=LEFT)
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        """A connection; what cannot be read is put aside first. Raises sqlite3.Error, OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.Error as problem:
            if not schema.damaged(problem):
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
        first = self._reader is None and self._writer is None
        return schema.connect(self.path, examine=first)

    def read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """What is committed. Short: it is read in the caller's thread. Raises JournalFull."""
        with self._lock:
            try:
                if self._reader is None:
                    self._reader = self._open()
                return self._reader.execute(query, values).fetchall()
            except (sqlite3.Error, OSError) as problem:
                if isinstance(problem, sqlite3.Error) and schema.damaged(problem):
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
                if isinstance(problem, sqlite3.Error) and schema.of_the_disk(problem):
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
            if isinstance(problem, sqlite3.Error) and schema.damaged(problem):
                with self._lock:
                    self._put_aside(problem)
                    self._writer = writer = self._open()
                self._commit(writer, batch)
            elif len(batch) == 1 or schema.of_the_disk(problem):
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
            schema.examine_file(connection)
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
