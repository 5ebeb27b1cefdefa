"""The loop: messages -> one transaction -> outgoing messages."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Final

from orchestrator import (
    assignments,
    deployments,
    inbox,
    leases,
    metrics,
    shipped,
)
from orchestrator.guard import guarded
from orchestrator.outbox import Outbox
from orchestrator.presences import RollCall
from orchestrator.store import Database, problems, queries, retention
from orchestrator.store.retention import Keep
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn
from protocol import topics
from protocol.link import WIDE, Incoming, Link

log = logging.getLogger(__name__)

SHARE: Final = "orchestrators"
#: Messages handled in one transaction: the price of a commit is paid once for all of them.
BATCH: Final = 500
#: How often to look whether others have left something overdue, in seconds.
POLL_S: Final = 1.0
#: How often to look for what is too old, in seconds.
FORGET_S: Final = 600.0
#: How often a turn is decided again at once when another orchestrator is in its way.
ATTEMPTS: Final = 6
#: Pauses while the store does not work, in seconds: the first one, and the longest.
PAUSE_S: Final = (0.1, 5.0)


class Service:
    """An orchestrator on one broker and one store."""

    def __init__(self, url: str, database: Database, name: str, keep: Keep = Keep()) -> None:  # noqa: B008
        self._keep, self._forget_at = keep, 0.0
        self._database = database
        self._link = Link(
            url,
            f"orchestrator-{name}",
            subscriptions=[
                # Presence is retained, and members of a share get no retained messages.
                topics.all_of("vehicles", "presence"),
                topics.all_of("workers", "presence"),
                topics.all_of("vehicles", "reports", share=SHARE),
                topics.all_of("workers", "reports", share=SHARE),
                topics.all_of("analysts", "requests", share=SHARE),
            ],
            patience_s=None,
            on_up=self._on_up,
            publish_window=WIDE,
            receive_window=WIDE,
        )
        self._roll: RollCall | None = None
        self._outbox = Outbox(name[:64])

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled. ``ready`` is set when the first connection stands."""
        try:
            async with self._link, asyncio.TaskGroup() as group:
                if ready is not None:
                    ready.set()
                group.create_task(self._outbox.publish(self._link), name="outbox")
                await self._serve()
        finally:
            self._leave()

    def _leave(self) -> None:
        try:
            with self._database.transaction() as session:
                self._outbox.release(session)
        except Exception as error:
            if not (problems.away(error) or problems.contended(error)):
                raise
            log.info("what is not published is taken over later: %s", error)

    @property
    def connected(self) -> bool:
        """True while there is a connection to the broker."""
        return self._link.connected

    async def _on_up(self) -> None:
        self._roll = RollCall()

    async def _serve(self) -> None:
        patience = 0.0  # there may be deadlines from before
        while True:
            batch = await self._batch(patience)
            began = time.perf_counter()
            next_deadline = await self._until_done(batch)
            metrics.TURN_SECONDS.observe(time.perf_counter() - began)
            metrics.TURN_MESSAGES.observe(len(batch))
            for message in batch:
                message.acknowledge()
            left = POLL_S if next_deadline is None else next_deadline - time.time()
            patience = min(POLL_S, max(0.0, left))
            if not batch:
                self._forget()
            if self._roll is not None:
                patience = min(patience, self._roll.left_s)

    def _forget(self) -> None:
        """Forget some of what is too old, in a quiet moment."""
        if time.monotonic() < self._forget_at:
            return
        gone = 0
        try:
            with self._database.transaction() as session:
                gone = retention.forget(session, self._keep, time.time())
        except Exception as error:  # there will be another moment
            if not (problems.away(error) or problems.contended(error)):
                log.exception("what is too old cannot be forgotten")
        self._forget_at = time.monotonic() + (POLL_S if gone else FORGET_S)

    async def _until_done(self, batch: list[Incoming]) -> float | None:
        """Handle a batch however long the store is away; its messages wait for that."""
        pause = PAUSE_S[0]
        while True:
            try:
                return self._turn(batch)
            except Exception as error:  # whatever it is, the service goes on
                if problems.away(error) or problems.contended(error):
                    log.warning("the store does not work, trying again: %s", error)
                else:
                    log.exception("a turn could not be decided, trying again")
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(2 * pause, PAUSE_S[1])

    async def _batch(self, patience: float | None) -> list[Incoming]:
        try:
            async with asyncio.timeout(patience):
                batch = [await self._link.receive()]
        except TimeoutError:
            return []
        while len(batch) < BATCH and (message := self._link.receive_nowait()) is not None:
            batch.append(message)
        return batch

    def _turn(self, batch: list[Incoming]) -> float | None:
        """Handle a batch in one transaction; the time of the next deadline.

        If another orchestrator is in the way, it is decided again on what is there then. Raises
        what the store raises.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._decide(batch, last=attempt == ATTEMPTS)
            except Exception as error:
                if attempt == ATTEMPTS or not problems.contended(error):
                    raise
                log.info("another was faster, deciding again: %s", error)
        raise AssertionError  # the last attempt returns or raises

    def _decide(self, batch: list[Incoming], *, last: bool) -> float | None:
        with self._database.transaction() as session:
            turn = Turn(session, time.time(), last_try=last)
            roll = self._roll
            inbox.read(turn, batch, roll)
            # Asked once: its clock runs on while the turn is decided.
            over = roll is not None and not roll.left_s
            if roll is not None and over:
                roll.end(turn)
            for id_ in sorted(turn.progressed):
                guarded(turn, id_, assignments.progressed)
            leases.expired(turn)
            for due in queries.deadlines(session, turn.now):
                if due.assignment is not None:
                    guarded(turn, due.assignment, _overdue)
                if due.deployment is not None:
                    deployments.overdue(turn, due.deployment)
                if due.environment is not None:
                    deployments.environment_overdue(turn, due.environment)
            shipped.tell(turn)
            session.flush()
            next_deadline = queries.next_deadline(session)
            stored = self._outbox.store(session, turn.outgoing, turn.now)
        self._outbox.committed(stored, turn.fleeting, turn.now)
        if over and self._roll is roll:
            self._roll = None
        return next_deadline


def _overdue(turn: Turn, row: AssignmentRow) -> None:
    """An assignment's time has come; whatever is decided, it is not due again at once."""
    assignments.overdue(turn, row)
    if row.wake_at is not None and row.wake_at <= turn.now:
        row.wake_at = turn.now + POLL_S
