"""Whole parts, as `Target`s: hostile bytes go in, and then somebody honest wants to be served.

A case is a message: its first byte says of which content type it is, its second on which topic it
comes, the rest is its payload.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

from edge_runtime import agent as agents
from edge_runtime.agent import Agent
from edge_runtime.environments.port import NoEnvironments
from edge_runtime.sandbox import InProcess
from edge_runtime.settings import Settings
from edge_runtime.signals import SimulatedDriver
from oodida.connection import Connection
from orchestrator import decision
from orchestrator.outbox import Due
from orchestrator.store import Database
from protocol import messages, topics
from protocol.errors import OodidaError
from protocol.link import Incoming, Link, Outgoing
from protocol.messages import (
    REPLY,
    REPORT,
    ListVehicles,
    OnboardOrder,
    Reply,
    TaskReport,
    new_id,
)
from tests.fuzz.law import LawBroken, Target
from tests.fuzz.targets import EXAMPLES, content_type, typed

PATIENCE_S: Final = 20.0
HOSTILE: Final = b"hostile"
TO_CLOUD: Final = (
    topics.requests("eve"), topics.reports("vehicles", "car-1"), topics.reports("workers", "w"),
    topics.presence("vehicles", "car-1"), topics.presence("workers", "w"),
)  # fmt: skip
TO_VEHICLE: Final = (
    topics.orders("vehicles", "car-1"), topics.receipts("vehicles", "car-1"),
    topics.modules("car-1", "ada", "m"), topics.modules("car-1", "eve", "m"), topics.revoked(),
)  # fmt: skip
TO_ANALYST: Final = ("replies", "events")


class Caught(logging.Handler):
    """What a part's last resort caught: it lived, but nobody had thought of this."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.problems: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is logged with an exception."""
        if record.exc_info and record.exc_info[1] is not None:
            self.problems.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def nothing_caught() -> Iterator[None]:
    """Raise LawBroken if a part logs an exception meanwhile."""
    caught, root = Caught(), logging.getLogger()
    root.addHandler(caught)
    try:
        yield
    finally:
        root.removeHandler(caught)
    if caught.problems:
        raise LawBroken(caught.problems[0])


def _incoming(topic: str, data: bytes, kind: str, **extra: Any) -> Incoming:
    return Incoming(
        topic, data, kind, extra.get("to"), extra.get("correlation"), extra.get("ack", _nothing)
    )


def _nothing() -> None:
    pass


def _case(data: bytes, topic_names: Sequence[str]) -> tuple[str, bytes, str]:
    data = data.ljust(2, b"\0")
    return topic_names[data[1] % len(topic_names)], data[2:], content_type(data)


# --- the orchestrator -------------------------------------------------------------------------


@cache
def _store() -> Database:
    folder = tempfile.TemporaryDirectory(prefix="oodida-fuzz-")
    database = Database(f"sqlite:///{folder.name}/store.db")
    atexit.register(folder.cleanup)
    atexit.register(database.close)  # what is registered last is done first
    return database


def cloud(data: bytes) -> None:
    """The orchestrator with a real store: who asks next is answered, and so is who was refused."""
    topic, payload, kind = _case(data, TO_CLOUD)
    asks, how = messages.encode(ListVehicles(user_id="ada"))
    to = {user: topics.replies(user, "c") for user in ("eve", "ada")}
    batch = [
        _incoming(topic, payload, kind, to=to["eve"], correlation=HOSTILE),
        _incoming(topics.requests("ada"), asks, how, to=to["ada"], correlation=b"honest"),
    ]
    with nothing_caught():
        done = decision.decide(_store(), batch, Due("one", (), None, look=False))
    replies = {
        message.correlation: messages.decode(REPLY, message.payload, message.content_type)
        for message in done.fleeting
        if message.topic in to.values()
    }
    if b"honest" not in replies or replies[b"honest"].vehicles is None:
        raise LawBroken("an honest request after hostile bytes was not answered")
    if (HOSTILE in replies) != (topic == TO_CLOUD[0]):
        raise LawBroken("who was refused and can be told was not told")


# --- a vehicle --------------------------------------------------------------------------------


class _OneVehicle:
    """A link over which a hostile message comes and then an honest order."""

    def __init__(self, coming: Sequence[Incoming], task: str) -> None:
        self._coming, self._task = list(coming), task
        self.served = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    connected = True

    async def wait_up(self) -> None:
        """It is up."""

    async def ask_again(self, topic: str) -> None:
        """Nothing is kept here."""

    def check(self, message: Incoming) -> None:
        """Nobody here has a certificate."""

    async def publish(self, message: Outgoing) -> None:
        """Take a message."""
        await self.publish_many([message])

    async def publish_many(self, outgoing: Sequence[Outgoing]) -> list[None]:
        """Take reports, and see whether the honest one is among them."""
        for message in outgoing:
            if message.topic == topics.reports("vehicles", "car-1"):
                report = messages.decode(REPORT, message.payload, message.content_type)
                if isinstance(report, TaskReport) and report.task == self._task:
                    self.served.set()
        return [None for _ in outgoing]

    async def receive(self) -> Incoming:
        """What is next, if anything is."""
        if not self._coming:
            await asyncio.Event().wait()
        return self._coming.pop(0)


