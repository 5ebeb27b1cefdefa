"""What is refused is let go at once, not when garbage is looked for, which is seldom."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import cbor2
import pytest

from orchestrator.decision import decide
from orchestrator.outbox import Due
from orchestrator.store import Database
from protocol import topics
from protocol.link import Incoming
from protocol.values import CBOR, JSON

REPORTS, REQUESTS = topics.reports("vehicles", "car-1"), topics.requests("ada")
PRESENCE = topics.presence("vehicles", "car-1")
RUBBISH: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"x" * 100_000, JSON),
    "JSON that ends too early": (b'{"a":"' + b"x" * 100_000, JSON),
    "JSON of no type": (b'{"a":"' + b"x" * 100_000 + b'"}', JSON),
    "no text": (b'{"a":"\xff' + b"x" * 100_000, JSON),
    "too deep": (b"[" * 60_000 + b"]" * 60_000, JSON),
    "too many": (b"[" + b"1," * 600_000 + b"1]", JSON),
    "no CBOR": (b"\x9f" + b"x" * 100_000, CBOR),
    "CBOR of no type": (cbor2.dumps({"a": b"x" * 100_000}), CBOR),
    "a mark that holds nothing": (cbor2.dumps({"~a": ["<f8", [2], b"x" * 100_000]}), CBOR),
    "no content type": (b"x" * 100_000, "text/plain"),
}


@pytest.fixture
def _no_garbage_is_looked_for() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_garbage_is_looked_for")
@pytest.mark.parametrize("topic", [REPORTS, REQUESTS, PRESENCE])
@pytest.mark.parametrize("name", RUBBISH)
def test_nothing_holds_a_message_that_was_refused(
    database: Database, name: str, topic: str
) -> None:
    payload, content_type = RUBBISH[name]
    payload = bytes(bytearray(payload))
    before = sys.getrefcount(payload)
    message = Incoming(topic, payload, content_type, None, None, lambda: None)
    decide(database, [message], Due("one", (), None, look=False))
    del message
    assert sys.getrefcount(payload) == before
