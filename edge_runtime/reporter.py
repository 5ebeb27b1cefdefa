"""The outbox: reports on their way, kept until the cloud says that it has committed them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from edge_runtime import metrics
from edge_runtime.journal import EdgeJournal, JournalFull, StoredReport
from protocol import messages
from protocol.account import Usage
from protocol.errors import LinkError
from protocol.link import Link, Outgoing
from protocol.messages import ModuleReport

log = logging.getLogger(__name__)

#: After how long without a receipt a report is sent again, in seconds: a little, then more.
RESEND_S: Final = (5.0, 60.0)
#: What goes out first, and stays longest where room is short.
RESULT: Final = 0
STATE: Final = 1


@dataclass(frozen=True)
class Bounds:
    """How much may wait: bytes of reports together, and how old one may be in days."""

    size: int = 64 * 2**20
    days: float = 7.0


@dataclass
class _Waiting:
    report: StoredReport
    kept: bool  # it is in the journal
    due: float = 0.0
    pause: float = RESEND_S[0]


def excess(waiting: Iterable[StoredReport], bounds: Bounds, now: float) -> list[StoredReport]:
    """What has to go, so that the rest is within bounds. Pure; ``now`` is wall time.

    First whatever is too old. Then, until the rest fits: states before results, and of each the
    oldest first, because the iteration that a result was for is over soonest.
    """
    listed = list(waiting)
    oldest = now - bounds.days * 86_400
    gone = [r for r in listed if r.wall < oldest]
    left = sorted((r for r in listed if r.wall >= oldest), key=lambda r: (-r.priority, r.wall))
    size = sum(len(r.payload) for r in left)
    for report in left:
        if size <= bounds.size:
            break
        gone.append(report)
        size -= len(report.payload)
    return gone


class Reporter:
    """Sends reports to one topic: results before states, each again until its receipt comes."""

    def __init__(self, topic: str, journal: EdgeJournal, bounds: Bounds | None = None) -> None:
        self._topic, self._journal = topic, journal
        self._bounds = bounds or Bounds()
        self._waiting = {r.id: _Waiting(r, kept=True) for r in journal.reports()}
        self._size = sum(len(w.report.payload) for w in self._waiting.values())
        self._new = asyncio.Event()

    async def ended(
        self, task: str, attempt: int, id_: str, report: BaseModel, assignment: str, usage: Usage
    ) -> None:
        """A task has ended: its report takes the place of its order, in one commit."""
        stored = self._stored(id_, report, RESULT)
        kept = True
        try:
            await self._journal.finish(task, attempt, stored, assignment, usage)
        except JournalFull as problem:
            kept = False
            log.warning("the report of task %s is kept in memory only: %s", task, problem)
        self._add(stored, kept=kept)

    async def report(self, id_: str, report: BaseModel) -> None:
        """Send a report, now and again until its receipt."""
        stored = self._stored(id_, report, STATE if isinstance(report, ModuleReport) else RESULT)
        kept = True
        try:
            await self._journal.report(stored)
        except JournalFull as problem:
            kept = False
            log.warning("a report is kept in memory only: %s", problem)
        self._add(stored, kept=kept)

    @staticmethod
    def _stored(id_: str, report: BaseModel, priority: int) -> StoredReport:
        payload, content_type = messages.encode(report)
        return StoredReport(id_, priority, time.time(), payload, content_type)

    def _add(self, report: StoredReport, *, kept: bool) -> None:
        self._waiting[report.id] = _Waiting(report, kept)
        self._size += len(report.payload)
        if self._size > self._bounds.size:
            self._make_room()
        self._new.set()

    def _make_room(self) -> None:
        gone = excess((w.report for w in self._waiting.values()), self._bounds, time.time())
        for report in gone:
            self._remove(report.id)
        if gone:
            metrics.DROPPED.add(by=len(gone))
            log.warning("dropped %s reports without a receipt: too many, or too old", len(gone))
            self._journal.received([r.id for r in gone])

    def _remove(self, id_: str) -> bool:
        found = self._waiting.pop(id_, None)
        if found is not None:
            self._size -= len(found.report.payload)
        return found is not None

    def received(self, id_: str) -> None:
        """The cloud has it."""
        if self._remove(id_):
            self._journal.received([id_])

    @property
    def unsent(self) -> int:
        """How many reports have no receipt yet."""
        return len(self._waiting)

    def again(self) -> None:
        """There is a new connection: what is on its way may have been lost."""
        for waiting in self._waiting.values():
            waiting.due, waiting.pause = 0.0, RESEND_S[0]
        self._new.set()

    async def run(self, link: Link) -> None:
        """Send what is to be sent, until cancelled."""
        while True:
            self._new.clear()
            await link.wait_up()
            now = time.monotonic()
            due = [w for w in self._waiting.values() if w.due <= now]
            if due:
                due.sort(key=lambda w: w.report.priority)
                await self._send(link, due, now)
            try:
                async with asyncio.timeout(self._until_next()):
                    await self._new.wait()
            except TimeoutError:
                self._make_room()
                await self._keep_again()

    def _until_next(self) -> float | None:
        if not self._waiting:
            return None
        return max(0.05, min(w.due for w in self._waiting.values()) - time.monotonic())

    async def _send(self, link: Link, due: list[_Waiting], now: float) -> None:
        for waiting in due:
            # Marked before it is sent: the receipt may come before the broker's acknowledgement.
            waiting.due = now + waiting.pause
            waiting.pause = min(waiting.pause * 2, RESEND_S[1])
        reports = [w.report for w in due]
        problems = await link.publish_many(
            [Outgoing(self._topic, r.payload, r.content_type) for r in reports]
        )
        for report, problem in zip(reports, problems, strict=True):
            if isinstance(problem, LinkError):
                log.info("report %s goes out later: %s", report.id, problem)

    async def _keep_again(self) -> None:
        """What the journal could not take while the disk was full."""
        for waiting in [w for w in self._waiting.values() if not w.kept]:
            try:
                await self._journal.report(waiting.report)
            except JournalFull:
                return
            waiting.kept = True
