"""Publishing: what was committed goes to the broker, and is then forgotten by the store."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from orchestrator import metrics
from orchestrator.bundle import Bundle, written
from orchestrator.store import Session, outbox
from protocol.errors import BrokerBusy, LinkError, NotConnected
from protocol.link import Link, Outgoing

log = logging.getLogger(__name__)

#: A message as it is stored, or many in one, by its number.
Item = tuple[int, Outgoing | Bundle]
#: For how long an orchestrator claims a message. Its claim is renewed as long as it lives; after
#: its death others publish what it has left.
CLAIM_S: Final = 10.0
#: How often claims are renewed, and those of the dead are looked for.
RENEW_S: Final = 3.0
LOOK_S: Final = 1.0
#: How long a broker is left alone that takes no more for now.
BUSY_S: Final = 0.5
#: Messages that are on their way to the broker at a time.
BATCH: Final = 500
#: Messages that the asker would ask for again; what does not fit is lost.
MAX_FLEETING: Final = 20_000


class Due(NamedTuple):
    """What a transaction does to the outbox: it is told apart from the loop, which publishes.

    ``sent`` is forgotten; the claims on ``mine`` are renewed, if there are any; with ``look``,
    those of the dead are looked for.
    """

    owner: str
    sent: Sequence[int]
    mine: Sequence[int] | None
    look: bool

    def store(
        self, session: Session, messages: Sequence[Outgoing | Bundle], now: float
    ) -> list[Item]:
        """Do it, and write a turn's messages; what is to be published once it is committed."""
        until = now + CLAIM_S
        outbox.forget(session, self.sent)
        if self.mine is not None:
            outbox.renew(session, self.mine, owner=self.owner, until=until)
        new: list[Item] = []
        if self.look:
            new += outbox.take(session, owner=self.owner, now=now, until=until)
        new += outbox.add(session, messages, owner=self.owner, until=until)
        return new


class Outbox:
    """One orchestrator's part of the outbox, and what is sent without being stored."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._waiting: deque[Item] = deque()
        self._fleeting: deque[Outgoing] = deque(maxlen=MAX_FLEETING)
        self._under_way: list[int] = []
        self._sent: list[int] = []
        self._renew_at = self._look_at = 0.0
        self._filled = asyncio.Event()

    def due(self, now: float) -> Due:
        """What the next transaction is to do to the outbox, beside what it adds."""
        renew = now >= self._renew_at
        mine = [id_ for id_, _ in self._waiting] + self._under_way if renew else None
        return Due(self._owner, tuple(self._sent), mine, look=now >= self._look_at)

    def committed(
        self, due: Due, stored: Sequence[Item], fleeting: Sequence[Outgoing], now: float
    ) -> None:
        """The transaction stands: what it stored is published, what it forgot is forgotten."""
        del self._sent[: len(due.sent)]
        if due.mine is not None:
            self._renew_at = now + RENEW_S
        if due.look:
            self._look_at = now + LOOK_S
        self._waiting.extend(stored)
        self._fleeting.extend(fleeting)
        if self._waiting or self._fleeting:
            self._filled.set()

    def tell(self, message: Outgoing) -> None:
        """Send what belongs to no transaction; it may be lost."""
        self._fleeting.append(message)
        self._filled.set()

    def release(self, session: Session) -> None:
        """Leave to others what is not published, at once."""
        outbox.forget(session, self._sent)
        mine = [id_ for id_, _ in self._waiting] + self._under_way
        outbox.renew(session, mine, owner=self._owner, until=0.0)

    async def publish(self, link: Link) -> None:
        """Publish, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting or self._fleeting:
                if not await self._batch(link):
                    self._fleeting.clear()  # it will be asked for again
                    await link.wait_up()

    async def _batch(self, link: Link) -> bool:
        """Publish some; False if there is no connection."""
        fleeting = [self._fleeting.popleft() for _ in range(min(BATCH, len(self._fleeting)))]
        stored, outgoing = self._next()
        self._under_way = [id_ for id_, _ in stored]
        unsent = stored
        try:
            problems = await link.publish_many([*fleeting, *outgoing])
            unsent = _unsent(stored, problems[len(fleeting) :])
            left = {id_ for id_, _ in unsent}
            self._sent.extend(id_ for id_, _ in stored if id_ not in left)
        finally:
            self._waiting.extendleft(reversed(unsent))
            self._under_way = []
        _count(problems)
        if any(isinstance(problem, BrokerBusy) for problem in problems):
            await asyncio.sleep(BUSY_S)
        return not any(isinstance(problem, NotConnected) for problem in problems)

    def _next(self) -> tuple[list[Item], list[Outgoing]]:
        """What is published next: as it is stored, and each message of it."""
        stored: list[Item] = []
        outgoing: list[Outgoing] = []
        while self._waiting and len(outgoing) < BATCH:
            stored.append(self._waiting.popleft())
            outgoing.extend(written(stored[-1][1]))
        return stored, outgoing


def _unsent(stored: Sequence[Item], told: Sequence[LinkError | None]) -> list[Item]:
    """What is to be published once more, in order: of a bundle, what is left of it."""
    unsent: list[Item] = []
    at = 0
    for id_, item in stored:
        count = len(item.to) if isinstance(item, Bundle) else 1
        those = [i for i in range(count) if isinstance(told[at + i], NotConnected | BrokerBusy)]
        at += count
        if those:
            unsent.append((id_, item.only(those) if isinstance(item, Bundle) else item))
    return unsent


def _count(problems: Sequence[LinkError | None]) -> None:
    away = sum(isinstance(problem, NotConnected | BrokerBusy) for problem in problems)
    refused = [p for p in problems if not isinstance(p, NotConnected | BrokerBusy | None)]
    for problem in refused[:5]:
        log.warning("given up: %s", problem)
    metrics.PUBLISHED.add("put_off", by=away)
    metrics.PUBLISHED.add("refused", by=len(refused))
    metrics.PUBLISHED.add("accepted", by=len(problems) - away - len(refused))
