"""What an edge runtime does between its orders, without a broker or an engine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self, cast

import pytest

from edge_runtime import agent as agents
from edge_runtime.agent import Agent, Settings
from edge_runtime.environments.keeper import Keeper
from edge_runtime.modules import ModuleStore
from edge_runtime.sandbox import Sandbox
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

    async def publish(self, message: object) -> None:
        del message

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
    assert sorted(path.name for path in folder.iterdir()) == ["ada@new.json", "ada@new.py"]
