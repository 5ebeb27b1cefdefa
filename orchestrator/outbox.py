"""Publishing: what was committed goes to the broker, and is then forgotten by the store."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from orchestrator import metrics
from orchestrator.bundle import Bundle, written
from orchestrator.store import Session, outbox
from protocol.errors import BrokerBusy, LinkError, NotConnected
from protocol.link import Link, Outgoing

log = logging.getLogger(__name__)

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


class Outbox:
    """One orchestrator's part of the outbox, and what is sent without being stored."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._waiting: deque[tuple[int, Outgoing | Bundle]] = deque()
        self._fleeting: deque[Outgoing] = deque(maxlen=MAX_FLEETING)
        self._under_way: list[int] = []
        self._sent: list[int] = []
        self._renew_at = self._look_at = 0.0
        self._filled = asyncio.Event()

    def store(
        self, session: Session, messages: Sequence[Outgoing | Bundle], now: float
    ) -> Committed:
        """Write a turn's messages in its transaction; `Committed` is to be told of the commit."""
        sent = list(self._sent)
        outbox.forget(session, sent)
        until = now + CLAIM_S
        renewed = now >= self._renew_at
        if renewed:
            mine = [id_ for id_, _ in self._waiting] + self._under_way
            outbox.renew(session, mine, owner=self._owner, until=until)
        looked = now >= self._look_at
        new = outbox.take(session, owner=self._owner, now=now, until=until) if looked else []
        new += outbox.add(session, messages, owner=self._owner, until=until)
        return Committed(sent, new, renewed=renewed, looked=looked)

    def committed(self, done: Committed, fleeting: Sequence[Outgoing], now: float) -> None:
        """The transaction stands: what it stored is published, what it forgot is forgotten."""
        del self._sent[: len(done.sent)]
        if done.renewed:
            self._renew_at = now + RENEW_S
        if done.looked:
            self._look_at = now + LOOK_S
        self._waiting.extend(done.new)
        self._fleeting.extend(fleeting)
        if self._waiting or self._fleeting:
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

    def _next(self) -> tuple[list[tuple[int, Outgoing | Bundle]], list[Outgoing]]:
        """What is published next: as it is stored, and each message of it."""
        stored: list[tuple[int, Outgoing | Bundle]] = []
        outgoing: list[Outgoing] = []
        while self._waiting and len(outgoing) < BATCH:
            stored.append(self._waiting.popleft())
            outgoing.extend(written(stored[-1][1]))
        return stored, outgoing


def _unsent(
    stored: Sequence[tuple[int, Outgoing | Bundle]], told: Sequence[LinkError | None]
) -> list[tuple[int, Outgoing | Bundle]]:
    """What is to be published once more, in order: of a bundle, what is left of it."""
    unsent: list[tuple[int, Outgoing | Bundle]] = []
    at = 0
    for id_, item in stored:
        count = len(item.to) if isinstance(item, Bundle) else 1
        those = [i for i in range(count) if isinstance(told[at + i], NotConnected | BrokerBusy)]
        at += count
        if those:
            unsent.append((id_, item.only(those) if isinstance(item, Bundle) else item))
    return unsent


class Committed:
    """What one transaction did to the outbox."""

    def __init__(
        self,
        sent: list[int],
        new: list[tuple[int, Outgoing | Bundle]],
        *,
        renewed: bool,
        looked: bool,
    ) -> None:
        self.sent, self.new, self.renewed, self.looked = sent, new, renewed, looked


def _count(problems: Sequence[LinkError | None]) -> None:
    away = sum(isinstance(problem, NotConnected | BrokerBusy) for problem in problems)
    refused = [p for p in problems if not isinstance(p, NotConnected | BrokerBusy | None)]
    for problem in refused[:5]:
        log.warning("given up: %s", problem)
    metrics.PUBLISHED.add("put_off", by=away)
    metrics.PUBLISHED.add("refused", by=len(refused))
    metrics.PUBLISHED.add("accepted", by=len(problems) - away - len(refused))
