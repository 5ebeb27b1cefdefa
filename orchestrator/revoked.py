"""What the authority has taken back, told to vehicles and workers: the list as it is signed."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from protocol import topics
from protocol.errors import BrokerBusy, LinkError, NotConnected
from protocol.followed import Followed
from protocol.link import Link, Outgoing
from protocol.revocation import MAX_BYTES, RevocationList

log = logging.getLogger(__name__)

PEM: Final = "application/x-pem-file"
#: How long a broker is left alone that takes no more for now.
BUSY_S: Final = 0.5
#: After how long it is said once more. A broker ends the connection of who was revoked within a
#: second; an orchestrator's stolen key may have replaced the list until then.
ONCE_MORE_S: Final = 5.0


class Announcer:
    """Publishes the list that is in force, retained, for vehicles that are away as well."""

    def __init__(self, revoked: Followed[RevocationList]) -> None:
        self._revoked = revoked
        self._due = asyncio.Event()

    def again(self) -> None:
        """There is another list, or another connection to a broker that may know none."""
        self._due.set()

    async def publish(self, link: Link) -> None:
        """Publish, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._publish(link)
            try:
                async with asyncio.timeout(ONCE_MORE_S):
                    await self._due.wait()
            except TimeoutError:
                await self._publish(link)

    async def _publish(self, link: Link) -> None:
        while (message := self._message()) is not None:
            try:
                await link.publish(message)
            except BrokerBusy:
                await asyncio.sleep(BUSY_S)
                continue
            except NotConnected:
                pass  # it is due again with the next connection
            except LinkError as problem:
                log.warning("vehicles are not told what was revoked: %s", problem)
            return

    def _message(self) -> Outgoing | None:
        """None if there is nothing to say."""
        listed = self._revoked.now
        if not listed.taken:
            return None
        if len(listed.signed) > MAX_BYTES:
            log.error(
                "vehicles are not told what was revoked: the list has %s bytes, and takes %s at "
                "most",
                len(listed.signed), MAX_BYTES,
            )  # fmt: skip
            return None
        return Outgoing(topics.revoked(), listed.signed, PEM, retain=True)
