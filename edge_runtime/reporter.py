"""Reports on their way: each is sent again until the cloud says that it has committed it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from pydantic import BaseModel

from protocol import messages
from protocol.errors import LinkError
from protocol.link import Link, Outgoing

log = logging.getLogger(__name__)

#: After how long without a receipt a report is sent again.
RESEND_S: Final = 5.0


class Reporter:
    """Sends reports to one topic. They are kept in memory until their receipt comes."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._waiting: dict[str, tuple[Outgoing, float]] = {}
        self._new = asyncio.Event()

    def report(self, id_: str, report: BaseModel) -> None:
        """Send a report, now and again until its receipt."""
        payload, content_type = messages.encode(report)
        self._waiting[id_] = (Outgoing(self._topic, payload, content_type), 0.0)
        self._new.set()

    def received(self, id_: str) -> None:
        """The cloud has it."""
        self._waiting.pop(id_, None)

    @property
    def unsent(self) -> int:
        """How many reports have no receipt yet."""
        return len(self._waiting)

    def again(self) -> None:
        """There is a new connection: what is on its way may have been lost."""
        self._waiting = {id_: (message, 0.0) for id_, (message, _) in self._waiting.items()}
        self._new.set()

    async def run(self, link: Link) -> None:
        """Send what is to be sent, until cancelled."""
        while True:
            self._new.clear()
            await link.wait_up()
            now = time.monotonic()
            due = [id_ for id_, (_, at) in self._waiting.items() if at <= now]
            await asyncio.gather(*(self._send(link, id_, now) for id_ in due))
            try:
                async with asyncio.timeout(RESEND_S if self._waiting else None):
                    await self._new.wait()
            except TimeoutError:
                continue

    async def _send(self, link: Link, id_: str, now: float) -> None:
        entry = self._waiting.get(id_)
        if entry is None:
            return
        # Marked before it is sent: the receipt may come before the broker's acknowledgement.
        self._waiting[id_] = (entry[0], now + RESEND_S)
        try:
            await link.publish(entry[0])
        except LinkError as problem:
            log.info("report %s goes out later: %s", id_, problem)
