"""Vehicles that are killed at any instruction, on a real broker: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.signals import SimulatedDriver
from protocol.account import Budget
from protocol.lifecycle import TaskState
from protocol.outcome import Limit
from tests.cloud_double import Cloud, Vehicle
from tests.conftest import missing

pytestmark = pytest.mark.timeout(180)
Scenario = Callable[[Cloud, Vehicle], Awaitable[None]]


@pytest.fixture
def name() -> str:
    return f"car-{os.urandom(4).hex()}"


@pytest.fixture
def vehicle(broker: str, name: str, tmp_path: Path) -> Iterator[Vehicle]:
    made = Vehicle(broker, name, tmp_path / "state")
    yield made
    made.kill()


def run(broker: str, name: str, vehicle: Vehicle, scenario: Scenario) -> None:
    async def whole() -> None:
        async with Cloud.of(broker, name) as cloud:
            await scenario(cloud, vehicle)

    asyncio.run(whole())


def mean(name: str, first: int, count: int) -> float:
    return sum(SimulatedDriver.named(name).samples("VEHICLE_SPEED", first, count)) / count


def test_killed_in_a_window_it_goes_on_and_says_where_it_was_away(
    broker: str, name: str, vehicle: Vehicle
) -> None:
    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        order = await cloud.order(samples=40, first=3, rate_hz=10)
        await cloud.until(lambda: "collecting" in cloud.states(order.id))
        await asyncio.to_thread(_until_kept, vehicle)
        vehicle.kill()
        vehicle.start()
        await cloud.until(lambda: bool(cloud.ends(order.id)))
        (end,) = cloud.ends(order.id)
        assert end.outcome.value == pytest.approx(mean(name, 3, 40))
        assert end.gaps is not None
        assert end.gaps.count == 1
        assert end.seconds < 4  # what was kept was not collected again

    run(broker, name, vehicle, scenario)


def _until_kept(vehicle: Vehicle) -> None:
    from edge_runtime.journal import Journal
    from tests.conftest import until

    journal = Journal(vehicle.folder / "journal.db")
    query = "SELECT count(*) FROM samples"
    assert until(lambda: journal.read(query, ())[0][0] >= 1)
    journal.close()


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_every_order_ends_once(
    broker: str, name: str, vehicle: Vehicle, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - chosen, not secret

    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        orders = []
        for _ in range(2):
            for _ in range(5):
                first, count = chance.randrange(50), chance.randrange(1, 12)
                pace = chance.choice([None, 20.0])
                orders.append(await cloud.order(samples=count, first=first, rate_hz=pace))
            await asyncio.sleep(chance.uniform(0, 0.3))  # the moment is what the seed is for
            vehicle.kill()
            vehicle.start()
        await cloud.until(lambda: all(cloud.ends(order.id) for order in orders))
        await cloud.until(lambda: _left(vehicle) == (0, 0))
        for order in orders:
            # Killed between sending and its commit a vehicle would compute once more; it does not.
            (end,) = cloud.ends(order.id)
            assert end.outcome.value == pytest.approx(mean(name, order.first, order.samples))

    run(broker, name, vehicle, scenario)


def _left(vehicle: Vehicle) -> tuple[int, int]:
    """Orders and reports that are still in the journal."""
    import sqlite3

    connection = sqlite3.connect(vehicle.folder / "journal.db", timeout=5)
    try:
        (orders,) = connection.execute("SELECT count(*) FROM orders").fetchone()
        (reports,) = connection.execute("SELECT count(*) FROM reports").fetchone()
        return orders, reports
    finally:
        connection.close()


def test_a_report_waits_for_its_receipt_over_any_number_of_deaths(
    broker: str, name: str, vehicle: Vehicle
) -> None:
    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        cloud.receipts = False
        vehicle.start()
        order = await cloud.order()
        await cloud.until(lambda: bool(cloud.ends(order.id)))
        for _ in range(2):
            vehicle.kill()
            cloud.heard.clear()
            vehicle.start()
            await cloud.until(lambda: bool(cloud.ends(order.id)))
        cloud.receipts = True
        vehicle.kill()
        vehicle.start()
        await cloud.until(lambda: _left(vehicle) == (0, 0))

    run(broker, name, vehicle, scenario)


def test_an_order_that_comes_twice_over_a_death_has_one_effect(
    broker: str, name: str, vehicle: Vehicle
) -> None:
    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        order = await cloud.order()
        await cloud.until(lambda: bool(cloud.ends(order.id)))
        await cloud.until(lambda: _left(vehicle) == (0, 0))
        vehicle.kill()
        vehicle.start()
        await cloud.order(**order.model_dump(exclude={"kind"}))
        after = await cloud.order()
        await cloud.until(lambda: bool(cloud.ends(after.id)))
        assert len(cloud.ends(order.id)) == 1

    run(broker, name, vehicle, scenario)


def test_a_cancelled_task_is_not_gone_on_with(broker: str, name: str, vehicle: Vehicle) -> None:
    from protocol import messages, topics
    from protocol.link import Outgoing
    from protocol.messages import CancelOrder

    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        order = await cloud.order(samples=600, rate_hz=10)
        await cloud.until(lambda: "collecting" in cloud.states(order.id))
        payload, kind = messages.encode(CancelOrder(assignment=order.assignment))
        await cloud.link.publish(Outgoing(topics.orders("vehicles", name), payload, kind))
        await cloud.until(lambda: bool(cloud.ends(order.id)))
        assert cloud.ends(order.id)[0].state is TaskState.CANCELLED
        vehicle.kill()
        vehicle.start()
        after = await cloud.order()
        await cloud.until(lambda: bool(cloud.ends(after.id)))
        assert _left(vehicle)[0] == 0

    run(broker, name, vehicle, scenario)


def test_told_to_stop_it_leaves_its_tasks_to_whoever_starts_next(
    broker: str, name: str, vehicle: Vehicle
) -> None:
    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        order = await cloud.order(samples=30, rate_hz=10)
        await cloud.until(lambda: "collecting" in cloud.states(order.id))
        vehicle.stop()
        assert _left(vehicle)[0] == 1
        vehicle.start()
        await cloud.until(lambda: bool(cloud.ends(order.id)))
        assert cloud.ends(order.id)[0].state is TaskState.SUCCEEDED

    run(broker, name, vehicle, scenario)


def test_a_budget_that_is_used_up_is_remembered_over_a_death(
    broker: str, name: str, vehicle: Vehicle
) -> None:
    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        budget = Budget(bytes_sent=10)
        first = await cloud.order(budget=budget)
        await cloud.until(lambda: bool(cloud.ends(first.id)))
        assert cloud.ends(first.id)[0].usage.bytes_sent > 10
        await cloud.until(lambda: _left(vehicle) == (0, 0))
        vehicle.kill()
        vehicle.start()
        second = await cloud.order(budget=budget, assignment=first.assignment, iteration=2)
        await cloud.until(lambda: bool(cloud.ends(second.id)))
        (end,) = cloud.ends(second.id)
        assert end.state is TaskState.FAILED
        assert end.outcome.exceeded is not None
        assert end.outcome.exceeded.limit is Limit.BUDGET

    run(broker, name, vehicle, scenario)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "state"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "oodida-test", str(folder)]
    done = subprocess.run(mounting, capture_output=True, check=False)
    if done.returncode != 0:
        missing(f"a file system cannot be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk has no end")


def test_a_full_disk_refuses_orders_with_a_reason_and_recovers(
    broker: str, name: str, small_disk: Path
) -> None:
    vehicle = Vehicle(broker, name, small_disk)

    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        before = await cloud.order(samples=40, rate_hz=10)
        await cloud.until(lambda: "collecting" in cloud.states(before.id))
        filler = _fill(small_disk)
        refused = await cloud.order(params={"padding": "x" * 200_000})
        await cloud.until(lambda: bool(cloud.ends(refused.id)))
        (end,) = cloud.ends(refused.id)
        assert end.state is TaskState.REJECTED
        assert "full" in end.outcome.reason
        await cloud.until(lambda: bool(cloud.ends(before.id)))  # what it has, it finishes
        assert cloud.ends(before.id)[0].state is TaskState.SUCCEEDED
        vehicle.kill()
        vehicle.start()  # on a full disk
        filler.unlink()
        await cloud.until(lambda: _left(vehicle) == (0, 0))
        again = await cloud.order()
        await cloud.until(lambda: bool(cloud.ends(again.id)))
        assert cloud.ends(again.id)[0].state is TaskState.SUCCEEDED

    try:
        run(broker, name, vehicle, scenario)
    finally:
        vehicle.kill()


def test_of_two_with_one_name_the_first_ends_and_says_why(
    broker: str, name: str, vehicle: Vehicle, tmp_path: Path
) -> None:
    second = Vehicle(broker, name, tmp_path / "another")

    async def scenario(cloud: Cloud, vehicle: Vehicle) -> None:
        vehicle.start()
        second.start()
        await cloud.until(lambda: "name_in_use: another program" in vehicle.log)
        await cloud.until(lambda: not vehicle.running)
        order = await cloud.order()  # nobody takes the name back
        await cloud.until(lambda: bool(cloud.ends(order.id)))
        assert second.running
        assert "name_in_use" not in second.log

    try:
        run(broker, name, vehicle, scenario)
    finally:
        second.kill()
