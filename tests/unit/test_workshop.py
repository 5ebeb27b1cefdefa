"""What a worker does with wheels that are sent to it, and with orders that come side by side."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge_runtime.environments import workshop
from edge_runtime.environments.pip import Source
from edge_runtime.environments.workshop import Workshop
from protocol.environment import EnvironmentSpec, Reason, WheelRef, refused
from protocol.messages import BuildOrder, BuildReport, WheelOrder

DATA = b"wheel" * 300
WHEEL = WheelRef(
    name="a-1-py3-none-any.whl", sha256=hashlib.sha256(DATA).hexdigest(), size=len(DATA)
)
IMAGE = f"127.0.0.1:5000/oodida/environment@sha256:{64 * 'a'}"
PARTS = [
    WheelOrder(sha256=WHEEL.sha256, offset=offset, data=DATA[offset : offset + 1000])
    for offset in (0, 1000)
]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    def resolve(spec: EnvironmentSpec, *_: Any, sent: Path, **__: Any) -> Any:
        assert (sent / WHEEL.name).read_bytes() == DATA
        if "bad" in spec.requirements:
            raise refused(Reason.CONFLICT, "no")
        return SimpleNamespace(packages=(), size=0, text=lambda: "lock")

    monkeypatch.setattr(workshop, "resolve", resolve)
    monkeypatch.setattr(workshop, "ensure", lambda *_, **__: SimpleNamespace(reference=IMAGE))
    return Workshop(tmp_path, "base", "127.0.0.1:5000", Source(), cast("Any", None))


def order(*requirements: str) -> BuildOrder:
    spec = EnvironmentSpec(requirements=requirements, wheels=(WHEEL,))
    return BuildOrder(id=spec.key, spec=spec, timeout_s=20)


async def ends(shop: Workshop, *orders: BuildOrder) -> list[str]:
    """How these orders end, that are carried out side by side, each with its wheel before it."""
    said: dict[str, BuildReport] = {}
    building = []
    for one in orders:
        for part in PARTS:
            shop.take(part)
        building.append(shop.build(one, lambda report: said.update({report.order: report})))
    await asyncio.gather(*building)
    return [said[one.id].state for one in orders]


def test_two_orders_with_the_same_wheel(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "KEEP_S", 0.0, raising=False)
    assert asyncio.run(ends(shop, order(), order("six"))) == ["built", "built"]


def test_a_wheel_that_is_sent_again_while_it_is_built_with(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, goes_on = threading.Event(), threading.Event()
    copy = shutil.copy

    def slowly(*how: Any) -> Any:
        reads.set()
        goes_on.wait(10)
        return copy(*how)

    monkeypatch.setattr(shutil, "copy", slowly)

    async def scenario() -> list[str]:
        building = asyncio.create_task(ends(shop, order()))
        assert await asyncio.to_thread(reads.wait, 10)
        shop.take(PARTS[0])
        goes_on.set()
        return await building

    assert asyncio.run(scenario()) == ["built"]


@pytest.mark.parametrize("requirement", ["bad", "six"])
def test_no_wheel_is_left_however_its_order_ended(
    shop: Workshop, tmp_path: Path, requirement: str
) -> None:
    asyncio.run(ends(shop, order(requirement)))
    (left,) = (tmp_path / "wheels").iterdir()  # another order with it may be on its way
    os.utime(left, (time.time() - 2 * workshop.KEEP_S,) * 2)
    shop.take(WheelOrder(sha256=64 * "0", offset=0, data=b"another"))
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [64 * "0"]
