"""While an analyst and a vehicle flood, the others are answered."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import oodida
from protocol import messages, topics
from protocol.link import Link, Outgoing
from protocol.messages import REPLY, ListAssignments, StateReport
from tests.conftest import until
from tests.end_to_end.conftest import System

#: More than an analyst may send at once; sent again and again until the test has seen enough.
AT_ONCE = 1500


def a_request(user: str) -> Outgoing:
    written = messages.encode(ListAssignments(user_id=user))
    to = topics.replies(user, "c-1")
    return Outgoing(topics.requests(user), *written, response_topic=to, correlation=b"1")


def a_report(vehicle: str) -> Outgoing:
    report: Any = {"task": "no-task", "attempt": 1, "state": "running"}
    written = messages.encode(StateReport.model_validate(report))
    return Outgoing(topics.reports("vehicles", vehicle), *written)


def a_large_report(vehicle: str) -> Outgoing:
    """Of as many items as are read at all: it takes a thousand times as long as a small one."""
    payload = b'{"kind":"state","task":[' + b"[[]]," * 240_000 + b"1]}"
    return Outgoing(topics.reports("vehicles", vehicle), payload)


@contextmanager
def flood(url: str, message: Outgoing, codes: list[str], at_once: int = AT_ONCE) -> Iterator[None]:
    """Send this as often as it goes, and note the errors that come back."""
    stop, begun = threading.Event(), threading.Event()

    async def read(link: Link) -> None:
        while True:
            told = await link.receive()
            reply = messages.decode(REPLY, told.payload, told.content_type)
            codes.append(reply.error.code if reply.error else "")
            told.acknowledge()

    async def send() -> None:
        to = message.response_topic
        async with Link(url, f"flood-{id(codes)}", subscriptions=[to] if to else []) as link:
            reading = asyncio.create_task(read(link))
            while not stop.is_set():
                await link.publish_many([message] * at_once)
                begun.set()
            reading.cancel()

    thread = threading.Thread(target=asyncio.run, args=(send(),))
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        stop.set()
        thread.join()


def seconds(fleet: oodida.Fleet) -> float:
    began = time.perf_counter()
    assert fleet.assignments() == []
    return time.perf_counter() - began


def test_an_honest_analyst_is_answered_during_a_flood(ada: oodida.Fleet, system: System) -> None:
    quiet = [seconds(ada) for _ in range(10)]
    codes: list[str] = []
    url, eve = system.fleet.url, f"eve-of-{ada.user}"
    with flood(url, a_request(eve), codes):
        by_analyst = [seconds(ada) for _ in range(10)]
        assert until(lambda: "too_many_requests" in codes, 60)
    with flood(url, a_report(f"evil-{ada.user}"), []):
        by_vehicle = [seconds(ada) for _ in range(10)]
    with flood(url, a_large_report(f"evil-{ada.user}"), [], at_once=4):
        by_large = [seconds(ada) for _ in range(10)]
    for name, times in (
        ("quiet", quiet), ("analyst", by_analyst), ("vehicle", by_vehicle), ("large", by_large),
    ):  # fmt: skip
        print(f"{name}: median {statistics.median(times) * 1000:.0f} ms")
    # Who floods is in the audit log: once for the whole burst.
    assert until(lambda: bool([*ada.audit(eve, "flood")]), 60)
    (entry,) = ada.audit(eve, "flood")
    assert (entry.allowed, entry.code) == (False, "too_many_requests")
