"""The loop: messages -> one transaction -> outgoing messages.

Transactions are made in a thread of their own. Meanwhile the next messages come in, and what the
one before caused goes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from functools import partial
from pathlib import Path
from typing import Final

from orchestrator import audit, decision, inbox, metrics
from orchestrator.aside import Aside
from orchestrator.audit import Desk
from orchestrator.authority import EVERYBODY, Authority
from orchestrator.decision import POLL_S, Decided
from orchestrator.holdings import Holdings
from orchestrator.intake import Dropped, Intake
from orchestrator.limits import Limits
from orchestrator.outbox import Due, Outbox
from orchestrator.presences import RollCall
from orchestrator.revoked import Announcer
from orchestrator.store import Database, problems, retention
from orchestrator.store.retention import Keep
from orchestrator.vouching import Vouching
from protocol import topics
from protocol.audit import Act
from protocol.errors import TooManyRequests
from protocol.followed import Followed
from protocol.link import WIDE, Incoming, Link
from protocol.link.enrolment import keep_renewed

log = logging.getLogger(__name__)

SHARE: Final = topics.ORCHESTRATORS
#: Messages handled in one transaction: the price of a commit is paid once for all of them.
BATCH: Final = 500
#: How often to look for what is too old, in seconds.
FORGET_S: Final = 600.0
#: Pauses while the store does not work, in seconds: the first one, and the longest.
PAUSE_S: Final = (0.1, 5.0)


class Service:
    """An orchestrator on one broker and one store."""

    def __init__(
        self,
        url: str,
        database: Database,
        name: str,
        keep: Keep = Keep(),  # noqa: B008
        identity: Path | None = None,
        authority: Followed[Authority] | None = None,
        limits: Limits = Limits(),  # noqa: B008
        revoked: Path | None = None,
    ) -> None:
        self._authority = authority or Followed(None, Authority.read, EVERYBODY)
        self._identity = identity
        self._keep, self._forget_at = keep, 0.0
        self._vouching = Vouching.load(identity, revoked) if identity is not None else None
        self._announcer = Announcer(self._vouching.revoked) if self._vouching is not None else None
        self._database = database
        self._link = Link(
            url,
            f"orchestrator:{name}",
            identity=identity,
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
        #: When there was a connection last, in seconds since 1970: it is looked at each turn.
        self._there_at: float | None = None
        self._outbox = Outbox(name[:64])
        self._aside = Aside()
        self._desk = Desk(name[:64])
        self._intake, self._holdings = Intake(limits), Holdings(limits)
        self._came = asyncio.Event()
        #: What goes into the audit log with the next turn.
        self._acts: list[Act] = []

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled. ``ready`` is set when the first connection stands."""
        try:
            async with self._link, asyncio.TaskGroup() as group:
                if ready is not None:
                    ready.set()
                group.create_task(self._outbox.publish(self._link), name="outbox")
                group.create_task(keep_renewed(self._identity), name="certificate")
                group.create_task(self._authority.watch(), name="authority")
                if self._vouching is not None and self._announcer is not None:
                    following = self._vouching.follow(self._announcer.again)
                    group.create_task(following, name="revoked")
                    group.create_task(self._announcer.publish(self._link), name="announcer")
                group.create_task(self._take_in(), name="intake")
                await self._serve()
        finally:
            self._aside.close()
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
        self._roll = RollCall(self._there_at)
        if self._announcer is not None:
            self._announcer.again()

    async def _serve(self) -> None:
        patience = 0.0  # there may be deadlines from before
        while True:
            batch = await self._batch(patience)
            acts, self._acts = self._acts, []
            began = time.perf_counter()
            next_deadline = (await self._until_done(batch, acts)).next_deadline
            metrics.TURN_SECONDS.observe(time.perf_counter() - began)
            metrics.TURN_MESSAGES.observe(len(batch))
            left = POLL_S if next_deadline is None else next_deadline - time.time()
            patience = min(POLL_S, max(0.0, left))
            if not self._link.connected:  # what is due may be for others, and is due still
                patience = POLL_S
            if not batch:
                await self._aside.run(self._forget)
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

    async def _until_done(self, batch: list[Incoming], acts: list[Act]) -> Decided:
        """Decide a batch however long the store is away; its messages wait for that."""
        pause = PAUSE_S[0]
        while True:
            due, roll, there = self._outbox.due(time.time()), self._roll, self._link.connected
            if there:
                self._there_at = time.time()
            decide = partial(
                decision.decide, self._database, batch, due, roll,
                desk=self._desk, vouching=self._vouching, authority=self._authority.now,
                holdings=self._holdings, acts=acts, away=not there,
            )  # fmt: skip
            try:
                return await self._aside.run(decide, partial(self._settle, batch, due, roll))
            except Exception as error:  # whatever it is, the service goes on
                if problems.away(error) or problems.contended(error):
                    log.warning("the store does not work, trying again: %s", error)
                else:
                    log.exception("a turn could not be decided, trying again")
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311
            pause = min(2 * pause, PAUSE_S[1])

    async def _batch(self, patience: float | None) -> list[Incoming]:
        if not self._intake:
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._came.wait()
        return self._intake.take(BATCH, time.monotonic())

    async def _take_in(self) -> None:
        """Take from the broker what comes, also while a turn is decided."""
        while True:
            message: Incoming | None = await self._link.receive()
            while message is not None:
                dropped = self._intake.put(message, time.monotonic())
                if dropped is not None:
                    self._refuse(dropped)
                message = self._link.receive_nowait()
            self._came.set()

    def _refuse(self, dropped: Dropped) -> None:
        error = TooManyRequests(
            "more messages come from you than one sender may send; go on in "
            f"{dropped.wait_s:.0f} s, and not so fast",
            retry_after_s=round(dropped.wait_s, 1),
        )
        if dropped.first:
            log.warning("too many messages on %s: dropping some", dropped.message.topic)
            self._acts.append(audit.flooded(dropped.address, dropped.message, error))
        if dropped.answer:
            reply = inbox.refusal(dropped.address, dropped.message, error)
            if reply is not None:
                self._outbox.tell(reply)

    def _settle(
        self, batch: list[Incoming], due: Due, roll: RollCall | None, done: Decided
    ) -> None:
        """A turn is committed: what it caused is published, its messages are acknowledged."""
        self._outbox.committed(due, done.stored, done.fleeting, done.at)
        self._intake.took(done.seconds, time.monotonic())
        for message in batch:
            message.acknowledge()
        if done.rolled and self._roll is roll:
            self._roll = None
