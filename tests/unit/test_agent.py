"""What an edge runtime does between its orders, without a broker or an engine."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Self, cast

import pytest

from edge_runtime import agent as agents
from edge_runtime.agent import Agent
from edge_runtime.environments.keeper import Keeper
from edge_runtime.environments.port import NoEnvironments
from edge_runtime.journal import EdgeJournal, JournalFull
from edge_runtime.modules import ModuleStore
from edge_runtime.sandbox import InProcess, Sandbox
from edge_runtime.settings import Settings
from edge_runtime.signals import SimulatedDriver
from protocol import messages, topics
from protocol.lifecycle import TaskState
from protocol.link import Incoming, Outgoing
from protocol.messages import REPORT, OnboardOrder, TaskReport
from protocol.module import Module, Side, digest_of

SOURCE = "def custom_code(w): return 1"
OWN = 64 * "a"


class Environments:
    """A keeper that asks once which environments are in use."""

    keep_s = 1000.0

    def __init__(self) -> None:
        self.in_use: Collection[str] | None = None
        self.asked = asyncio.Event()

    async def sweep(
        self, in_use: Callable[[], Collection[str]], gone: Callable[[str], None]
    ) -> None:
        del gone
        self.in_use = in_use()
        self.asked.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


class NoLink:
    """A link that is up, over which nothing comes."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait_up(self) -> None:
        pass

    def check(self, message: object) -> None:
        del message

    async def publish(self, message: object) -> None:
        del message

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[None]:
        return [None for _ in messages]

    async def receive(self) -> Any:
        await asyncio.Event().wait()


class NoSandbox:
    """A sandbox that nobody calls."""

    environments = ()

    def remove(self, environment: str) -> None:
        raise AssertionError(environment)


def test_what_nobody_uses_leaves_the_vehicle_and_its_environment_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "Link", NoLink)
    folder = tmp_path / "modules/onboard"
    store = ModuleStore(folder, Side.ONBOARD)
    for name, environment in (("old", OWN), ("new", "minimal")):
        store.put(
            Module(
                user_id="ada", name=name, side=Side.ONBOARD, generation=1, source=SOURCE,
                environment=environment, digest=digest_of(SOURCE, environment),
            )
        )  # fmt: skip
    os.utime(folder / "ada@old.json", (time.time() - 2000,) * 2)

    async def scenario() -> Collection[str] | None:
        environments = Environments()
        settings = Settings("mqtt://127.0.0.1:1", "car-1", "vehicles", tmp_path)
        agent = Agent(settings, None, cast("Sandbox", NoSandbox()), cast("Keeper", environments))
        running = asyncio.create_task(agent.run())
        async with asyncio.timeout(10):
            await environments.asked.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return environments.in_use

    assert asyncio.run(scenario()) == {"minimal"}
    assert sorted(path.name for path in folder.iterdir()) == [
        "ada@new.json",
        "ada@new.py",
        "ada@old.last",
    ]


class Orders(NoLink):
    """A link over which one order comes, so many times; what is done with it is told to `saw`."""

    def __init__(self, order: OnboardOrder, times: int, saw: Callable[[str], None]) -> None:
        super().__init__()
        self._left = self._waited_for = times
        self._order, self._saw = order, saw
        self.reports: list[TaskReport] = []
        self.done = asyncio.Event()

    async def receive(self) -> Incoming:
        if not self._left:
            await asyncio.Event().wait()
        self._left -= 1
        payload, content_type = messages.encode(self._order)
        topic = topics.orders("vehicles", "car-1")
        left = [None]  # as with the real one, once

        def acknowledge() -> None:
            if left:
                left.pop()
                self._saw("acknowledged")
                self._waited_for -= 1
                self._look()

        return Incoming(topic, payload, content_type, None, None, acknowledge)

    def _look(self) -> None:
        if self.reports and not self._waited_for:
            self.done.set()

    async def publish_many(self, outgoing: Sequence[Outgoing]) -> list[None]:
        for message in outgoing:
            report = messages.decode(REPORT, message.payload, message.content_type)
            assert isinstance(report, TaskReport)
            self.reports.append(report)
            self._saw("reported")
        self._look()
        return [None for _ in outgoing]


def mean_of_ten(**changes: Any) -> OnboardOrder:
    order = OnboardOrder(
        id="t", assignment="x", iteration=1, user_id="ada", method="mean", first=3, samples=10,
        signals="VEHICLE_SPEED", timeout_s=60,
    )  # fmt: skip
    return order.model_copy(update=changes)


def one_life(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: OnboardOrder,
    times: int = 1,
) -> tuple[list[TaskReport], list[tuple[str, list[int]]]]:
    """What a vehicle reports of an order; and when it did what, how many rows were on the disk."""
    happened: list[tuple[str, list[int]]] = []

    def saw(what: str) -> None:
        disk = sqlite3.connect(folder / "journal.db")
        count = "SELECT count(*) FROM "
        tables = ("seen", "orders", "reports")
        happened.append((what, [disk.execute(count + t).fetchone()[0] for t in tables]))
        disk.close()

    async def scenario() -> list[TaskReport]:
        link = Orders(order, times, saw)
        monkeypatch.setattr(agents, "Link", lambda *_, **__: link)
        settings = Settings("mqtt://127.0.0.1:1", "car-1", "vehicles", folder)
        source = SimulatedDriver.named("car-1")
        running = asyncio.create_task(Agent(settings, source, InProcess(), NoEnvironments()).run())
        async with asyncio.timeout(10):
            await link.done.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return link.reports

    return asyncio.run(scenario()), happened


@pytest.mark.parametrize(
    ("changes", "row"), [({}, 0), ({"rate_hz": 1000.0}, 1)], ids=["at once", "over time"]
)
def test_what_is_acknowledged_or_reported_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], row: int
) -> None:
    reports, happened = one_life(tmp_path, monkeypatch, mean_of_ten(**changes))
    samples = SimulatedDriver.named("car-1").samples("VEHICLE_SPEED", 3, 10)
    assert [report.state for report in reports] == [TaskState.SUCCEEDED]
    assert reports[0].outcome.value == pytest.approx(sum(samples) / 10)
    assert reports[0].usage.bytes_sent > 100
    assert sorted(happened) == [
        ("acknowledged", [1, row, 1 - row]),
        ("reported", [1, 0, 1]),
    ]


def test_an_order_is_carried_out_once_in_this_life_and_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = one_life(tmp_path, monkeypatch, mean_of_ten(), times=3)
    again, _ = one_life(tmp_path, monkeypatch, mean_of_ten(), times=2)
    assert {report.id for report in first + again} == {first[0].id}


def test_what_cannot_be_carried_out_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((report,), _) = one_life(tmp_path, monkeypatch, mean_of_ten(signals="SPED"))
    assert report.state is TaskState.REJECTED
    assert "SPED" in report.outcome.reason


def test_a_full_disk_refuses_an_order_that_is_done_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_exception(JournalFull("the journal: no room"))
        return done

    monkeypatch.setattr(EdgeJournal, "carried_out", full)
    (reports, happened) = one_life(tmp_path, monkeypatch, mean_of_ten())
    assert [report.state for report in reports] == [TaskState.REJECTED]
    assert "no room" in reports[0].outcome.reason
    assert all(rows[0] == 0 for _, rows in happened)
