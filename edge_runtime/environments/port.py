"""The port to the environments: what the edge runtime asks of whatever gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

from edge_runtime.environments.usage import DAY_S
from protocol.errors import EnvironmentRefused


class AnyKeeper(Protocol):
    """Gets environments and removes those that nobody uses; see `keeper.Keeper`."""

    keep_s: float

    def used(self, environment: str) -> None:
        """A call is made in it."""
        ...

    async def ensure(self, environment: str, image: str, tell: Callable[[str], None]) -> str:
        """Make an environment available; return its image. Raises EnvironmentRefused."""
        ...

    async def close(self) -> None:
        """Stop what is coming."""
        ...

    async def sweep(
        self, in_use: Callable[[], Collection[str]], gone: Callable[[str], None]
    ) -> None:
        """Remove what nobody has used for long, now and again, until cancelled."""
        ...


class NoEnvironments:
    """Where there is no engine: none is ever here."""

    keep_s = 30 * DAY_S

    def used(self, environment: str) -> None:
        """No call is made in any."""

    async def ensure(self, environment: str, image: str, tell: Callable[[str], None]) -> str:  # noqa: ARG002
        """Refuse."""
        raise EnvironmentRefused(
            f"the environment {environment[:12]} cannot be had here: this runtime has no sandbox"
        )

    async def close(self) -> None:
        """Nothing is coming."""

    async def sweep(
        self,
        in_use: Callable[[], Collection[str]],  # noqa: ARG002
        gone: Callable[[str], None],  # noqa: ARG002
    ) -> None:
        """Remove nothing, until cancelled."""
        await asyncio.Event().wait()
