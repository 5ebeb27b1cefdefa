"""One connection, from CONNECT to its end: publications by ourselves, the rest by paho."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from protocol.errors import BrokerBusy, LinkError, NotAuthorised, NotConnected
from protocol.link import credentials, doubt, packets
from protocol.link.address import Address
from protocol.link.credentials import Credentials
from protocol.link.message import Incoming, Outgoing, Will
from protocol.link.wire import Wire
from protocol.messages import MAX_MESSAGE
from protocol.values import JSON

log = logging.getLogger(__name__)

#: Reason codes of MQTT 5 (section 3.4.2.1) that say nothing against the message: unspecified,
#: implementation specific, quota exceeded.
PASSING: Final = frozenset({0x80, 0x83, 0x97})

#: Reason codes of CONNACK (section 3.2.2.2): bad user name, not authorised, banned.
UNWANTED: Final = frozenset({0x86, 0x87, 0x8A})

#: "Session taken over" (section 3.14.2.1).
TAKEN_OVER: Final = 0x8E

KEEPALIVE_S: Final = 20
#: How often it is looked whether the other side is still there. A broker waits half as long again
#: as `KEEPALIVE_S`, so this must stay well below half of that.
LOOK_S: Final = 4.0
#: Room for topic and properties beside the largest payload.
PACKET_MARGIN: Final = 64 * 1024
#: What a packet of ours has beside topic and payload, at most: the signature is most of it.
BESIDE: Final = 4096
CONNECT_TIMEOUT_S: Final = 10.0


_UNWANTED: Final = (
    "Was the certificate revoked (`oodida pki list` knows), is the client's name not that of the "
    "certificate, or are thirty connected by it? The broker's log says which"
)


class Windows(NamedTuple):
    """How many messages may be without an acknowledgement: to the broker, and from it."""

    publish: int
    receive: int


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


class _Batch:
    """Publications of which somebody waits for the last: what became of each."""

    __slots__ = ("done", "left", "problems")

    def __init__(self, count: int) -> None:
        self.problems: list[LinkError | None] = [None] * count
        self.left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, number: int, problem: LinkError | None) -> None:
        self.problems[number] = problem
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class _Client(Client):
    """paho's client on a wire that stands already, so that connecting blocks nobody."""

    wire: Wire

    def _create_socket(self) -> Any:
        return self.wire


