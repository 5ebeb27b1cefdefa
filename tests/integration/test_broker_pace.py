"""A flood at the broker that is shipped: most of it goes nowhere, and the others' all arrives."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.limits import MB
from orchestrator.paces import BYTES, PACES
from protocol import topics
from protocol.access import ANY
from protocol.link import WIDE, Link, Outgoing
from tests.conftest import a_broker
from tests.secure import secure_broker

HONEST = 50
LAST = b"last"
EVERY_REQUEST = topics.all_of("analysts", "requests", share=topics.ORCHESTRATORS)
_number = itertools.count()


class Place(NamedTuple):
    """A broker, and how somebody connects to it."""

    url: str
    enroll: Callable[[str], Path | None]

    def link(self, who: str, *subscriptions: str) -> Link:
        """One of this identity's connections, ``role:name``."""
        return Link(
            self.url,
            f"{who}/{next(_number)}",
            subscriptions=subscriptions,
            publish_window=WIDE,
            identity=self.enroll(who),
        )


@pytest.fixture(scope="module", params=["plain", "secure"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """With certificates and without, it is the same plugin."""
    with ExitStack() as stack:
        request.getfixturevalue("engine")
        if request.param == "plain":  # nobody else's orchestrator takes a share of the requests
            yield Place(stack.enter_context(a_broker()), lambda _: None)
            return
        secure = stack.enter_context(secure_broker(tmp_path_factory.mktemp("pace")))
        made: dict[str, Path] = {}
        yield Place(
            secure.url, lambda who: made.get(who) or made.setdefault(who, secure.enroll(who))
        )


async def heard(link: Link) -> Counter[str]:
    """How much came on each topic, until the last came."""
    count: Counter[str] = Counter()
    while True:
        message = await link.receive()
        message.acknowledge()
        count[message.topic] += 1
        if message.payload == LAST:
            return count


async def flooded(place: Place, by: list[str], flood: list[Outgoing], other: str) -> Counter[str]:
    """What an orchestrator hears of a flood, and of an honest analyst who speaks meanwhile."""
    address = topics.parse(flood[0].topic)
    assert address is not None
    share = None if address.channel == "presence" else topics.ORCHESTRATORS
    own = topics.all_of(address.family, address.channel, share=share)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        cloud = await enter(place.link("orchestrator:o-1", own, EVERY_REQUEST))
        honest = await enter(place.link(f"analyst:{other}"))
        reading = asyncio.create_task(heard(cloud))
        flooding = [
            asyncio.create_task((await enter(place.link(who))).publish_many(flood)) for who in by
        ]
        for _ in range(HONEST):
            await honest.publish(Outgoing(topics.requests(other), b"x"))
        told = [problem for task in flooding for problem in await task]
        assert told == [None] * len(told)  # to be sent again when nothing answers, as ever
        await honest.publish(Outgoing(topics.requests(other), LAST))
        return await asyncio.wait_for(reading, 60)


@pytest.mark.parametrize(
    ("by", "each", "topic"),
    [
        (["analyst:eve"], 4000, topics.requests("eve")),
        (["analyst:eva"] * 3, 1500, topics.requests("eva")),
        (["vehicle:evil"] * 2, 10_000, topics.reports("vehicles", "evil")),
        (["vehicle:evil"], 2000, topics.presence("vehicles", "evil")),
    ],
    ids=["requests", "requests-over-three-connections", "reports", "presences"],
)
def test_of_many_messages_the_broker_passes_on_no_more_than_the_pace(
    place: Place, by: list[str], each: int, topic: str
) -> None:
    address = topics.parse(topic)
    assert address is not None
    (pace,) = [p for p in PACES if p.topic == topic.replace(address.name, ANY)]
    flood, other = [Outgoing(topic, b"x")] * each, f"bob-{next(_number)}"
    began = time.monotonic()
    count = asyncio.run(flooded(place, by, flood, other))
    passed_s = time.monotonic() - began
    assert count[topics.requests(other)] == HONEST + 1
    assert 1 <= count[topic] <= pace.messages.burst + pace.messages.per_s * passed_s
    assert count[topic] < each * len(by)


def test_of_many_bytes_too(place: Place) -> None:
    topic, size, began = topics.requests("mallory"), 8 * MB, time.monotonic()
    flood = [Outgoing(topic, bytes(size))] * 30
    count = asyncio.run(flooded(place, ["analyst:mallory"], flood, "carol"))
    passed_s = time.monotonic() - began
    assert count[topics.requests("carol")] == HONEST + 1
    assert 1 <= count[topic] * size <= BYTES.burst + BYTES.per_s * passed_s


def test_what_the_cloud_says_has_no_pace(place: Place) -> None:
    topic = topics.orders("vehicles", "car-1")

    async def speak() -> Counter[str]:
        async with place.link("vehicle:car-1", topic) as car, place.link("orchestrator:o-1") as own:
            reading = asyncio.create_task(heard(car))
            for _ in range(5):  # no more than waits for a vehicle that reads slowly
                assert set(await own.publish_many([Outgoing(topic, b"x")] * 3000)) == {None}
            await own.publish(Outgoing(topic, LAST))
            return await asyncio.wait_for(reading, 60)

    assert asyncio.run(speak())[topic] == 15_001
