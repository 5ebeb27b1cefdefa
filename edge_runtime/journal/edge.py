"""One vehicle's or worker's part of a journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from edge_runtime.clock import Stamp
from edge_runtime.journal.file import Journal
from edge_runtime.journal.statements import (
    ACCOUNT,
    NO_ORDER,
    NO_REPORT,
    NO_SAMPLES,
    ORDER,
    REPORT,
    SEEN,
    SESSION,
    Statement,
)
from edge_runtime.journal.stored import StoredOrder, StoredReport, StoredSamples
from protocol.account import Usage

#: How long it is remembered that an order was carried out: longer than a broker keeps it. Of so
#: many it is remembered however old they seem, because a clock may have jumped; of no more than so
#: many however young.
SEEN_DAYS: Final = 8
SEEN_ORDERS: Final = (10_000, 200_000)
_FORGET: Final = (
    "DELETE FROM seen WHERE edge=?1 AND (task, attempt) IN "
    "(SELECT task, attempt FROM seen WHERE edge=?1"
)


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

    # --- days -------------------------------------------------------------------------------------

    def day(self) -> tuple[int, Usage] | None:
        """The day of which it is known what all assignments have used; None if none is."""
        rows = self._journal.read(
            "SELECT day, cpu_s, bytes_sent, container_starts FROM days WHERE edge=?", (self._edge,)
        )
        if not rows:
            return None
        day, cpu_s, bytes_sent, starts = rows[0]
        return day, Usage(cpu_s=cpu_s, bytes_sent=bytes_sent, container_starts=starts)

    def keep_day(self, day: int, usage: Usage) -> Future[None]:
        """Keep what all assignments have used in a day, in place of what was kept before."""
        used = (usage.cpu_s, usage.bytes_sent, usage.container_starts)
        statement = "INSERT OR REPLACE INTO days VALUES (?, ?, ?, ?, ?)"
        return self._journal.write((statement, (self._edge, day, *used)))

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
