"""MQTT 5 packets, as far as a network has to know them to deliver one twice. Pure."""

from __future__ import annotations

from typing import Final

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
_DUP: Final = 0x08
_QOS_1: Final = 0x02


class Cutter:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are complete with these bytes."""
        self._left += data
        packets = []
        while (length := _length(self._left)) is not None and length <= len(self._left):
            packets.append(self._left[:length])
            self._left = self._left[length:]
        return packets


def _length(data: bytes) -> int | None:
    """How many bytes the packet has that begins here; None while that cannot be told."""
    length = 0
    for place in range(1, 5):
        if place >= len(data):
            return None
        length |= (data[place] & 0x7F) << 7 * (place - 1)
        if data[place] < 0x80:
            return 1 + place + length
    raise ValueError("this is no MQTT packet")


def _body(packet: bytes) -> int:
    """Where the part after the fixed header begins."""
    return next(place for place in range(1, 5) if packet[place] < 0x80) + 1


def is_publish(packet: bytes) -> bool:
    """True for a message at QoS 1, the only ones that travel here."""
    return packet[0] & 0xF0 == PUBLISH and packet[0] & 0x06 == _QOS_1


def acknowledged(packet: bytes) -> int | None:
    """The identifier that a PUBACK acknowledges; None for another packet."""
    if packet[0] & 0xF0 != PUBACK:
        return None
    body = _body(packet)
    return int.from_bytes(packet[body : body + 2])


def renumbered(packet: bytes, identifier: int) -> bytes:
    """The same message under another identifier, as if its sender had sent it once more."""
    body = _body(packet)
    place = body + 2 + int.from_bytes(packet[body : body + 2])
    first = packet[0] & ~_DUP
    return bytes([first]) + packet[1:place] + identifier.to_bytes(2) + packet[place + 2 :]
