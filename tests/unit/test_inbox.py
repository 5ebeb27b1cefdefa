"""In which order messages are handled that came together."""

from __future__ import annotations

from orchestrator.inbox import in_order
from protocol import topics
from protocol.link import Incoming


def test_presences_are_first_and_in_one_order_those_of_one_vehicle_as_they_came() -> None:
    presence = [topics.presence("vehicles", name) for name in ("car-1", "car-2", "car-3")]
    worker, request = topics.presence("workers", "a"), topics.requests("ada")
    came = [
        (request, b"1"), (presence[2], b"2"), (worker, b"3"), (presence[0], b"4"),
        (presence[0], b"5"), (topics.reports("vehicles", "car-1"), b"6"), (presence[1], b"7"),
    ]  # fmt: skip
    batch = [Incoming(topic, payload, "", None, None, lambda: None) for topic, payload in came]
    assert b"".join(message.payload for message in in_order(batch)) == b"4572316"
