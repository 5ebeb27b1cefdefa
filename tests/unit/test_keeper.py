"""Environments that come while a runtime has other things to do."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.cancelled import Cancelled
from edge_runtime.environments import keeper
from edge_runtime.environments.keeper import Keeper


def test_environments_that_do_not_come_hold_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(*_: Any, cancelled: threading.Event, **__: Any) -> str:
        cancelled.wait(60)  # as where the registry is away
        raise Cancelled

    monkeypatch.setattr(keeper, "pull", pull)

    async def scenario() -> int:
        environments = Keeper(tmp_path)
        waiting = [
            asyncio.create_task(environments.ensure(f"{n:064}", "image", lambda _: None))
            for n in range(40)  # more than there are shared threads
        ]
        try:
            await asyncio.sleep(0.1)
            async with asyncio.timeout(5):
                return await asyncio.to_thread(lambda: 1)
        finally:
            await environments.close()
            await asyncio.gather(*waiting, return_exceptions=True)

    assert asyncio.run(scenario()) == 1
