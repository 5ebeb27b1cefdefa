"""The link against a real broker: honest about what was accepted, and back after a break."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from protocol.errors import BadRequest, LinkError, NameInUse, NotConnected
from protocol.link import WIDE, Incoming, Link, Outgoing, Will, parse_url
from protocol.messages import MAX_MESSAGE, new_id
from tests.chaos.network import Network

Writer = asyncio.StreamWriter


def topic() -> str:
    """One of the test's own."""
    return f"oodida/v1/analysts/test/events/{new_id()}"


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(timed())


def test_what_is_published_arrives_with_its_properties(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        async with Link(broker, new_id(), subscriptions=[where]) as link:
            await link.publish(
                Outgoing(where, b"x", "application/cbor", response_topic="a/b", correlation=b"c")
            )
            message = await link.receive()
            message.acknowledge()
            assert message == Incoming(
                where, b"x", "application/cbor", "a/b", b"c", message.acknowledge
            )

    run(scenario)


def test_many_publications_at_once_all_arrive_once(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        async with Link(broker, new_id(), subscriptions=[where]) as link:
            sending = asyncio.gather(
                *(link.publish(Outgoing(where, str(i).encode())) for i in range(1000))
            )
            seen = []
            for _ in range(1000):
                message = await link.receive()
                seen.append(int(message.payload))
                message.acknowledge()
            await sending
            assert sorted(seen) == list(range(1000))

    run(scenario)


def test_of_many_publications_each_has_its_own_answer(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        async with Link(broker, new_id(), subscriptions=[where], publish_window=WIDE) as link:
            messages = [Outgoing(where, b"%d" % i) for i in range(2000)]
            messages[7] = Outgoing(where, b"x" * (MAX_MESSAGE + 200_000))
            sending = asyncio.create_task(link.publish_many(messages))
            seen = []
            for _ in range(1999):
                message = await link.receive()
                seen.append(int(message.payload))
                message.acknowledge()
            answers = await sending
            assert seen == [i for i in range(2000) if i != 7]
            assert [i for i, problem in enumerate(answers) if problem is not None] == [7]
            assert "more than the broker takes" in str(answers[7])
            assert await link.publish_many([]) == []

    run(scenario)


def test_a_break_answers_for_all_that_were_on_their_way(broker: str) -> None:
    async def scenario() -> None:
        async with Link(broker, new_id()) as link:
            messages = [Outgoing(topic(), b"x" * 100_000) for _ in range(200)]
            sending = asyncio.create_task(link.publish_many(messages))
            await asyncio.sleep(0)
            _cut(link)
            answers = await sending
            assert isinstance(answers[-1], NotConnected)
            assert len(answers) == 200
            await link.wait_up()
            assert await link.publish_many(messages[:1]) == [None]

    run(scenario)


def test_whoever_stops_waiting_leaves_the_window_to_others(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        async with Link(broker, new_id(), subscriptions=[where]) as link:
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await link.publish_many([Outgoing(where, b"no") for _ in range(1000)])
            await link.publish(Outgoing(where, b"yes"))
            count = 0
            while (message := await link.receive()).payload != b"yes":
                message.acknowledge()
                count += 1
            assert count < 1000

    run(scenario)


def test_what_is_not_acknowledged_comes_again_and_waiting_messages_are_bounded(broker: str) -> None:
    where, name = topic(), new_id()

    async def scenario() -> None:
        link = Link(broker, name, subscriptions=[where], session_expiry_s=60)
        async with link, Link(broker, new_id()) as sender:
            await asyncio.gather(*(sender.publish(Outgoing(where, b"%d" % i)) for i in range(300)))
            first = await link.receive()
            assert first.payload == b"0"
            assert link._inbox.qsize() < 100  # our Receive Maximum holds the rest at the broker
        async with Link(broker, name, subscriptions=[where], session_expiry_s=60) as again:
            for i in range(300):
                message = await again.receive()
                assert message.payload == b"%d" % i
                message.acknowledge()

    run(scenario)


def test_the_largest_message_passes_and_a_larger_one_is_refused_here(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        async with Link(broker, new_id(), subscriptions=[where]) as link:
            await link.publish(Outgoing(where, b"x" * MAX_MESSAGE))
            message = await link.receive()
            message.acknowledge()
            assert len(message.payload) == MAX_MESSAGE
            with pytest.raises(LinkError, match="more than the broker takes"):
                await link.publish(Outgoing(where, b"x" * (MAX_MESSAGE + 200_000)))
            await link.publish(Outgoing(where, b"and it goes on"))
            assert (await link.receive()).payload == b"and it goes on"

    run(scenario)


def test_publishing_without_a_connection_raises_and_keeps_nothing(broker: str) -> None:
    async def scenario() -> None:
        link = Link(broker, new_id())
        with pytest.raises(NotConnected):
            await link.publish(Outgoing(topic(), b"x"))

    run(scenario)


def test_a_death_is_told_by_the_will_and_a_goodbye_is_not(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        async with Link(broker, new_id(), subscriptions=[where]) as watcher:
            will = Will(where, b"died", delay_s=0)
            async with Link(broker, new_id(), will=lambda: will):
                pass
            dying = Link(broker, new_id(), will=lambda: will)
            async with dying:
                _cut(dying)
                message = await watcher.receive()
                message.acknowledge()
                assert message.payload == b"died"
                await dying.wait_up()  # it has come back, so that it can say goodbye
            assert watcher.receive_nowait() is None

    run(scenario)


def test_who_is_told_to_stop_while_it_enters_leaves_no_word_of_its_birth_behind(
    broker: str,
) -> None:
    """Nobody is inside who could say goodbye, and what `on_up` said is said."""
    where = topic()

    async def scenario() -> None:
        async def born() -> None:
            entering.cancel()
            await link.publish(Outgoing(where, b"born"))

        will = Will(where, b"died", delay_s=0)
        link = Link(broker, new_id(), will=lambda: will, on_up=born)
        async with Link(broker, new_id(), subscriptions=[where]) as watcher:
            entering = asyncio.create_task(link.__aenter__())
            with pytest.raises(asyncio.CancelledError):
                await entering
            for said in (b"born", b"died"):
                message = await watcher.receive()
                message.acknowledge()
                assert message.payload == said

    run(scenario)


def test_it_comes_back_by_itself_and_subscribes_again(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        came_up: asyncio.Queue[None] = asyncio.Queue()

        async def up() -> None:
            came_up.put_nowait(None)

        link = Link(broker, new_id(), subscriptions=[where], on_up=up)
        async with link, Link(broker, new_id()) as sender:
            for round_ in range(3):
                await sender.publish(Outgoing(where, b"%d" % round_))
                message = await link.receive()
                message.acknowledge()
                assert message.payload == b"%d" % round_
                await came_up.get()
                _cut(link)
                await came_up.get()
                came_up.put_nowait(None)

    run(scenario)


def _cut(link: Link) -> None:
    """Break the connection without a goodbye."""
    connection = link._connection
    assert connection is not None
    connection.abandon()


def test_a_publication_that_the_break_overtook_raises(broker: str) -> None:
    async def scenario() -> None:
        async with Link(broker, new_id()) as link:
            sending = asyncio.create_task(link.publish(Outgoing(topic(), b"x" * 1_000_000)))
            await asyncio.sleep(0)
            _cut(link)
            with suppress(NotConnected):  # unless the broker was quicker
                await sending

    run(scenario)


def test_no_broker_is_one_clear_error() -> None:
    async def scenario() -> None:
        with pytest.raises(LinkError, match="cannot be reached"):
            async with Link("mqtt://127.0.0.1:9", new_id(), patience_s=0.5):
                pass

    run(scenario)


@pytest.mark.parametrize("url", ["", "host", "http://a", "mqtt://", "mqtt://a:x", "mqtt://a:99999"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="broker address"):
        parse_url(url)


def test_a_retained_message_can_be_had_once_more(broker: str) -> None:
    where = topic()

    async def scenario() -> None:
        async with Link(broker, new_id(), subscriptions=[where]) as link:
            await link.publish(Outgoing(where, b"kept", retain=True))
            (await link.receive()).acknowledge()
            await link.ask_again(where)
            again = await link.receive()
            again.acknowledge()
            assert (again.topic, again.payload) == (where, b"kept")
            await link.publish(Outgoing(where, b"", retain=True))

    run(scenario)


def test_who_hears_that_the_connection_ended_waits_for_the_next_one(broker: str) -> None:
    """Even before the link itself has seen the end: else he asks again and again, for ever."""

    async def scenario() -> None:
        async with Link(broker, new_id()) as link:
            assert link._connection is not None
            link._connection.abandon()
            message = Outgoing(topic(), b"x")
            assert isinstance((await link.publish_many([message]))[0], NotConnected)
            assert not link.connected
            tries = 0
            while (await link.publish_many([message]))[0] is not None:
                tries += 1
                assert tries < 10
                await link.wait_up()

    run(scenario)


def test_whoever_is_taken_over_ends_with_a_clear_error_and_does_not_come_back(broker: str) -> None:
    name = new_id()

    async def scenario() -> None:
        first = Link(broker, name, session_expiry_s=60)
        async with first, Link(broker, name, session_expiry_s=60) as second:
            for _ in range(2):  # and whoever asks again is told again
                with pytest.raises(NameInUse, match=name):
                    await first.receive()
            assert not first.connected
            with pytest.raises(NotConnected):
                await first.publish(Outgoing(topic(), b"x"))
            await second.publish(Outgoing(topic(), b"x"))
            assert second.connected

    run(scenario)


def test_who_loses_the_name_before_it_could_subscribe_does_not_wait_for_ever() -> None:
    async def accept_and_take_over(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.read(4096)
        writer.write(b"\x20\x03\x00\x00\x00\xe0\x01\x8e")  # CONNACK, DISCONNECT
        await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(accept_and_take_over, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            link = Link(
                f"mqtt://127.0.0.1:{port}", "car-1", subscriptions=[topic()], patience_s=None
            )
            with pytest.raises(NameInUse, match="car-1"):
                async with link:
                    pass

    run(scenario)


def test_ones_own_connection_that_the_broker_takes_for_alive_is_no_other_program(
    broker: str,
) -> None:
    name = new_id()
    address = parse_url(broker)
    network = Network((address.host, address.port), seed=1)
    network.open([name])

    async def scenario() -> None:
        came_up: asyncio.Queue[None] = asyncio.Queue()

        async def up() -> None:
            came_up.put_nowait(None)

        link = Link(network.url(name), name, session_expiry_s=60, on_up=up)
        async with link:
            for _ in range(3):
                await came_up.get()
                await link.publish(Outgoing(topic(), b"x"))
                assert link.receive_nowait() is None
                network.half_cut(name)
            await came_up.get()

    try:
        run(scenario)
    finally:
        network.close()
