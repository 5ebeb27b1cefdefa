"""A thread for what waits for the store, while the loop goes on to speak with the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Aside:
    """One thread: what is asked of it is done one after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "store")

    async def run(self, work: Callable[[], T], then: Callable[[T], object] | None = None) -> T:
        """Do something in the thread, and ``then`` something with its result in the loop.

        Both are done even if whoever waits is cancelled meanwhile: what is committed is committed,
        and has to be settled. Raises what either raises.
        """
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            await asyncio.wait({future})
            if then is not None and future.exception() is None:
                then(future.result())
            raise
        done = future.result()
        if then is not None:
            then(done)
        return done

    def close(self) -> None:
        """Wait until what is being done is done."""
        self._thread.shutdown()
