"""What an analyst is told of an iteration, reduced until it can travel."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from orchestrator import events
from orchestrator.turn import Turn
from protocol import messages, values
from protocol.errors import ValueTooLarge
from protocol.messages import EVENT, MAX_MESSAGE, IterationEvent

PRINTED = st.text(max_size=300)


def tree(printed: list[str], reason: str) -> dict[str, Any]:
    return {
        "kind": "iteration", "assignment": "a", "number": 2, "value": {"sum": 1.5},
        "results": [
            {"vehicle": f"car-{i}", "value": i, "outcome": "value"}
            | ({"printed": text} if text else {})
            for i, text in enumerate(printed)
        ],
        "participation": {
            f"car-{i}": {"status": "late", "reason": reason} for i in range(len(printed))
        },
    }  # fmt: skip


@given(st.lists(PRINTED, max_size=5), st.text(max_size=500), st.integers(0, 4000))
def test_value_and_participation_are_in_whatever_has_to_go(
    printed: list[str], reason: str, most: int
) -> None:
    whole = tree(printed, reason)
    told, written = events.fitting(whole, most)
    assert written == values.encode(told)
    read = messages.decode(EVENT, *written)
    assert isinstance(read, IterationEvent)
    assert read.value == {"sum": 1.5}
    assert read.participation.keys() == whole["participation"].keys()
    if len(values.encode(whole)[0]) <= most:
        assert told == whole
    elif len(written[0]) > most:  # nothing more could go
        assert read.results == []
        assert all(len(p.reason) <= events.SHORT for p in read.participation.values())


def test_what_was_printed_goes_before_any_result() -> None:
    whole = tree(["x" * 300, ""], "")
    size = len(values.encode(whole)[0])
    told, _ = events.fitting(whole, size - 1)
    assert [r["value"] for r in told["results"]] == [0, 1]
    assert not any("printed" in r for r in told["results"])


def test_what_cannot_travel_at_all_is_an_error_and_is_not_sent() -> None:
    turn = Turn(Session(), 0.0)
    with pytest.raises(ValueTooLarge):
        turn.event_written("ada", "a", b"x" * (MAX_MESSAGE + 1), values.JSON)
    assert turn.outgoing == []
