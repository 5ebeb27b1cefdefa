"""The cloud's side of one vehicle that tests kill: orders, reports and receipts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protocol import messages, topics
from protocol.link import Link, Outgoing
from protocol.messages import (
    ORDER,
    REPORT,
    OnboardOrder,
    Receipt,
    Report,
    StateReport,
    TaskReport,
    new_id,
)
from tests.conftest import until


class Cloud:
    """Sends orders to one vehicle and hears its reports; gives receipts unless told not to."""

    def __init__(self, url: str, vehicle: str) -> None:
        self._vehicle = vehicle
        self.link = Link(
            url, f"cloud-{new_id()}", subscriptions=[topics.reports("vehicles", vehicle)]
        )
        self.heard: list[Report] = []
        self.receipts = True

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, vehicle: str) -> AsyncIterator[Cloud]:
        """A cloud that is connected."""
        made = cls(url, vehicle)
        async with made.link:
            listening = asyncio.create_task(made._listen())
            try:
                yield made
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            message = await self.link.receive()
            report = messages.decode(REPORT, message.payload, message.content_type)
            message.acknowledge()
            self.heard.append(report)
            if self.receipts and not isinstance(report, StateReport):
                payload, kind = messages.encode(Receipt(id=report.id))
                topic = topics.receipts("vehicles", self._vehicle)
                await self.link.publish(Outgoing(topic, payload, kind))

    async def order(self, **changes: Any) -> OnboardOrder:
        """Send an order of a built-in method."""
        asked: dict[str, Any] = {
            "kind": "onboard", "id": new_id(), "assignment": new_id(), "iteration": 1,
            "user_id": "ada", "method": "mean", "signals": "VEHICLE_SPEED", "samples": 5,
            "first": 0, "timeout_s": 120.0,
        }  # fmt: skip
        order = ORDER.validate_python({**asked, **changes})
        assert isinstance(order, OnboardOrder)
        payload, kind = messages.encode(order)
        await self.link.publish(Outgoing(topics.orders("vehicles", self._vehicle), payload, kind))
        return order

    def states(self, task: str) -> list[str]:
        """The states that were told of a task."""
        told = (r for r in self.heard if isinstance(r, StateReport) and r.task == task)
        return [report.state.value for report in told]

    def ends(self, task: str) -> list[TaskReport]:
        """How a task ended: the reports of it that are not the same one once more."""
        found = (r for r in self.heard if isinstance(r, TaskReport) and r.task == task)
        return list({report.id: report for report in found}.values())

    async def until(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        """Wait for a condition while reports come."""
        assert await asyncio.to_thread(until, condition, seconds)


class Vehicle:
    """A vehicle's process, which can be killed and started again."""

    def __init__(self, url: str, name: str, folder: Path, *options: str) -> None:
        self._command = [
            sys.executable, "-m", "edge_runtime", f"--name={name}", f"--broker={url}",
            f"--state={folder}", "--stop-on-eof", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = folder
        self._log = folder.with_name(f"{folder.name}.log")

    def start(self, *, wait: bool = True) -> None:
        """Start it; with ``wait`` return when the cloud can know of it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        if wait:
            assert self._process.stdout is not None
            assert os.read(self._process.stdout.fileno(), 100).strip() == b"ready"

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self._end(lambda process: process.kill())

    def stop(self) -> None:
        """Tell it to stop, and wait."""
        self._end(lambda process: process.terminate())

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        process, self._process = self._process, None
        if process is not None:
            how(process)
            process.wait(30)
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has said, over all its lives."""
        return self._log.read_text()
