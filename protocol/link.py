"""A small honest MQTT 5 client on asyncio. The only file that imports paho.

What it makes of paho, so that the rest of the code need not know:

* one paho client a connection, thrown away at its end: nothing is kept and resent behind our back;
* `publish` is done when the broker has accepted the message, and raises when it was refused or the
  connection ended first; the caller's journal or outbox decides what to do then;
* a window of unacknowledged publications that respects the broker's Receive Maximum;
* incoming messages are acknowledged by whoever handled them, and our own Receive Maximum bounds
  how many may wait, so that memory is bounded by the broker's side;
* reconnecting with back-off and jitter; subscriptions are made again each time.

paho's sockets are served by the event loop, not by a thread, so thousands of links fit a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from protocol.errors import BadRequest, LinkError, NotConnected
from protocol.messages import MAX_MESSAGE
from protocol.values import JSON

log = logging.getLogger(__name__)

KEEPALIVE_S: Final = 20
#: Room for topic and properties beside the largest payload.
PACKET_MARGIN: Final = 64 * 1024
PUBLISH_WINDOW: Final = 20
RECEIVE_WINDOW: Final = 100
CONNECT_TIMEOUT_S: Final = 10.0
BACKOFF_S: Final = (0.1, 15.0)


class Will(NamedTuple):
    """What the broker says for us, `delay_s` after it lost us without a goodbye."""

    topic: str
    payload: bytes
    delay_s: int = 2


@dataclass(frozen=True)
class Outgoing:
    """A message to publish. ``expiry_s``: the broker drops it if nobody took it by then."""

    topic: str
    payload: bytes
    content_type: str = JSON
    retain: bool = False
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True)
class Incoming:
    """A message that came. `acknowledge` it once it is handled, or it will come again."""

    topic: str
    payload: bytes
    content_type: str
    response_topic: str | None
    correlation: bytes | None
    acknowledge: Callable[[], None] = field(repr=False, compare=False)


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


def parse_url(url: str) -> Address:
    """Read ``mqtt://host:port``. Raises BadRequest for whatever else it is."""
    try:
        parts = urlsplit(url)
        port = parts.port or 1883
    except ValueError as e:
        raise BadRequest(f"{url!r:.100} is no broker address: {e}") from None
    if parts.scheme != "mqtt" or not parts.hostname:
        raise BadRequest(f"{url!r:.100} is no broker address; write mqtt://host:port")
    return Address(parts.hostname, port)


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


