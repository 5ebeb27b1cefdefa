"""PUBLISH and PUBACK: what is written is read again, by paho too; rubbish is harmless."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocol.link import Outgoing, packets
from protocol.values import JSON

MOST = 10_000_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), max_size=40)
MESSAGES = st.builds(
    Outgoing,
    topic=TEXTS.filter(bool),
    payload=st.binary(max_size=400),
    content_type=st.sampled_from([JSON, "application/cbor"]),
    retain=st.booleans(),
    expiry_s=st.none() | st.integers(0, 2**32 - 1),
    response_topic=st.none() | TEXTS,
    correlation=st.none() | st.binary(max_size=300),
    signature=st.none() | TEXTS,
)
MIDS = st.integers(1, 0xFFFF)


def read(packet: bytes) -> packets.Published:
    ((_, whole, body),) = packets.split(bytearray(packet), MOST)
    assert whole == packet
    return packets.read_publish(whole, body)


@given(MIDS, MESSAGES)
def test_what_is_written_is_read(mid: int, message: Outgoing) -> None:
    found = read(packets.publish(mid, message))
    assert found == packets.Published(
        1,
        mid,
        message.topic.encode(),
        message.payload,
        message.content_type,
        message.response_topic,
        message.correlation,
        message.signature,
    )


@given(MESSAGES)
def test_properties_are_those_that_paho_reads(message: Outgoing) -> None:
    packet = packets.publish(1, message)
    ((_, _, body),) = packets.split(bytearray(packet), MOST)
    at = body + 2 + len(message.topic.encode()) + 2
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    _, size = found.unpack(packet[at:])  # type: ignore[no-untyped-call]
    assert packet[at + size :] == message.payload
    assert getattr(found, "MessageExpiryInterval", None) == message.expiry_s
    assert getattr(found, "ContentType", JSON) == message.content_type
    assert getattr(found, "ResponseTopic", None) == message.response_topic
    assert getattr(found, "CorrelationData", None) == message.correlation
    signed = [] if message.signature is None else [(packets.SIGNATURE, message.signature)]
    assert getattr(found, "UserProperty", []) == signed


@given(MESSAGES)
def test_properties_that_are_not_ours_are_passed_over(message: Outgoing) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.PayloadFormatIndicator = 1
    properties.SubscriptionIdentifier = 300
    properties.UserProperty = ("a", "b")
    properties.TopicAlias = 7
    properties.ContentType = "text/plain"
    topic = message.topic.encode()
    body = len(topic).to_bytes(2, "big") + topic + b"\0\5"
    body += properties.pack() + message.payload  # type: ignore[no-untyped-call]
    found = read(b"\x32" + packets._length(len(body)) + body)
    assert (found.topic, found.mid, found.payload) == (topic, 5, message.payload)
    assert found.content_type == "text/plain"


@given(st.lists(st.tuples(MIDS, MESSAGES), max_size=6), st.randoms())
def test_a_stream_is_cut_into_its_packets_wherever_it_is_cut(
    sent: list[tuple[int, Outgoing]], random: object
) -> None:
    whole = [packets.publish(mid, message) for mid, message in sent]
    stream, buffer, found = b"".join(whole), bytearray(), []
    cuts = sorted(getattr(random, "choices")(range(len(stream) + 1), k=5))  # noqa: B009
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer += stream[start:stop]
        found += [packet for _, packet, _ in packets.split(buffer, MOST)]
    assert found == whole
    assert not buffer


@given(st.binary(max_size=200))
def test_rubbish_is_malformed_or_nothing(rubbish: bytes) -> None:
    def all_of_it() -> Iterator[object]:
        for first, packet, body in packets.split(bytearray(rubbish), 1000):
            if first & 0xF0 == packets.PUBLISH:
                yield packets.read_publish(packet, body)
            elif first & 0xF0 == packets.PUBACK:
                yield packets.read_puback(packet, body)

    with suppress(packets.Malformed):
        list(all_of_it())


@given(MIDS, MESSAGES, st.data())
def test_a_damaged_publish_is_malformed_or_another_message(
    mid: int, message: Outgoing, data: st.DataObject
) -> None:
    packet = bytearray(packets.publish(mid, message))
    packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    with suppress(packets.Malformed):
        for first, whole, body in packets.split(packet, MOST):
            if first & 0xF0 == packets.PUBLISH:
                packets.read_publish(whole, body)


def test_a_packet_that_is_too_large_is_malformed_before_it_is_there() -> None:
    with pytest.raises(packets.Malformed, match="agreed"):
        list(packets.split(bytearray(b"\x32\xff\xff\x7f"), 1000))
    with pytest.raises(packets.Malformed, match="four bytes"):
        list(packets.split(bytearray(b"\x32\xff\xff\xff\xff"), 1000))


@given(MIDS)
def test_acknowledgements(mid: int) -> None:
    packet = packets.puback(mid)
    assert packets.read_puback(packet, 2) == (mid, 0)
    assert packets.read_puback(b"\x40\x04" + packet[2:] + b"\x87\0", 2) == (mid, 0x87)
    with pytest.raises(packets.Malformed):
        packets.read_puback(b"\x40\x01\x00", 2)


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0", "x" * 70_000])
def test_what_cannot_be_a_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match=r"sent|bytes"):
        packets.publish(1, Outgoing(topic, b""))
