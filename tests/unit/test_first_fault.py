"""What is wrong is told once, and costs once, however often it is there."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from protocol import values
from protocol.assignment import Select
from protocol.errors import BadRequest
from protocol.messages import EVENT, ORDER, PRESENCE, REPLY, REPORT

MANY = 5000
NUMBERS: list[Any] = [0] * MANY
EMPTY: list[Any] = [{}] * MANY
KEYS: dict[str, Any] = {str(i): 0 for i in range(MANY)}
ITERATION = {"kind": "iteration", "assignment": "a", "number": 1, "participation": {}}
ENDED = {"kind": "task", "id": "r", "task": "t", "attempt": 1, "state": "failed"}
CASES: dict[str, tuple[TypeAdapter[Any], dict[str, Any]]] = {
    "a list of wrong items": (EVENT, {**ITERATION, "results": NUMBERS}),
    "a list of items that lack all": (EVENT, {**ITERATION, "results": EMPTY}),
    "a dict of wrong items": (EVENT, {**ITERATION, "results": [], "participation": KEYS}),
    "a list in a reply": (REPLY, {"vehicles": NUMBERS}),
    "a list inside a model": (
        REPORT,
        {**ENDED, "outcome": {"kind": "module_error",
                              "fault": {"type": "", "message": "", "lines": NUMBERS}}},
    ),
    "unknown fields": (ORDER, {"kind": "cancel", "assignment": "a", **KEYS}),
    "unknown fields inside a model": (REPORT, {**ENDED, "outcome": {"kind": "value", **KEYS}}),
    "wrong signals": (PRESENCE, {"online": True, "session": 1, "signals": KEYS}),
    "wrong tasks": (ORDER, {"kind": "cancel", "assignment": "a", "tasks": NUMBERS}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_reading_ends_at_the_first_fault(case: str) -> None:
    kind, tree = CASES[case]
    with pytest.raises(ValidationError) as raised:
        kind.validate_python(tree)
    assert raised.value.error_count() <= 5, case  # at most those of one item


def test_what_is_told_is_the_first() -> None:
    with pytest.raises(BadRequest, match=r"names\.1: .*given: 7"):
        Select(names=["car-1", 7, 8])  # type: ignore[arg-type]


def test_a_list_that_is_too_long_is_not_looked_through() -> None:
    class Long(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError("nobody need look")

    with pytest.raises(values.TooLarge, match="items"):
        values.check(Long([None] * (values.BOUNDS.items + 1)))