async def end_task(task: asyncio.Task[Any], patience_s: float = 5.0) -> None:
    """Cancel a task until it has ended: a library may take one cancellation for its own."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=patience_s)


class Link:
    """A connection to the broker that is made again whenever it ends.

    Use as an asynchronous context manager: entering waits for the first connection (LinkError if
    there is none within `patience_s`; None waits for ever), leaving says goodbye.

    ``on_up`` runs after each connection, subscriptions made; ``will`` is asked before each.
    ``session_expiry_s`` 0 gives a session that ends with the connection, as members of a shared
    subscription need; above 0 the broker keeps our messages for that long.
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
    ) -> None:
        self.address = parse_url(url)
        self.client_id = client_id
        self._subscriptions = list(subscriptions)
        self._session_expiry_s = session_expiry_s
        self._will, self._on_up, self._patience_s = will, on_up, patience_s
        self._inbox: asyncio.Queue[Incoming] = asyncio.Queue()
        self._up = asyncio.Event()
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._last_problem = "no answer"

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name=f"link-{self.client_id}")
        try:
            async with asyncio.timeout(self._patience_s):
                await self._up.wait()
        except TimeoutError:
            await self.__aexit__()
            where = f"{self.address.host}:{self.address.port}"
            raise LinkError(
                f"the broker at {where} cannot be reached: {self._last_problem}. "
                "Is it running, and is the address right?"
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            await end_task(self._keeper)
        if self._connection is not None:
            await self._connection.close()

    @property
    def connected(self) -> bool:
        """True while there is a connection."""
        return self._up.is_set()

    async def wait_up(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    async def publish(self, message: Outgoing) -> None:
        """Publish at QoS 1; done when the broker has accepted it.

        Raises NotConnected if there is no connection or it ended before the broker answered (the
        message may have arrived), LinkError if the broker refused it.
        """
        if self._connection is None or not self._up.is_set():
            raise NotConnected
        await self._connection.publish(message)

    async def ask_again(self, topic: str) -> None:
        """Have a topic's retained message delivered once more. Without a connection it will be."""
        if self._connection is not None and self.connected:
            await self._connection.subscribe([topic])

    async def receive(self) -> Incoming:
        """The next message."""
        return await self._inbox.get()

    def receive_nowait(self) -> Incoming | None:
        """The next message if one is waiting."""
        return None if self._inbox.empty() else self._inbox.get_nowait()

    async def _keep(self) -> None:
        delay = BACKOFF_S[0]
        while True:
            connection = _Connection(self.address, self.client_id, self._inbox)
            try:
                await connection.open(self._session_expiry_s, self._will() if self._will else None)
                await connection.subscribe(self._subscriptions)
                self._connection = connection
                self._up.set()
                delay = BACKOFF_S[0]
                if self._on_up is not None:
                    await self._on_up()
                # Shielded: our own end must not look like the connection's.
                self._last_problem = await asyncio.shield(connection.lost)
            except (LinkError, OSError, TimeoutError) as e:
                self._last_problem = str(e) or type(e).__name__
            except Exception as e:
                log.exception("link %s", self.client_id)
                self._last_problem = f"{type(e).__name__}: {e}"
            except asyncio.CancelledError:
                if connection is not self._connection:
                    connection.abandon()
                raise
            self._up.clear()
            connection.abandon()
            log.info("link %s is down: %s", self.client_id, self._last_problem)
            # Full jitter: a whole fleet reconnects at once after a broker's restart.
            await asyncio.sleep(random.uniform(delay / 2, delay))  # noqa: S311
            delay = min(delay * 2, BACKOFF_S[1])


class _Connection:
    """One connection, from CONNECT to its end."""

    def __init__(self, address: Address, client_id: str, inbox: asyncio.Queue[Incoming]) -> None:
        self._loop = asyncio.get_running_loop()
        self._address, self._inbox = address, inbox
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[ReasonCode]] = {}
        self._subscribing: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._window = asyncio.Semaphore(PUBLISH_WINDOW)
        self._max_packet = MAX_MESSAGE + PACKET_MARGIN
        self._misc: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(65_535)  # our own window is the smaller one
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        self._client = client

    async def open(self, session_expiry_s: int, will: Will | None) -> None:
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session_expiry_s
        properties.ReceiveMaximum = RECEIVE_WINDOW
        properties.MaximumPacketSize = MAX_MESSAGE + PACKET_MARGIN
        if will is not None:
            last = _properties(PacketTypes.WILLMESSAGE)
            last.WillDelayInterval = will.delay_s
            last.ContentType = JSON
            self._client.will_set(will.topic, will.payload, qos=1, retain=True, properties=last)

        # paho's connect blocks for the TCP handshake, so it is kept off the event loop.
        def connect() -> None:
            self._client.connect(
                self._address.host,
                self._address.port,
                keepalive=KEEPALIVE_S,
                clean_start=session_expiry_s == 0,
                properties=properties,
            )

        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._loop.run_in_executor(None, connect)
        self._tick()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.shield(self._accepted)

    async def subscribe(self, filters: Sequence[str]) -> None:
        if not filters:
            return
        wanted = [(f, SubscribeOptions(qos=1)) for f in filters]
        result, mid = self._client.subscribe(wanted)
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise NotConnected
        future: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subscribing[mid] = future
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            codes = await self._first(future)
        for name, code in zip(filters, codes, strict=False):
            if code.is_failure:
                raise LinkError(f"the broker refused the subscription to {name}: {code}")

    async def publish(self, message: Outgoing) -> None:
        if len(message.payload) + len(message.topic) + 1024 > self._max_packet:
            raise LinkError(
                f"the message has {len(message.payload)} bytes, more than the broker takes"
            )
        properties = _properties(PacketTypes.PUBLISH)
        if message.content_type != JSON:  # JSON is what is meant when nothing is said
            properties.ContentType = message.content_type
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.response_topic is not None:
            properties.ResponseTopic = message.response_topic
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        async with self._window:
            if self.lost.done():
                raise NotConnected
            info = self._client.publish(
                message.topic, message.payload, qos=1, retain=message.retain, properties=properties
            )
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise NotConnected
            future: asyncio.Future[ReasonCode] = self._loop.create_future()
            self._waiting[info.mid] = future
            try:
                code = await self._first(future)
            finally:
                self._waiting.pop(info.mid, None)
        if code.is_failure:
            raise LinkError(f"the broker refused a message to {message.topic}: {code}")

    async def _first(self, future: asyncio.Future[Any]) -> Any:
        """The future's result, or NotConnected if the connection ends before it."""
        await asyncio.wait({future, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise NotConnected
        return future.result()

    async def close(self) -> None:
        if not self.lost.done():
            self._client.disconnect()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await asyncio.shield(self.lost)
        self.abandon()

    def abandon(self) -> None:
        """Forget the socket, whatever state it is in."""
        if self._misc is not None:
            self._misc.cancel()
        self._end("closed")
        sock = self._client.socket()
        if sock is not None:
            self._forget(sock)
            # Without a DISCONNECT: the broker sees a death, and keeps the session and the will.
            with contextlib.suppress(OSError):
                sock.close()

    def _end(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
        if not self._accepted.done():
            self._accepted.set_exception(LinkError(why))
            self._accepted.exception()  # it is nobody's loss if nobody waits

    # --- paho's side: callbacks run on the loop, but for connect's, which run in the executor ---

    def _tick(self) -> None:
        if self.lost.done():
            return
        self._guard(self._client.loop_misc)
        self._misc = self._loop.call_later(1.0, self._tick)

    def _guard(self, step: Callable[[], MQTTErrorCode]) -> None:
        """Run a step of paho; hostile bytes may make it raise, which ends this connection."""
        try:
            code = step()
        except Exception as e:  # noqa: BLE001 - whatever paho makes of what a broker sent
            log.warning("link ends: %s: %s", type(e).__name__, e)
            self._end(f"{type(e).__name__}: {e}")
            return
        if code not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            self._end(str(code))

    def _on_socket_open(self, _client: Client, _data: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._loop.call_soon_threadsafe(self._watch, sock)

    def _watch(self, sock: Any) -> None:
        if sock.fileno() >= 0 and not self.lost.done():
            self._loop.add_reader(sock, self._guard, self._client.loop_read)

    def _on_socket_close(self, _client: Client, _data: Any, sock: Any) -> None:
        self._forget(sock)

    def _forget(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _on_register_write(self, _client: Client, _data: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch_write, sock)

    def _watch_write(self, sock: Any) -> None:
        if sock.fileno() >= 0 and not self.lost.done() and self._client.want_write():
            self._loop.add_writer(sock, self._guard, self._client.loop_write)

    def _on_unregister_write(self, _client: Client, _data: Any, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.call_soon_threadsafe(self._loop.remove_writer, sock.fileno())

    def _on_connect(
        self,
        _client: Client,
        _data: Any,
        _flags: ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if self._accepted.done():
            return
        if code.is_failure:
            self._end(f"the broker refused the connection: {code}")
            return
        window = min(PUBLISH_WINDOW, getattr(properties, "ReceiveMaximum", PUBLISH_WINDOW))
        self._window = asyncio.Semaphore(window)
        self._max_packet = min(
            self._max_packet, getattr(properties, "MaximumPacketSize", self._max_packet)
        )
        self._accepted.set_result(None)

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        _flags: DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._end(str(code))

    def _on_publish(
        self, _client: Client, _data: Any, mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        future = self._waiting.get(mid)
        if future is not None and not future.done():
            future.set_result(code)

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        future = self._subscribing.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(codes)

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.qos == 0:
            return  # everything here travels at QoS 1; QoS 0 would escape the flow control
        mid, properties = message.mid, message.properties

        def acknowledge() -> None:
            if not self.lost.done():
                client.ack(mid, 1)

        try:
            topic = message.topic
        except UnicodeDecodeError:
            acknowledge()
            return
        self._inbox.put_nowait(
            Incoming(
                topic=topic,
                payload=bytes(message.payload),
                content_type=getattr(properties, "ContentType", JSON),
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                acknowledge=acknowledge,
            )
        )
