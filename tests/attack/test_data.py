"""Values that are too deep, too large, or of no kind that may travel: cases 31 to 34."""

from __future__ import annotations

import math

import pytest

from protocol.outcome import Limit
from tests.attack.harness import SMALL, Rig, ended, seen
from tests.attack.test_protocol import forge

DEEP = "nested = []\n    for _ in range(100_000): nested = [nested]\n    return nested"
CYCLE = "cycle = []\n    cycle.append(cycle)\n    return cycle"
WIDE = "return [0] * 1_000_000"


@pytest.mark.parametrize(
    ("made", "configured", "unit"),
    [(DEEP, 32, "levels"), (CYCLE, 32, "levels"), (WIDE, 200_000, "items")],
    ids=["nested", "holds itself", "items"],
)
def test_31_nested_deeply(rig: Rig, made: str, configured: int, unit: str) -> None:
    outcome = rig.run(f"def custom_code(window):\n    {made}\n")
    assert ended(outcome) == f"limit_exceeded value_size {configured}"
    assert outcome.exceeded is not None
    assert outcome.exceeded.unit == unit


def test_31_forged_json_of_great_depth(rig: Rig) -> None:
    text = b'{"kind": "value", "value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    outcome = forge(rig, text, "os._exit(0)")
    assert ended(outcome) == "limit_exceeded value_size 32"
    assert outcome.exceeded is not None
    assert outcome.exceeded.unit == "levels"


def test_32_huge_integer_and_not_a_number(rig: Rig) -> None:
    outcome = rig.run("def custom_code(window): return [1, 10**30]")
    assert ended(outcome) == "contract_broken"
    assert outcome.reason.startswith("value[1] is an integer beyond 64 bits")
    back = rig.value("def custom_code(window): return [float('nan'), float('-inf'), 2**64 - 1]")
    assert math.isnan(back[0])
    assert back[1:] == [-math.inf, 2**64 - 1]


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind": "value", "value": 1, "value": 2}',
        b'{"kind": "value", "value": {"a": 1, "a": 2}}',
        b'{"kind": "value", "value": NaN}',
        b'{"kind": "value", "value": 1e999}',
        b'{"kind": "value", "value": ' + b"9" * 5000 + b"}",
        b'{"kind": "value", "value": "\\ud800"}',
        b'{"kind": "value", "value": "\xff"}',
    ],
    ids=[
        "duplicate keys", "duplicate keys inside", "NaN", "infinity", "huge integer", "surrogate",
        "bad UTF-8",
    ],
)  # fmt: skip
def test_32_forged_json(rig: Rig, text: bytes) -> None:
    assert ended(forge(rig, text, "os._exit(0)")) == "contract_broken"


@pytest.mark.parametrize("kind", ["text", "bytes", "array"])
def test_33_exactly_at_the_limit_and_one_byte_over(rig: Rig, kind: str) -> None:
    size = 10_000
    limits = SMALL.model_copy(update={"value_bytes": size})
    # What is around: quotes in JSON; a head of three bytes in CBOR, or all that tells an array.
    made, around = {
        "text": ("'x' * window", 2),
        "bytes": ("bytes(window)", 3),
        "array": ("__import__('array').array('B', bytes(window))", 16),
    }[kind]
    source = f"def custom_code(window): return {made}"
    assert ended(rig.run(source, size - around, limits=limits)) == "value"
    over = rig.run(source, size - around + 1, limits=limits)
    assert ended(over) == f"limit_exceeded value_size {size}"
    assert seen(over, Limit.VALUE_SIZE) == size + 1


@pytest.mark.parametrize(
    "made", ["'x' * 200_000_000", "bytes(200_000_000)", "[b'x' * 1000] * 150_000"]
)
def test_33_far_over_the_limit(rig: Rig, made: str) -> None:
    outcome = rig.run(
        f"def custom_code(window): return {made}",
        limits=SMALL.model_copy(update={"memory_mb": 256}),
    )
    assert ended(outcome) == f"limit_exceeded value_size {SMALL.value.size}"


def test_34_pickle_bytes_and_dunder_keys_are_only_values(rig: Rig) -> None:
    value = {"__reduce__": b"\x80\x04cos\nsystem\n.", "__class__": ["~b", {"~t": 1}]}
    assert rig.value("def custom_code(window): return window", value) == value


@pytest.mark.parametrize("made", ["{1: 2}", "{1}", "object()", "lambda: 1", "(n for n in [1])"])
def test_34_what_may_not_travel(rig: Rig, made: str) -> None:
    outcome = rig.run(f"def custom_code(window): return [{made}]")
    assert ended(outcome) == "contract_broken"
    assert outcome.reason.startswith("value[0]")
