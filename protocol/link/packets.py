"""The two packets that nearly all traffic is made of, PUBLISH and PUBACK, as MQTT 5 writes them.

paho reads and writes them too, at twenty times the price: it builds tables of all properties there
are, a lock and a condition for each. All other packets are left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from protocol.link.message import Outgoing
from protocol.values import JSON

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
#: What the properties of a PUBLISH are called on the wire.
_FORMAT, _EXPIRY, _CONTENT, _RESPONSE, _CORRELATION = 0x01, 0x02, 0x03, 0x08, 0x09
_SUBSCRIPTION, _ALIAS, _USER = 0x0B, 0x23, 0x26
#: The user property with the signature of who has sent a message.
SIGNATURE: Final = "signature"
_SIGNATURE: Final = SIGNATURE.encode()


class Malformed(Exception):
    """The other side does not speak MQTT 5."""


class Published(NamedTuple):
    """A PUBLISH that came."""

    qos: int
    mid: int
    topic: bytes
    payload: bytes
    content_type: str
    response_topic: str | None
    correlation: bytes | None
    signature: str | None = None


def split(buffer: bytearray, most: int) -> Iterator[tuple[int, bytes, int]]:
    """Take whole packets off the front of a buffer: first byte, packet, where its body begins.

    Raises Malformed for one that is larger than ``most`` bytes or whose length is none.
    """
    at = 0
    try:
        while len(buffer) - at >= 2:
            length, shift, body = 0, 0, at + 1
            while True:
                if body >= len(buffer):
                    return
                digit = buffer[body]
                length |= (digit & 0x7F) << shift
                body += 1
                if digit < 0x80:
                    break
                shift += 7
                if shift > 21:
                    raise Malformed("a length of more than four bytes")
            end = body + length
            if end - at > most:
                raise Malformed(f"a packet of {end - at} bytes, where {most} were agreed on")
            if end > len(buffer):
                return
            begin, at = at, end
            yield buffer[begin], bytes(buffer[begin:end]), body - begin
    finally:
        del buffer[:at]


def read_publish(packet: bytes, body: int) -> Published:
    """Read a PUBLISH whose body begins at a position. Raises Malformed."""
    try:
        return _read_publish(packet, body)
    except (struct.error, IndexError, UnicodeDecodeError) as problem:
        raise Malformed(f"a PUBLISH: {problem}") from None


def _read_publish(packet: bytes, at: int) -> Published:
    qos, mid = packet[0] >> 1 & 3, 0
    topic, at = _bytes(packet, at)
    if qos:
        (mid,) = struct.unpack_from("!H", packet, at)
        at += 2
    length, at = _varint(packet, at)
    end = at + length
    if end > len(packet) or qos == 3 or (qos and not mid):
        raise Malformed("a PUBLISH that contradicts itself")
    content_type, response_topic, correlation, signature = JSON, None, None, None
    while at < end:
        name = packet[at]
        at += 1
        if name == _CONTENT:
            text, at = _bytes(packet, at)
            content_type = text.decode()
        elif name == _RESPONSE:
            text, at = _bytes(packet, at)
            response_topic = text.decode()
        elif name == _CORRELATION:
            correlation, at = _bytes(packet, at)
        elif name == _EXPIRY:
            at += 4
        elif name == _FORMAT:
            at += 1
        elif name == _SUBSCRIPTION:
            _, at = _varint(packet, at)
        elif name == _USER:
            key, at = _bytes(packet, at)
            text, at = _bytes(packet, at)
            if key == _SIGNATURE:
                signature = text.decode()
        elif name == _ALIAS:
            at += 2
        else:
            raise Malformed(f"a PUBLISH with property {name}")
    if at != end:
        raise Malformed("a PUBLISH whose properties are longer than they say")
    return Published(
        qos, mid, topic, packet[end:], content_type, response_topic, correlation, signature
    )


def read_puback(packet: bytes, body: int) -> tuple[int, int]:
    """The number of a message, and what became of it: 0x80 and above are refusals."""
    if len(packet) < body + 2:
        raise Malformed("a PUBACK without a number")
    mid = packet[body] << 8 | packet[body + 1]
    return mid, packet[body + 2] if len(packet) > body + 2 else 0


def puback(mid: int) -> bytes:
    """Tell that a message is handled."""
    return struct.pack("!BBH", PUBACK, 2, mid)


def publish(mid: int, message: Outgoing) -> bytes:
    """A message at QoS 1. Raises ValueError for a topic that cannot be sent to."""
    topic = message.topic.encode()
    if not topic or b"+" in topic or b"#" in topic or b"\0" in topic:
        raise ValueError("no message can be sent to this topic")
    properties = b""
    if message.content_type != JSON:  # JSON is what is meant when nothing is said
        properties += b"\x03" + _packed(message.content_type.encode())
    if message.expiry_s is not None:
        properties += struct.pack("!BI", _EXPIRY, min(max(0, message.expiry_s), 0xFFFF_FFFF))
    if message.response_topic is not None:
        properties += b"\x08" + _packed(message.response_topic.encode())
    if message.correlation is not None:
        properties += b"\x09" + _packed(message.correlation)
    if message.signature is not None:
        properties += b"\x26" + _packed(_SIGNATURE) + _packed(message.signature.encode())
    body = b"".join((_packed(topic), mid.to_bytes(2, "big"), _length(len(properties)), properties))
    first = PUBLISH | 0x02 | message.retain
    return b"".join(
        (bytes((first,)), _length(len(body) + len(message.payload)), body, message.payload)
    )


def _packed(text: bytes) -> bytes:
    if len(text) > 0xFFFF:
        raise ValueError(f"{len(text)} bytes, where 65535 are the most")
    return len(text).to_bytes(2, "big") + text


def _length(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    digits = bytearray()
    while number:
        number, digit = number >> 7, number & 0x7F
        digits.append(digit | 0x80 if number else digit)
    return bytes(digits)


def _bytes(packet: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + (packet[at] << 8 | packet[at + 1])
    if end > len(packet):
        raise Malformed("a text that is longer than its packet")
    return packet[at + 2 : end], end


def _varint(packet: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in (0, 7, 14, 21):
        digit = packet[at]
        at += 1
        number |= (digit & 0x7F) << shift
        if digit < 0x80:
            return number, at
    raise Malformed("a length of more than four bytes")
