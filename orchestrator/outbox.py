"""Publishing: what was committed goes to the broker, and is then forgotten by the store."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from orchestrator import metrics
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
        self._waiting: deque[tuple[int, Outgoing]] = deque()
        self._fleeting: deque[Outgoing] = deque(maxlen=MAX_FLEETING)
        self._under_way: list[int] = []
        self._sent: list[int] = []
        self._renew_at = self._look_at = 0.0
        self._filled = asyncio.Event()

    def store(self, session: Session, messages: Sequence[Outgoing], now: float) -> Committed:
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
        stored = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        fleeting = [self._fleeting.popleft() for _ in range(min(BATCH, len(self._fleeting)))]
        self._under_way = [id_ for id_, _ in stored]
        unsent = stored
        try:
            problems = await link.publish_many([*fleeting, *(message for _, message in stored)])
            told = problems[len(fleeting) :]
            unsent = [
                item
                for item, problem in zip(stored, told, strict=True)
                if isinstance(problem, NotConnected | BrokerBusy)
            ]
            left = {id_ for id_, _ in unsent}
            self._sent.extend(id_ for id_, _ in stored if id_ not in left)
        finally:
            self._waiting.extendleft(reversed(unsent))
            self._under_way = []
        _count(problems)
        if any(isinstance(problem, BrokerBusy) for problem in problems):
            await asyncio.sleep(BUSY_S)
        return not any(isinstance(problem, NotConnected) for problem in problems)


class Committed:
    """What one transaction did to the outbox."""

    def __init__(
        self, sent: list[int], new: list[tuple[int, Outgoing]], *, renewed: bool, looked: bool
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
