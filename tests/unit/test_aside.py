"""What is done aside is done to its end, whoever waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from orchestrator.aside import Aside


@pytest.fixture
def aside() -> Iterator[Aside]:
    made = Aside()
    yield made
    made.close()


def test_the_loop_goes_on_meanwhile(aside: Aside) -> None:
    heard = threading.Event()

    async def ask() -> bool:
        asking = asyncio.create_task(aside.run(lambda: heard.wait(10)))
        await asyncio.sleep(0)
        heard.set()  # the loop's own doing: were it waiting, it would never come to this
        return await asking

    assert asyncio.run(ask())


def test_who_is_cancelled_has_it_settled_first(aside: Aside) -> None:
    began, go_on = threading.Event(), threading.Event()
    settled: list[int] = []

    def work() -> int:
        began.set()
        go_on.wait(10)
        return 7

    async def ask() -> None:
        asking = asyncio.create_task(aside.run(work, settled.append))
        await asyncio.to_thread(began.wait, 10)
        asking.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asking

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(ask())
    assert settled == [7]


def test_what_fails_is_raised_and_not_settled(aside: Aside) -> None:
    settled: list[object] = []
    with pytest.raises(ZeroDivisionError):
        asyncio.run(aside.run(lambda: 1 // 0, settled.append))
    assert settled == []
