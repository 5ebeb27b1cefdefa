"""A fleet in several processes: started, listened to and ended together."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from protocol.errors import OodidaError, SetupError, from_code

#: For how long the parts may say goodbye, in seconds for each vehicle and for all of them.
GOODBYE_S: Final = (0.02, 20.0)

Tell = Callable[[int], None]


class Parts:
    """Processes that are each a part of the fleet.

    Args:
        commands: the options of each, without those that say how it talks.
        counts: how many vehicles each has.
        connected, left: are told sums over the parts.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], counts: Sequence[int], connected: Tell, left: Tell
    ) -> None:
        self._commands, self._vehicles = commands, sum(counts)
        self._tell = {"connected": connected, "left": left}
        self._seen: dict[str, dict[int, int]] = {"connected": {}, "left": dict(enumerate(counts))}
        self._processes: list[asyncio.subprocess.Process] = []
        self.memory_mb = 0.0

    async def run(self, ready: asyncio.Event) -> None:
        """Work until cancelled. Raises what a part that ends by itself has said why."""
        try:
            async with asyncio.TaskGroup() as group:
                waiting = []
                for number, options in enumerate(self._commands):
                    there = asyncio.Event()
                    group.create_task(self._part(number, options, there))
                    waiting.append(there.wait())
                await asyncio.gather(*waiting)
                ready.set()
        except* OodidaError as problems:
            raise problems.exceptions[0] from None
        finally:
            for process in self._processes:
                if process.returncode is None:
                    process.kill()

    async def _part(self, number: int, options: Sequence[str], ready: asyncio.Event) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "edge_runtime.simulate", "--part", "--json",
            "--stop-on-eof", *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # an interrupt from the keyboard is ours to hand on
        )  # fmt: skip
        self._processes.append(process)
        listening = asyncio.create_task(self._listen(number, process, ready))
        try:
            await asyncio.shield(listening)
        except asyncio.CancelledError:
            await self._end(process, listening)
            raise
        raise SetupError("a part of the fleet has ended, and did not say why")

    async def _end(
        self, process: asyncio.subprocess.Process, listening: asyncio.Task[None]
    ) -> None:
        """Tell it to stop by ending its input, and hear it out, however often we are told to."""
        if process.stdin is not None:
            process.stdin.close()
        each, all_of_them = GOODBYE_S
        until = asyncio.get_running_loop().time() + all_of_them + each * self._vehicles
        while not listening.done() and (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.wait({listening}, timeout=left)
            except asyncio.CancelledError:
                continue
        listening.cancel()

    async def _listen(
        self, number: int, process: asyncio.subprocess.Process, ready: asyncio.Event
    ) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        async for line in process.stdout:
            told: dict[str, Any] = json.loads(line)
            match told["event"]:
                case "ready":
                    self.memory_mb += told["memory_mb"]
                    ready.set()
                case "connected" | "left" as event:
                    self._seen[event][number] = told[event]
                    self._tell[event](sum(self._seen[event].values()))
                case "error":
                    raise from_code(told["code"], told["message"])
        await process.wait()
