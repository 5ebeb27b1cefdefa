"""Sends reports, and keeps them until the cloud says that it has committed them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pydantic import BaseModel

from edge_runtime import metrics
from edge_runtime.journal import EdgeJournal, JournalFull
from edge_runtime.outbox import RESEND_S, RESULT, Bounds, Ended, Waiting, excess, made, priority_of
from protocol import messages
from protocol.errors import LinkError
from protocol.link import Link, Outgoing

log = logging.getLogger(__name__)

#: How often it is tried again to write down what a full disk did not take, in seconds.
KEEP_AGAIN_S: Final = 5.0
#: Bytes of reports that are held in memory as well; the others are read when they go out.
HELD: Final = 4 * 2**20
#: Bytes of reports that a full disk leaves in memory alone.
UNKEPT: Final = 16 * 2**20
#: Reports that go out together, and are in memory for it, at most.
TOGETHER: Final = 64


class Reporter:
    """Sends reports to one topic: results before states, each again until its receipt comes."""

    def __init__(self, topic: str, journal: EdgeJournal, bounds: Bounds | None = None) -> None:
        self._topic, self._journal = topic, journal
        self._bounds = bounds or Bounds()
        self._waiting: dict[str, Waiting] = {}
        self._size = self._held = 0
        #: Tasks whose report has its receipt, and whose order could not be taken off the disk.
        self._over: list[Ended] = []
        self._again: asyncio.Task[None] | None = None
        self._new = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def load(self) -> None:
        """Take up what an earlier life has left unsent. Raises JournalFull."""
        for stored, size in self._journal.reports():
            if stored.id not in self._waiting:
                self._add(
                    Waiting(
                        stored.id, stored.priority, stored.wall, size, stored.content_type,
                        None, kept=True,
                    )
                )  # fmt: skip

    async def ended(self, ended: Ended, id_: str, payload: bytes, content_type: str) -> None:
        """A task has ended: its report takes the place of its order, in one commit."""
        await self._keep(made(id_, RESULT, payload, content_type, ended))

    def carried_out(
        self, task: str, attempt: int, wall: float, id_: str, payload: bytes, content_type: str,
        then: Callable[[JournalFull | None], None],
    ) -> None:  # fmt: skip
        """A task is done that is in no journal yet: it and its report are one commit.

        ``then`` is told when it is on the disk, or why not: then there is no report either.
        """
        waiting = made(id_, RESULT, payload, content_type, None)
        written = self._journal.carried_out(task, attempt, wall, waiting.stored())

        def settled(done: asyncio.Future[None]) -> None:
            problem = done.exception()
            if problem is None:
                waiting.kept = True
                self._add(waiting)
            then(problem if isinstance(problem, JournalFull) else None)

        written.add_done_callback(settled)

    async def report(self, id_: str, report: BaseModel) -> None:
        """Send a report, now and again until its receipt."""
        await self._keep(made(id_, priority_of(report), *messages.encode(report), None))

    async def _keep(self, waiting: Waiting) -> None:
        try:
            await self._write(waiting)
        except JournalFull as problem:
            log.warning("a report is kept in memory only: %s", problem)
        finally:  # what was asked of the journal is done even if our caller is cancelled
            self._add(waiting)
            if not waiting.kept:
                self._soon_again()

    async def _write(self, waiting: Waiting) -> None:
        """Have a report in the journal, with whatever it is the end of. Raises JournalFull."""
        if waiting.ended is None:
            await self._journal.report(waiting.stored())
        else:
            task, attempt, assignment, usage = waiting.ended
            await self._journal.finish(task, attempt, waiting.stored(), assignment, usage)
        waiting.kept, waiting.ended = True, None

    def _add(self, waiting: Waiting) -> None:
        self._remove(waiting.id)
        self._waiting[waiting.id] = waiting
        self._size += waiting.size
        if waiting.payload is not None:
            if waiting.kept and self._held + waiting.size > HELD:
                waiting.payload = None
            else:
                self._held += waiting.size
        if self._size > self._bounds.size or self._held > HELD + UNKEPT:
            self._make_room()
        self._new.set()

    def _make_room(self) -> None:
        now = time.monotonic()
        gone = excess(self._waiting.values(), self._bounds, now)
        if self._held > HELD + UNKEPT:  # the disk is full, and memory is not for all of it
            unkept = [w for w in self._waiting.values() if not w.kept]
            chosen = {w.id for w in gone}
            gone += [
                w for w in excess(unkept, Bounds(UNKEPT, self._bounds.days), now)
                if w.id not in chosen
            ]  # fmt: skip
        for waiting in gone:
            self._remove(waiting.id)
            if waiting.ended is not None:
                self._over.append(waiting.ended)
        if gone:
            metrics.DROPPED.add(by=len(gone))
            log.warning("dropped %s reports without a receipt: too many, or too old", len(gone))
            self._journal.received([w.id for w in gone])

    def _remove(self, id_: str) -> Waiting | None:
        found = self._waiting.pop(id_, None)
        if found is not None:
            self._size -= found.size
            if found.payload is not None:
                self._held -= found.size
        return found

    def received(self, id_: str) -> None:
        """The cloud has it."""
        found = self._remove(id_)
        if found is not None:
            self._journal.received([id_])
            if not self._waiting:  # nothing is to be sent again
                self._no_timer()
            if found.ended is not None:  # the order is still on the disk
                self._over.append(found.ended)
                self._soon_again()

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
        loop = asyncio.get_running_loop()
        while True:
            self._new.clear()
            await link.wait_up()
            now = time.monotonic()
            due = [w for w in self._waiting.values() if w.due <= now]
            due.sort(key=lambda w: w.priority)
            for start in range(0, len(due), TOGETHER):
                await self._send(link, due[start : start + TOGETHER], now)
            if self._waiting and not self._new.is_set():
                pause = min(w.due for w in self._waiting.values()) - time.monotonic()
                self._timer = loop.call_later(max(0.05, pause), self._look_again)
            try:
                await self._new.wait()
            finally:
                self._no_timer()

    def _look_again(self) -> None:
        """A report may have to be sent once more, or be too old by now."""
        self._make_room()
        self._new.set()

    def _no_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _send(self, link: Link, due: list[Waiting], now: float) -> None:
        ids, outgoing = [], []
        for waiting in due:
            if waiting.id not in self._waiting:
                continue  # its receipt has come meanwhile
            # Marked before it is sent: the receipt may come before the broker's acknowledgement.
            waiting.due = now + waiting.pause
            waiting.pause = min(waiting.pause * 2, RESEND_S[1])
            payload = self._payload(waiting)
            if payload is not None:
                ids.append(waiting.id)
                outgoing.append(Outgoing(self._topic, payload, waiting.content_type))
        for id_, problem in zip(ids, await link.publish_many(outgoing), strict=True):
            if isinstance(problem, LinkError):
                log.info("report %s goes out later: %s", id_, problem)

    def _payload(self, waiting: Waiting) -> bytes | None:
        if waiting.payload is not None:
            return waiting.payload
        try:
            payload = self._journal.payload(waiting.id)
        except JournalFull as problem:
            log.warning("report %s goes out later: %s", waiting.id, problem)
            return None
        if payload is None:  # the journal was damaged, and another is in its place
            log.error("report %s is lost with the journal that it was in", waiting.id)
            metrics.DROPPED.add()
            self._remove(waiting.id)
        return payload

    def _soon_again(self) -> None:
        if self._again is None or self._again.done():
            self._again = asyncio.create_task(self._keep_again(), name="keep-again")

    async def _keep_again(self) -> None:
        """Write down what the journal could not take while the disk was full."""
        while True:
            await asyncio.sleep(KEEP_AGAIN_S)
            with suppress(JournalFull):
                while self._over:
                    task, attempt, assignment, usage = self._over[0]
                    await self._journal.finish(task, attempt, None, assignment, usage)
                    del self._over[0]
                for waiting in [w for w in self._waiting.values() if not w.kept]:
                    await self._write(waiting)
                    if waiting.id not in self._waiting:  # its receipt came meanwhile
                        self._journal.received([waiting.id])
                return

    async def close(self) -> None:
        """Stop trying."""
        if self._again is not None:
            self._again.cancel()
            await asyncio.gather(self._again, return_exceptions=True)
