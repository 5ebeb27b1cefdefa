"""What a publication carries beside its payload, packed once for all that are alike."""

from __future__ import annotations

from functools import lru_cache

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocol.link.message import Outgoing
from protocol.values import JSON


class _Packed(Properties):
    """Properties that are bytes already.

    paho builds a table of all that there are for each message, which takes longer than the rest.
    """

    def __init__(self, packed: bytes) -> None:
        object.__setattr__(self, "packed", packed)

    def pack(self) -> bytes:
        """What goes over the wire."""
        packed: bytes = object.__getattribute__(self, "packed")
        return packed


def empty(packet: int) -> Properties:
    """No properties yet, for a kind of packet."""
    return Properties(packet)  # type: ignore[no-untyped-call]


def of_publication(message: Outgoing) -> Properties | None:
    """What goes beside a payload; None if there is nothing."""
    if message.response_topic is None and message.correlation is None:
        return _common(message.content_type, message.expiry_s)
    # A stranger chose them, and as large as he likes: nothing of them is kept.
    return _pack(
        message.content_type, message.expiry_s, message.response_topic, message.correlation
    )


def _pack(
    content_type: str, expiry_s: int | None, response_topic: str | None, correlation: bytes | None
) -> _Packed | None:
    properties = empty(PacketTypes.PUBLISH)
    if content_type != JSON:  # JSON is what is meant when nothing is said
        properties.ContentType = content_type
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    if correlation is not None:
        properties.CorrelationData = correlation
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    return None if packed == b"\0" else _Packed(packed)


@lru_cache(maxsize=1024)
def _common(content_type: str, expiry_s: int | None) -> _Packed | None:
    return _pack(content_type, expiry_s, None, None)
