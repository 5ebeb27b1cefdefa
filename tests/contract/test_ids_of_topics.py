"""An id in a message that is not its topic's: the message is dropped, and counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import metrics as edge_metrics
from edge_runtime.agent import Agent
from edge_runtime.environments.port import NoEnvironments
from edge_runtime.sandbox import InProcess
from edge_runtime.settings import Settings
from edge_runtime.signals import SimulatedDriver
from orchestrator import metrics as cloud_metrics
from orchestrator.decision import decide
from orchestrator.outbox import Due
from orchestrator.store import Database
from protocol import messages, topics
from protocol.link import Incoming
from protocol.messages import ListVehicles, ModuleMessage
from protocol.metrics import Counter, gather
from protocol.module import Module, Side, digest_of

SOURCE = "def custom_code(window): return 1"


def counted(counter: Counter, code: str) -> float:
    """What whoever asks for the metrics is told."""
    for family in counter._bound.collect():
        for sample in family.samples:
            if sample.name.endswith("_total") and sample.labels == {"code": code}:
                return float(sample.value)
    return 0.0


def count(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter, "_bound", None)
    gather([counter])


def incoming(topic: str, what: Any, acknowledged: list[str]) -> Incoming:
    payload, content_type = messages.encode(what)
    return Incoming(topic, payload, content_type, None, None, lambda: acknowledged.append(topic))


def test_a_request_in_anothers_name(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    count(cloud_metrics.REFUSED, monkeypatch)
    for user in ("eve", "ada"):
        message = incoming(topics.requests(user), ListVehicles(user_id="ada"), [])
        decide(database, [message], Due("one", (), None, look=False))
        assert counted(cloud_metrics.REFUSED, "wrong_sender") == 1


@pytest.mark.parametrize(
    ("user", "name", "dropped"), [("eve", "m", 1), ("ada", "n", 1), ("ada", "m", 0)]
)
def test_a_module_of_another_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, name: str, dropped: int
) -> None:
    count(edge_metrics.REFUSED, monkeypatch)
    module = Module(
        user_id="ada", name="m", side=Side.ONBOARD, generation=1, source=SOURCE,
        environment="minimal", digest=digest_of(SOURCE, "minimal"),
    )  # fmt: skip
    acknowledged: list[str] = []

    async def scenario() -> None:
        settings = Settings("mqtt://127.0.0.1:1", "car-1", "vehicles", tmp_path)
        agent = Agent(settings, SimulatedDriver.named("car-1"), InProcess(), NoEnvironments())
        topic = topics.modules("car-1", user, name)
        await agent._handle(incoming(topic, ModuleMessage.of(module), acknowledged))
        await agent._stop()

    asyncio.run(scenario())
    assert len(acknowledged) == 1, "it does not come again"
    assert counted(edge_metrics.REFUSED, "wrong_sender") == dropped
    assert not list(tmp_path.rglob("*.py")) or not dropped