def vehicle(data: bytes) -> None:
    """An edge runtime with its journal: the honest order that comes next is carried out."""
    with tempfile.TemporaryDirectory(prefix="oodida-fuzz-") as folder, nothing_caught():
        asyncio.run(_vehicle(data, Path(folder)))


async def _vehicle(data: bytes, folder: Path) -> None:
    topic, payload, kind = _case(data, TO_VEHICLE)
    order = OnboardOrder(
        id=new_id(), assignment=new_id(), iteration=1, user_id="ada", method="mean", samples=3,
        signals="VEHICLE_SPEED", first=0, timeout_s=PATIENCE_S,
    )  # fmt: skip
    honest = _incoming(topics.orders("vehicles", "car-1"), *messages.encode(order))
    link = _OneVehicle([_incoming(topic, payload, kind), honest], order.id)
    with patch.object(agents, "Link", lambda *_, **__: link):
        settings = Settings("mqtt://127.0.0.1:1", "car-1", "vehicles", folder)
        agent = Agent(settings, SimulatedDriver.named("car-1"), InProcess(), NoEnvironments())
    running = asyncio.create_task(agent.run())
    served = asyncio.create_task(link.served.wait())
    await asyncio.wait({running, served}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, served):
        task.cancel()
    await asyncio.gather(running, served, return_exceptions=True)
    if not link.served.is_set():
        raise LawBroken("an honest order after hostile bytes was not carried out")


# --- the analyst's library ----------------------------------------------------------------------


class _OneAnalyst(_OneVehicle):
    """A link that answers each request by hostile bytes, and then as the cloud does."""

    def __init__(self, data: bytes, events: str) -> None:
        super().__init__([], "")
        self._data, self._events = data, events
        self._inbox: asyncio.Queue[Incoming] = asyncio.Queue()

    async def publish(self, message: Outgoing) -> None:
        """Answer a request."""
        channel, payload, kind = _case(self._data, TO_ANALYST)
        topic = message.response_topic if channel == "replies" else self._events
        # Hostile bytes that are a reply are believed: they come from the cloud. So these are late.
        late = None if channel == "events" else HOSTILE
        self._inbox.put_nowait(_incoming(str(topic), payload, kind, correlation=late))
        answer = messages.encode(Reply(vehicles=[]))
        honest = _incoming(str(message.response_topic), *answer, correlation=message.correlation)
        self._inbox.put_nowait(honest)

    async def receive(self) -> Incoming:
        """What is next, if anything is."""
        return await self._inbox.get()


class _Analyst(Connection):
    data = b""

    def _make_link(self, url: str) -> Any:
        del url
        return _OneAnalyst(self.data, topics.events(self.user, "a"))


def analyst(data: bytes) -> None:
    """The library's connection: the honest reply that comes next is heard."""
    kind = type("Analyst", (_Analyst,), {"data": data})
    connection: Connection = kind("mqtt://127.0.0.1:1", "ada")
    try:
        with nothing_caught():
            connection.listen("a", lambda _event: None, _never)
            connection._replies[HOSTILE] = connection.do(_future())
            if connection.ask(ListVehicles(user_id="ada"), PATIENCE_S).vehicles != []:
                raise LawBroken("an honest reply after hostile bytes was not heard")
    finally:
        connection.close()


async def _never() -> None:
    pass


async def _future() -> asyncio.Future[Reply]:
    return asyncio.get_running_loop().create_future()


# --- a link -------------------------------------------------------------------------------------

_CONNACK: Final = b"\x20\x03\x00\x00\x00"


def link(data: bytes) -> None:
    """A link to a broker that sends anything: it ends, and the next connection works."""
    with nothing_caught():
        asyncio.run(_link(data))


async def _link(data: bytes) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(1)
        writer.write(_CONNACK + data if connections == 1 else _CONNACK + HONEST)
        if connections == 1:
            writer.close()
        while await reader.read(4096):  # whatever it says, it is heard
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    try:
        async with Link(f"mqtt://127.0.0.1:{port}", "x", patience_s=PATIENCE_S) as made:
            async with asyncio.timeout(PATIENCE_S):
                while (message := await made.receive()).topic != "honest":
                    message.acknowledge()
    except (OodidaError, TimeoutError) as problem:
        lasted = time.monotonic() - began
        raise LawBroken(f"no second connection in {lasted:.0f} s: {problem}") from problem
    finally:
        server.close()


HONEST: Final = b"\x32\x0b\x00\x06honest\x00\x01\x00"


def _seeds(where: Sequence[str], *kinds: str) -> tuple[bytes, ...]:
    made = []
    for name, message in EXAMPLES.items():
        if name.partition(" ")[0] in kinds:
            case = typed(messages.encode(message)[0])
            made += [case[:1] + bytes((i,)) + case[1:] for i in range(len(where))]
    return tuple(made)


PARTS: Final = {
    target.name: target
    for target in (
        Target(
            "orchestrator", cloud, _seeds(TO_CLOUD, "request", "report", "presence"), (), head=2
        ),
        Target("vehicle", vehicle, _seeds(TO_VEHICLE, "order", "receipt", "module"), (), head=2),
        Target("library", analyst, _seeds(TO_ANALYST, "reply", "event"), (), head=2),
        Target("link", link, (HONEST, _CONNACK, b"\xe0\x00", HONEST * 3, b"\x40\x02\x00\x01"), ()),
    )
}