class Connection:
    """One connection, from CONNECT to its end."""

    def __init__(
        self,
        address: Address,
        client_id: str,
        inbox: asyncio.Queue[Incoming],
        windows: Windows,
        identity: Path | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._address, self._inbox, self._windows = address, inbox, windows
        self._identity = identity
        #: What we have proved who we are with.
        self.credentials: Credentials | None = None
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._subscribing: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        #: What has no acknowledgement yet, and what there was no room for in the window.
        self._waiting: dict[int, tuple[Outgoing, _Batch, int]] = {}
        self._backlog: deque[tuple[Outgoing, _Batch, int]] = deque()
        self._window = windows.publish
        self._max_packet = MAX_MESSAGE + PACKET_MARGIN
        self._misc: asyncio.TimerHandle | None = None
        self._wire: Wire | None = None
        #: How the broker's first answer began.
        self._first = b""
        self._mid = 0x8000
        self._leaving = False
        #: True if another program has connected under our name.
        self.taken_over = False
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_socket_register_write = self._on_register_write
        self._client = client

    async def open(self, session_expiry_s: int, will: Will | None) -> None:
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session_expiry_s
        properties.ReceiveMaximum = self._windows.receive
        properties.MaximumPacketSize = MAX_MESSAGE + PACKET_MARGIN
        if will is not None:
            last = _properties(PacketTypes.WILLMESSAGE)
            last.WillDelayInterval = will.delay_s
            last.ContentType = JSON
            if will.signature is not None:
                last.UserProperty = (packets.SIGNATURE, will.signature)
            self._client.will_set(will.topic, will.payload, qos=1, retain=True, properties=last)
        host, port, _ = self._address
        # Read each time: a certificate may have been renewed since.
        if self._identity is not None:
            self.credentials = credentials.load(self._identity)
        tls = None if self.credentials is None else self.credentials.context
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            try:
                _, self._wire = await self._loop.create_connection(
                    lambda: Wire(self._read, self._room), host, port, ssl=tls
                )
            except ssl.SSLError as problem:
                raise (self._explained(problem) or problem) from None
            except ConnectionResetError:
                if tls is None:
                    raise
                raise LinkError(doubt.wants_none(self._address)) from None
            self._client.wire = self._wire
            self._client.connect(
                host,
                port,
                keepalive=KEEPALIVE_S,
                clean_start=session_expiry_s == 0,
                properties=properties,
            )
            # Links that began together do not look at their connections together.
            self._misc = self._loop.call_later(random.uniform(0, LOOK_S), self._tick)  # noqa: S311
            await asyncio.shield(self._accepted)

    async def subscribe(self, filters: Sequence[str]) -> None:
        if not filters:
            return
        if self.lost.done():
            raise NotConnected
        result, mid = self._client.subscribe([(f, SubscribeOptions(qos=1)) for f in filters])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise NotConnected
        future: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subscribing[mid] = future
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            codes = await future
        for name, code in zip(filters, codes, strict=False):
            if code.is_failure:
                raise LinkError(f"the broker refused the subscription to {name}: {code}")

    async def publish(self, messages: Sequence[Outgoing]) -> list[LinkError | None]:
        if self.lost.done() or not messages:
            return [NotConnected() for _ in messages]
        batch = _Batch(len(messages))
        self._backlog.extend((message, batch, i) for i, message in enumerate(messages))
        self._pump()
        await batch.done
        return batch.problems

    def _pump(self) -> None:
        """Send what there is room for."""
        wire = self._wire
        while (
            self._backlog
            and len(self._waiting) < self._window
            and wire is not None
            and not wire.paused
            and not self.lost.done()
        ):
            message, batch, number = self._backlog.popleft()
            if batch.done.done():
                continue  # whoever wanted it sent has been cancelled
            if len(message.payload) + len(message.topic) + BESIDE > self._max_packet:
                size = len(message.payload)
                problem = LinkError(f"the message has {size} bytes, more than the broker takes")
                batch.settle(number, problem)
                continue
            mid = self._next_mid()
            try:
                packet = packets.publish(mid, message)
            except ValueError as e:
                batch.settle(number, LinkError(f"a message to {message.topic!r:.100}: {e}"))
                continue
            self._waiting[mid] = (message, batch, number)
            self._post(packet)

    def _next_mid(self) -> int:
        """A number that no message on its way has, and none that paho gives to a subscription."""
        while True:
            self._mid = 0x8000 | (self._mid + 1)
            if self._mid > 0xFFFF:
                self._mid = 0x8000
            if self._mid not in self._waiting:
                return self._mid

    def _post(self, packet: bytes) -> None:
        if self._wire is not None:
            self._wire.post(packet)
            self._leave()

    def _leave(self) -> None:
        """What is sent in the same turn of the loop leaves together."""
        if not self._leaving:
            self._leaving = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._leaving = False
        if self._wire is not None and not self.lost.done():
            if self._client.want_write():
                self._guard(self._client.loop_write)
            self._wire.flush()

    async def quiet(self, patience_s: float) -> None:
        """Wait until nothing of ours is on its way any more, for so long at most."""
        on_their_way = {batch.done for _, batch, _ in (*self._waiting.values(), *self._backlog)}
        if on_their_way:
            await asyncio.wait(on_their_way, timeout=patience_s)

    async def close(self, *, with_will: bool = False) -> None:
        """Say goodbye; ``with_will`` has the broker tell the last will all the same.

        Which is what DISCONNECT with reason 0x04 says (MQTT 5, section 3.14.2.1).
        """
        if not self.lost.done():
            how = ReasonCode(PacketTypes.DISCONNECT, identifier=0x04) if with_will else None
            self._client.disconnect(reasoncode=how)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await asyncio.shield(self.lost)
                    if self._wire is not None:
                        await self._wire.gone.wait()  # the goodbye has left
        self.abandon()

    def abandon(self) -> None:
        """Forget the connection, whatever state it is in."""
        self._end("closed")
        if self._wire is not None:
            # Without a DISCONNECT: the broker sees a death, and keeps the session and the will.
            # After one, the wire is closing already.
            self._wire.abort()

    def _end(self, why: str, problem: LinkError | None = None) -> None:
        if self.lost.done():
            return
        self.lost.set_result(why)
        if self._misc is not None:
            self._misc.cancel()
        if not self._accepted.done():
            self._accepted.set_exception(problem or LinkError(why))
            self._accepted.exception()  # it is nobody's loss if nobody waits
        for future in self._subscribing.values():
            if not future.done():
                future.set_exception(NotConnected())
                future.exception()
        unanswered = [*self._waiting.values(), *self._backlog]
        self._waiting.clear()
        self._backlog.clear()
        for _, batch, number in unanswered:
            batch.settle(number, NotConnected())

    # --- the wire's side ----------------------------------------------------------------------

    def _read(self) -> None:
        wire = self._wire
        if wire is None:
            return
        if not self._accepted.done():
            self._first = self._first or bytes(wire.came[:2])
            ended = wire.gone.is_set()
            if why := doubt.wants_tls(self._address, self._first, ended=ended):
                self._end(why)
        try:
            for first, packet, body in packets.split(wire.came, MAX_MESSAGE + PACKET_MARGIN):
                if self.lost.done():
                    break
                kind = first & 0xF0
                if kind == packets.PUBLISH:
                    self._published(packets.read_publish(packet, body))
                elif kind == packets.PUBACK:
                    self._acknowledged(*packets.read_puback(packet, body))
                else:
                    wire.hand_over(packet)
                    while wire.handed_over and not self.lost.done():
                        self._guard(self._client.loop_read)
        except packets.Malformed as problem:
            log.warning("link ends: %s", problem)
            self._end(str(problem))
        if wire.gone.is_set():
            # A broker looks at our certificate when we take it for connected already.
            if (refusal := self._explained(wire.problem)) is not None:
                self._end(str(refusal), refusal)
            self._guard(self._client.loop_read)  # it finds the end, and says so
            self._end("the connection was lost")
        self._pump()

    def _explained(self, problem: BaseException | None) -> LinkError | None:
        return credentials.explained(problem, self._address, self._identity)

    def _room(self) -> None:
        """There is room again where there was none."""
        self._leave()
        self._pump()

    def _tick(self) -> None:
        self._guard(self._client.loop_misc)
        if not self.lost.done():
            self._misc = self._loop.call_later(LOOK_S, self._tick)

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

    def _acknowledged(self, mid: int, code: int) -> None:
        entry = self._waiting.pop(mid, None)
        if entry is None:
            return
        message, batch, number = entry
        problem = None
        if code >= 0x80:
            kind = BrokerBusy if code in PASSING else LinkError
            problem = kind(f"the broker refused a message to {message.topic}: {_words(code)}")
        batch.settle(number, problem)

    def _published(self, message: packets.Published) -> None:
        if message.qos == 0:
            return  # everything here travels at QoS 1; QoS 0 would escape the flow control

        left = [message.mid]  # once: the number may be another message's after that

        def acknowledge() -> None:
            if left and not self.lost.done():
                self._post(packets.puback(left.pop()))

        try:
            topic = message.topic.decode()
        except UnicodeDecodeError:
            acknowledge()
            return
        self._inbox.put_nowait(
            Incoming(
                topic=topic,
                payload=message.payload,
                content_type=message.content_type,
                response_topic=message.response_topic,
                correlation=message.correlation,
                acknowledge=acknowledge,
                signature=message.signature,
            )
        )

    # --- paho's side --------------------------------------------------------------------------

    def _on_register_write(self, _client: Client, _data: Any, _sock: Any) -> None:
        self._leave()

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
            why = f"the broker refused the connection: {code}"
            unwanted = code.value in UNWANTED and self._identity is not None
            self._end(why, NotAuthorised(f"{why}. {_UNWANTED}") if unwanted else None)
            return
        self._window = min(self._window, getattr(properties, "ReceiveMaximum", self._window))
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
        self.taken_over = self.taken_over or code.value == TAKEN_OVER
        self._end(str(code))

    def _on_subscribe(
        self, _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        future = self._subscribing.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(codes)


def _words(code: int) -> str:
    """What the standard calls a refusal."""
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=code))
    except (KeyError, AssertionError):
        return f"code {code}"
