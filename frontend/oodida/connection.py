"""A connection to the cloud that can be used from ordinary, synchronous code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

from oodida.silence import PATIENCE_S, Silence
from protocol import messages, topics
from protocol.errors import (
    BadRequest,
    BrokerBusy,
    LinkError,
    NotConnected,
    OodidaError,
    RequestTimeout,
    from_code,
)
from protocol.identity import Identity
from protocol.link import Incoming, Link, Outgoing
from protocol.messages import EVENT, REPLY, Event, Reply, Request, new_id
from protocol.signing import Signer

log = logging.getLogger(__name__)
T = TypeVar("T")

REQUEST_S: Final = 15.0
#: A request that got no answer is sent again; requests carry their id, so none is done twice.
RETRY_S: Final = 3.0


class Connection:
    """An event loop in a thread of its own, and a link on it.

    ``listen`` names who is told of the events of one assignment or deployment; listeners are called
    on the loop's thread and must not block.
    """

    def __init__(
        self,
        url: str,
        user: str,
        patience_s: float | None = PATIENCE_S,
        identity: Path | None = None,
    ) -> None:
        self.url = url
        self._silence = Silence(url, patience_s)
        self.user, self.client, self.identity = user, f"c-{new_id()}", identity
        #: Signs what this user deploys; None where there are no certificates.
        self.signer = Signer(identity) if identity is not None else None
        self._replies: dict[bytes, asyncio.Future[Reply]] = {}
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._reconnected: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="oodida", daemon=True)
        self._reader: asyncio.Task[None] | None = None
        self._catching_up: set[asyncio.Task[None]] = set()
        self._closed = False
        # The link's queues bind to the loop when they are first awaited, not when they are made.
        self._link = self._make_link(url)
        self._thread.start()
        try:
            self.do(self._open())
        except BaseException:
            self._stop_loop()
            raise

    def _make_link(self, url: str) -> Link:
        return Link(
            url,
            Identity("analyst", self.user).client_id(self.client),
            identity=self.identity,
            subscriptions=[
                topics.replies(self.user, self.client),
                topics.own_events(self.user),
            ],
            on_up=self._on_up,
            patience_s=5.0,
        )

    async def _open(self) -> None:
        await self._link.__aenter__()
        self._reader = asyncio.create_task(self._read())

    async def _on_up(self) -> None:
        # What happened while we were away is asked for, not waited for.
        for catch_up in list(self._reconnected):
            self.start(catch_up())

    def start(self, catch_up: Coroutine[Any, Any, None]) -> None:
        """Ask the cloud for what was missed, from the loop's own thread; failing does no harm."""
        task = asyncio.create_task(catch_up)
        self._catching_up.add(task)
        task.add_done_callback(self._caught_up)

    def _caught_up(self, task: asyncio.Task[None]) -> None:
        self._catching_up.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.info("what was missed is asked for later: %s", problem)

    def do(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop and wait for it. Raises NotConnected when it is closed."""
        if self._closed:
            work.close()
            raise NotConnected("this connection is closed; connect again")
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def ask(self, request: Request, timeout_s: float = REQUEST_S) -> Reply:
        """Send a request and wait for its reply. Raises the error that the cloud answered with."""
        return self.do(self.ask_async(request, timeout_s))

    async def ask_async(self, request: Request, timeout_s: float = REQUEST_S) -> Reply:
        """As `ask`, on the loop."""
        return await self.exchange(*messages.encode(request), timeout_s)

    async def exchange(
        self, payload: bytes, content_type: str, timeout_s: float = REQUEST_S
    ) -> Reply:
        """Send a request that is written already. Raises as `ask` does."""
        correlation = new_id().encode()
        message = Outgoing(
            topics.requests(self.user),
            payload,
            content_type,
            response_topic=topics.replies(self.user, self.client),
            correlation=correlation,
        )
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[correlation] = answer
        self._silence.asked()
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._send_until_answered(message, answer)
        except TimeoutError:
            what = self._silence.what(connected=self._link.connected)
            raise RequestTimeout(f"no answer within {timeout_s:.0f} s: {what}") from None
        finally:
            del self._replies[correlation]
        if reply.error is not None:
            raise from_code(reply.error.code, reply.error.message, reply.error.details)
        return reply

    def bear_silence(self, about: str) -> None:
        """News of an assignment was asked for in vain. Raises CloudAway if that lasts too long."""
        self._silence.bear(about, connected=self._link.connected)

    async def _send_until_answered(self, message: Outgoing, answer: asyncio.Future[Reply]) -> Reply:
        while True:
            await self._link.wait_up()
            with contextlib.suppress(NotConnected, BrokerBusy):
                await self._link.publish(message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    return await asyncio.shield(answer)

    def listen(
        self,
        about: str,
        listener: Callable[[Event], None],
        catch_up: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Have `listener` told of events about an id, and `catch_up` run after a reconnection."""
        self._listeners[about] = listener
        self._reconnected.append(catch_up)

    def unlisten(self, about: str, catch_up: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Stop telling."""
        self._listeners.pop(about, None)
        with contextlib.suppress(ValueError):
            self._reconnected.remove(catch_up)

    async def _read(self) -> None:
        while True:
            message = await self._link.receive()
            try:
                self._take(message)
            except OodidaError as problem:
                log.warning("dropped a message on %s: %s", message.topic, problem)
            except Exception:  # one message must not end the reading of all others
                log.exception("a message on %s could not be handled", message.topic)
            message.acknowledge()

    def _take(self, message: Incoming) -> None:
        address = topics.parse(message.topic)
        if address is None:
            raise BadRequest("an unknown topic")
        self._link.check(message)
        self._silence.heard()
        if address.channel == "replies":
            waiting = self._replies.get(message.correlation or b"")
            if waiting is not None and not waiting.done():
                waiting.set_result(messages.decode(REPLY, message.payload, message.content_type))
        elif address.channel == "events" and address.rest[0] in self._listeners:
            event = messages.decode(EVENT, message.payload, message.content_type)
            self._listeners[address.rest[0]](event)

    def close(self) -> None:
        """Say goodbye to the broker and end the thread."""
        if self._closed:
            return
        with contextlib.suppress(LinkError, TimeoutError):
            self.do(self._shut(), 10)
        self._stop_loop()

    async def _shut(self) -> None:
        tasks = [t for t in (self._reader, *self._catching_up) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.__aexit__()
        await asyncio.get_running_loop().shutdown_default_executor()

    def _stop_loop(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
