"""The network that faults are made with does what it says, to the real broker and the real link.

What it did to nobody would be survived by everybody.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.link import Incoming, Link, Outgoing, parse_url
from tests.chaos.network import FAIR, Network, Weather
from tests.chaos.packets import Cutter, acknowledged, is_publish, renumbered

TOPIC = "oodida/v1/vehicles/car-1/reports"


def publish(payload: bytes, identifier: int = 7, *, flags: int = 0x02) -> bytes:
    """A PUBLISH without properties."""
    body = len(TOPIC).to_bytes(2) + TOPIC.encode() + identifier.to_bytes(2) + b"\0" + payload
    length, digits = len(body), b""
    while length >= 0x80:
        digits += bytes([length % 0x80 | 0x80])
        length //= 0x80
    return bytes([0x30 | flags]) + digits + bytes([length]) + body


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_packets_are_cut_wherever_the_stream_was(payloads: list[bytes], size: int) -> None:
    packets = [publish(payload) for payload in payloads]
    stream, cutter = b"".join(packets), Cutter()
    pieces = [stream[n : n + size] for n in range(0, len(stream), size)]
    assert [packet for piece in pieces for packet in cutter.feed(piece)] == packets


@given(st.binary(max_size=300), st.integers(1, 0xFFFF))
def test_a_copy_differs_in_its_number_alone(payload: bytes, identifier: int) -> None:
    assert renumbered(publish(payload, flags=0x0A), identifier) == publish(payload, identifier)


def test_kinds_of_packets() -> None:
    assert is_publish(publish(b""))
    assert not is_publish(publish(b"", flags=0))
    assert acknowledged(b"\x40\x02\x01\x02") == 0x0102
    assert acknowledged(publish(b"")) is None


@pytest.fixture
def network(broker: str) -> Iterator[Network]:
    """A lane each for somebody who tells and somebody who hears."""
    address = parse_url(broker)
    made = Network((address.host, address.port), seed=1)
    made.open(["teller", "hearer"])
    yield made
    made.close()


@asynccontextmanager
async def both(network: Network) -> AsyncIterator[tuple[Link, Link]]:
    """Both connected."""
    hearer = Link(network.url("hearer"), "chaos-hearer", subscriptions=[TOPIC])
    async with hearer, Link(network.url("teller"), "chaos-teller") as teller:
        yield teller, hearer


async def hear(link: Link, count: int) -> list[bytes]:
    """So many messages, acknowledged."""
    heard: list[bytes] = []
    async with asyncio.timeout(20):
        while len(heard) < count:
            message: Incoming = await link.receive()
            message.acknowledge()
            heard.append(message.payload)
    return heard


async def down(link: Link) -> None:
    """Wait until it has seen the end of its connection."""
    async with asyncio.timeout(10):
        while link.connected:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)


def message(number: int) -> Outgoing:
    return Outgoing(TOPIC, b"%d" % number)


@pytest.mark.parametrize("lane", ["teller", "hearer"])
def test_every_message_comes_twice(network: Network, lane: str) -> None:
    async def work() -> None:
        async with both(network) as (teller, hearer):
            network.set(lane, Weather(doubled=1.0, spread_s=0.2))
            await asyncio.gather(*(teller.publish(message(n)) for n in range(200)))
            heard = Counter(await hear(hearer, 400))
            assert set(heard.values()) == {2}
            network.set(lane, FAIR)
            await teller.publish(message(999))  # no number of a copy is in anybody's way
            assert await hear(hearer, 1) == [b"999"]

    asyncio.run(work())
    assert network.doubled() == 200


def test_messages_overtake_each_other(network: Network) -> None:
    async def work() -> None:
        async with both(network) as (teller, hearer):
            network.set("hearer", Weather(delayed=0.5, spread_s=0.3))
            for n in range(60):
                await teller.publish(message(n))
            heard = [int(payload) for payload in await hear(hearer, 60)]
            assert sorted(heard) == list(range(60))
            assert heard != sorted(heard)

    asyncio.run(work())


def test_slow_is_slow_and_keeps_the_order(network: Network) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with both(network) as (teller, hearer):
            network.set("hearer", Weather(latency_s=0.2, bytes_s=20_000))
            began = loop.time()
            await asyncio.gather(*(teller.publish(message(n)) for n in range(50)))
            assert [int(payload) for payload in await hear(hearer, 50)] == list(range(50))
            assert loop.time() - began > 0.2

    asyncio.run(work())


def test_silence_loses_nothing_and_a_cut_ends_the_connection(network: Network) -> None:
    async def work() -> None:
        async with both(network) as (teller, hearer):
            network.set("hearer", Weather(silent=True))
            await teller.publish(message(1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hearer.receive(), 0.3)
            network.set("hearer", FAIR)
            assert await hear(hearer, 1) == [b"1"]
            network.set("hearer", Weather(up=False))
            await down(hearer)
            network.set("hearer", FAIR)
            await asyncio.wait_for(hearer.wait_up(), 20)

    asyncio.run(work())


def test_half_a_cut_is_seen_by_one_side(network: Network) -> None:
    async def work() -> None:
        async with both(network) as (teller, hearer):
            network.half_cut("hearer")
            await down(hearer)
            await asyncio.wait_for(hearer.wait_up(), 20)
            await teller.publish(message(2))
            assert await hear(hearer, 1) == [b"2"]

    asyncio.run(work())
