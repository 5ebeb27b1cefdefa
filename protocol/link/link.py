"""A connection to the broker that is made again whenever it ends."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from protocol.errors import IdentityError, LinkError, NameInUse, NotConnected
from protocol.link import authentic, credentials
from protocol.link.address import parse_url
from protocol.link.connection import Connection, Windows
from protocol.link.message import Incoming, Outgoing, Will
from protocol.signing import Signer, Trust

log = logging.getLogger(__name__)

#: Messages on their way to the broker, and from it, without an acknowledgement. Few do for a
#: vehicle; whoever speaks with a whole fleet asks for `WIDE`, and gets what the broker allows.
NARROW: Final = 20
WIDE: Final = 1000
RECEIVE_WINDOW: Final = 100
BACKOFF_S: Final = (0.1, 15.0)
#: How long what is on its way may take to arrive before a connection is changed for another.
QUIET_S: Final = 5.0


#: What is received last: another has our name now.
_TAKEN_OVER: Final = Incoming("", b"", "", None, None, lambda: None)


async def end_task(task: asyncio.Task[Any], patience_s: float = 5.0) -> None:
    """Cancel a task until it has ended: a library may take one cancellation for its own."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=patience_s)


class Link:
    """A connection to the broker that is made again whenever it ends.

    Use as an asynchronous context manager: entering waits for the first connection (LinkError if
    there is none within `patience_s`, IdentityError at once if the broker and we do not know each
    other; None waits for ever; NameInUse if another program has our name from then on), leaving
    says goodbye.

    ``identity`` is the folder that proves who we are to a broker that speaks TLS (``mqtts://``); it
    is read before each connection, and a connection is made anew when a later certificate is in it.
    Raises BadIdentity if there has to be one, or may not be. What we send is signed by it;
    whoever handles a message that came looks at its sender's, by `check`, and by ``trust`` if it is
    given, else by the authority of that folder.

    ``on_up`` runs after each connection, subscriptions made; ``will`` is asked before each.
    ``session_expiry_s`` 0 gives a session that ends with the connection, as members of a shared
    subscription need; above 0 the broker keeps our messages for that long.

    ``publish_window`` and ``receive_window`` are how many messages may be on their way to us and
    from us without an acknowledgement; the broker may allow fewer.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        subscriptions: Sequence[str] = (),
        session_expiry_s: int = 0,
        will: Callable[[], Will] | None = None,
        on_up: Callable[[], Awaitable[None]] | None = None,
        patience_s: float | None = 10.0,
        publish_window: int = NARROW,
        receive_window: int = RECEIVE_WINDOW,
        identity: Path | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.address = parse_url(url)
        self.client_id = client_id
        self._subscriptions = list(subscriptions)
        self._session_expiry_s = session_expiry_s
        self._will, self._on_up, self._patience_s = will, on_up, patience_s
        self._windows = Windows(publish_window, receive_window)
        self._inbox: asyncio.Queue[Incoming] = asyncio.Queue()
        self._up = asyncio.Event()
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._last_problem = "no answer"
        self._identity = credentials.needed(url, identity)
        self._refused: IdentityError | None = None
        self._signer: Signer | None = None
        self._trust = trust

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name=f"link-{self.client_id}")
        first = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait(
                {self._keeper, first},
                timeout=self._patience_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            await self._leave_unseen()
            raise
        finally:
            stood = first.done()  # it may have ended again already: then the next one is made
            first.cancel()
        if stood:
            return self
        problem = self._not_entered()
        await self._leave_unseen()
        raise problem

    async def _leave_unseen(self) -> None:
        """Nobody came in who could say more than goodbye: what `on_up` said is for the will."""
        if self._keeper is not None:
            await end_task(self._keeper)
        self.die()

    def _not_entered(self) -> LinkError:
        if self._keeper is not None and self._keeper.done():  # it gives up for two reasons only
            return self._refused or self._taken_over()
        where = f"{self.address.host}:{self.address.port}"
        problem = self._last_problem
        if "? " not in problem:  # else it asks what is likelier
            problem += ". Is it running (`oodida up` starts one here), and is the address right?"
        return LinkError(f"the broker at {where} cannot be reached: {problem}")

    def _taken_over(self) -> NameInUse:
        return NameInUse(
            f"another program has connected to the broker as {self.client_id}: give one of the "
            "two another name, or end it"
        )

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            await end_task(self._keeper)
        if self._connection is not None:
            await self._connection.close()

    def die(self) -> None:
        """End the connection without a goodbye: the broker tells the last will."""
        if self._connection is not None:
            self._connection.abandon()

    @property
    def connected(self) -> bool:
        """True while there is a connection."""
        return self._up.is_set() and not self._lost

    async def wait_up(self) -> None:
        """Wait until there is a connection."""
        if self._lost:
            # Whoever was just told so comes here at once: without this, again and again, and the
            # task that would make a new connection never had its turn.
            self._up.clear()
        await self._up.wait()

    @property
    def _lost(self) -> bool:
        """True if the connection has ended, seen by its keeper or not yet."""
        return self._connection is not None and self._connection.lost.done()

    async def publish(self, message: Outgoing) -> None:
        """Publish at QoS 1; done when the broker has accepted it.

        Raises NotConnected if there is no connection or it ended before the broker answered (the
        message may have arrived), LinkError if the broker refused it.
        """
        (problem,) = await self.publish_many((message,))
        if problem is not None:
            raise problem

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[LinkError | None]:
        """Publish many, in their order; done when of each it is known what became of it.

        For each message in turn: None if the broker has accepted it, and else what `publish` would
        have raised.
        """
        if self._connection is None or not self.connected:
            return [NotConnected() for _ in messages]
        return await self._connection.publish([self._signed(message) for message in messages])

    def check(self, message: Incoming) -> None:
        """Raises BadSignature unless who may send a message that came has sent it, and to us.

        Without certificates nobody could say so, and nothing is looked at.
        """
        if self._signer is not None and self._trust is not None:
            authentic.check(self._trust, message, self._signer.who, time.time())

    def _signed(self, message: Outgoing) -> Outgoing:
        if self._signer is None:
            return message
        return authentic.signed(self._signer, message, time.time())

    def _last_will(self) -> Will | None:
        will = self._will() if self._will is not None else None
        if will is None:
            return None
        signed = self._signed(Outgoing(will.topic, will.payload))
        return will._replace(signature=signed.signature)

    async def ask_again(self, topic: str) -> None:
        """Have a topic's retained message delivered once more. Without a connection it will be."""
        if self._connection is not None and self.connected:
            await self._connection.subscribe([topic])

    async def receive(self) -> Incoming:
        """The next message. Raises NameInUse once another program has connected under our name.

        There will be no connection any more then: if each took the name back from the other,
        neither could work.
        """
        message = await self._inbox.get()
        if message is _TAKEN_OVER:
            self._inbox.put_nowait(message)  # for whoever asks again
            raise self._taken_over()
        return message

    def receive_nowait(self) -> Incoming | None:
        """The next message if one is waiting."""
        message = None if self._inbox.empty() else self._inbox.get_nowait()
        if message is _TAKEN_OVER:
            self._inbox.put_nowait(message)
            return None
        return message

    async def _until_renewed(self, connection: Connection) -> bool:
        """Wait for a connection's end. True if we ended it, as there is a newer certificate.

        A broker ends a connection when its certificate does, and tells the last will. So it is
        changed for one with the new certificate before: what is on its way arrives first. What
        comes to us meanwhile waits in the session, and so does the will: it is told only if we do
        not come back at once.
        """
        used = connection.credentials
        while used is not None and self._identity is not None:
            look_s = credentials.look_s(used, dt.datetime.now(dt.UTC))
            # Waited for, not awaited: our own end must not look like the connection's.
            await asyncio.wait({connection.lost}, timeout=look_s)
            if connection.lost.done():
                return False
            if credentials.renewed(self._identity, used):
                log.info("%s has a new certificate, and connects with it", self.client_id)
                self._up.clear()
                await connection.quiet(QUIET_S)
                await connection.close(with_will=self._session_expiry_s > 0)
                return True
        await asyncio.wait({connection.lost})
        return False

    async def _keep(self) -> None:
        # Whoever waits for the first connection, and not for ever, is told by an error.
        delay, told = BACKOFF_S[0], self._patience_s is not None
        while True:
            connection = Connection(
                self.address, self.client_id, self._inbox, self._windows, self._identity
            )
            try:
                if self._identity is not None and self._signer is None:
                    self._trust = self._trust or Trust.load(self._identity / "ca.pem")
                    self._signer = Signer(self._identity)
                await connection.open(self._session_expiry_s, self._last_will())
                await connection.subscribe(self._subscriptions)
                self._up.set()
                if told and self._connection is not None:
                    where = (self.address.host, self.address.port)
                    log.warning("connected to the broker at %s:%s again", *where)
                self._connection, delay, told = connection, BACKOFF_S[0], False
                if self._on_up is not None:
                    await self._on_up()
                if await self._until_renewed(connection):
                    continue
                self._last_problem = connection.lost.result()
            except (LinkError, OSError, TimeoutError) as e:
                self._last_problem = str(e) or type(e).__name__
                first = self._connection is None and self._patience_s is not None
                if isinstance(e, IdentityError) and first:
                    self._refused = e  # it will not get better while somebody waits
                    connection.abandon()
                    return
            except Exception as e:
                log.exception("link %s", self.client_id)
                self._last_problem = f"{type(e).__name__}: {e}"
            except asyncio.CancelledError:
                if connection is not self._connection:
                    connection.abandon()
                raise
            self._up.clear()
            connection.abandon()
            if connection.taken_over:
                log.error("%s: another program has connected under this name", self.client_id)
                self._inbox.put_nowait(_TAKEN_OVER)
                return
            # Told once, however often it is tried; when there is one again, once more.
            level = logging.INFO if told else logging.WARNING
            what = (self.address.host, self.address.port, self._last_problem)
            log.log(level, "no connection to the broker at %s:%s: %s", *what)
            told = True
            # Full jitter: a whole fleet reconnects at once after a broker's restart.
            await asyncio.sleep(random.uniform(delay / 2, delay))  # noqa: S311
            delay = min(delay * 2, BACKOFF_S[1])
