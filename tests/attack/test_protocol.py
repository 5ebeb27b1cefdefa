"""The way the answer takes, and its form: cases 24 to 34 of the catalogue."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from protocol.outcome import Kind, Limit, Outcome
from tests.attack.harness import SMALL, Rig

#: Writes `window` to every descriptor that is open.
FORGE = """
import os

def forge(data):
    for descriptor in range(1 if len(data) < 1000 else 3, 256):  # 1 and 2 are only printed
        try:
            os.write(descriptor, data)
        except OSError:
            pass
"""


def forge(rig: Rig, data: bytes, then: str) -> Outcome:
    return rig.run(f"{FORGE}\ndef custom_code(window):\n    forge(window)\n    {then}\n", data)


def answer(**said: Any) -> bytes:
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    "data",
    [
        answer(kind="value", value="forged"),
        struct.pack(">I", 5) + b"false",
        b"\xff\xff\xff\xff",
        b"\x00" * 100,
        b"\x01\x00\x00\x00\x00\x00\x00\x04true",
    ],
    ids=["an answer", "a frame", "an absurd length", "zeros", "a block of the engine"],
)
def test_something_written_beside_the_answer(rig: Rig, data: bytes) -> None:
    outcome = forge(rig, data, "return 'honest'")
    assert outcome.kind is Kind.CONTRACT_BROKEN, outcome


def test_a_forged_answer_is_no_more_than_a_value(rig: Rig) -> None:
    # A module may return what it likes; writing it down itself gains it nothing.
    outcome = forge(rig, answer(kind="value", value="forged"), "os._exit(0)")
    assert outcome.ok
    assert outcome.value == "forged"


@pytest.mark.parametrize(
    "said",
    [
        {"kind": "value"},
        {"kind": "died", "status": 0},
        {"kind": "error", "fault": {"type": 1}},
        {"kind": "error", "fault": {"type": "E", "message": "m" * 3000}},
        {"kind": "error", "fault": {"type": "E", "message": "", "lines": [{"number": 1}] * 21}},
        {"kind": "value", "value": {"~a": ["|O8", [1], "x"]}},
        {"kind": "value", "value": {"~a": ["<f8", [1 << 40], {"~b": "AAAA"}]}},
        {"kind": "value", "value": {"~b": "no base64!"}},
        {"kind": "value", "value": {"~f": "huge"}},
        ["value", 1],
        None,
    ],
    ids=str,
)
def test_a_forged_answer_of_another_form(rig: Rig, said: Any) -> None:
    outcome = forge(rig, json.dumps(said).encode(), "os._exit(0)")
    assert outcome.kind is Kind.CONTRACT_BROKEN, outcome
    assert outcome.value is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind": "value", "value": 1, "value": 2}',
        b'{"kind": "value", "value": NaN}',
        b'{"kind": "value", "value": ' + b"9" * 5000 + b"}",
        b'{"kind": "value", "value": "\\ud800"}',
        b'{"kind": "value", "value": "\xff"}',
        b'{"kind": "value", "value": 1}{"kind": "value", "value": 2}',
    ],
    ids=["duplicate keys", "NaN", "huge integer", "surrogate", "bad UTF-8", "two answers"],
)
def test_forged_json(rig: Rig, text: bytes) -> None:
    assert forge(rig, text, "os._exit(0)").kind is Kind.CONTRACT_BROKEN


def test_forged_json_of_great_depth(rig: Rig) -> None:
    text = b'{"kind": "value", "value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    outcome = forge(rig, text, "os._exit(0)")
    assert outcome.exceeded is not None, outcome
    assert outcome.exceeded.limit is Limit.VALUE_SIZE
    assert outcome.exceeded.unit == "levels"


@pytest.mark.parametrize(("status", "said"), [(0, "ended its process"), (3, "exit status 3")])
def test_exit_before_the_answer(rig: Rig, status: int, said: str) -> None:
    outcome = rig.run(f"import os\ndef custom_code(window):\n    os._exit({status})\n")
    assert outcome.kind is Kind.MODULE_ERROR
    assert said in outcome.reason


def test_exit_status_and_answer_disagree(rig: Rig) -> None:
    outcome = forge(rig, answer(kind="value", value="forged"), "os._exit(9)")
    assert outcome.kind is Kind.MODULE_ERROR
    assert "exit status 9" in outcome.reason
    assert outcome.value is None


def test_sys_exit(rig: Rig) -> None:
    outcome = rig.run("import sys\ndef custom_code(window):\n    sys.exit(0)\n")
    assert outcome.kind is Kind.MODULE_ERROR
    assert outcome.fault is not None
    assert (outcome.fault.type, outcome.fault.lines[-1].number) == ("SystemExit", 3)


def test_descriptors_closed(rig: Rig) -> None:
    outcome = rig.run(
        "import os\ndef custom_code(window):\n    os.closerange(0, 256)\n    return 1\n"
    )
    assert outcome.kind is Kind.MODULE_ERROR, outcome


def test_somebody_elses_name_in_a_value_is_only_a_value(rig: Rig) -> None:
    claim = {"task": "t-2", "vehicle": "car-2", "digest": "0" * 64, "kind": "value"}
    outcome = rig.run("def custom_code(window): return window", claim)
    assert outcome.value == claim
    assert outcome.seconds > 0


def test_nested_deeply(rig: Rig) -> None:
    outcome = rig.run(
        """
        def custom_code(window):
            nested = []
            for _ in range(100_000):
                nested = [nested]
            return nested
        """
    )
    assert outcome.exceeded is not None, outcome
    assert outcome.exceeded.limit is Limit.VALUE_SIZE
    assert (outcome.exceeded.configured, outcome.exceeded.unit) == (32, "levels")


def test_a_list_that_holds_itself(rig: Rig) -> None:
    outcome = rig.run("def custom_code(window):\n    a = []\n    a.append(a)\n    return a\n")
    assert outcome.exceeded is not None
    assert outcome.exceeded.unit == "levels"


def test_too_many_items(rig: Rig) -> None:
    outcome = rig.run("def custom_code(window): return [0] * 1_000_000")
    assert outcome.exceeded is not None, outcome
    assert (outcome.exceeded.configured, outcome.exceeded.unit) == (200_000, "items")


def test_huge_integer(rig: Rig) -> None:
    outcome = rig.run("def custom_code(window): return [1, 10**30]")
    assert outcome.kind is Kind.CONTRACT_BROKEN
    assert outcome.reason.startswith("value[1] is an integer beyond 64 bits")


def test_not_a_number(rig: Rig) -> None:
    back = rig.value("def custom_code(window): return [float('nan'), float('-inf')]")
    assert math.isnan(back[0])
    assert back[1] == -math.inf


@pytest.mark.parametrize("kind", ["text", "bytes", "array"])
def test_exactly_at_the_limit_and_one_byte_over(rig: Rig, kind: str) -> None:
    size = 10_000
    limits = SMALL.model_copy(update={"value": SMALL.value._replace(size=size)})
    # What is around: quotes in JSON; a head of three bytes in CBOR, or all that tells an array.
    made, around = {
        "text": ("'x' * window", 2),
        "bytes": ("bytes(window)", 3),
        "array": ("__import__('array').array('B', bytes(window))", 16),
    }[kind]
    source = f"def custom_code(window): return {made}"
    assert rig.run(source, size - around, limits=limits).ok
    over = rig.run(source, size - around + 1, limits=limits)
    assert over.exceeded is not None, over
    assert over.exceeded.limit is Limit.VALUE_SIZE
    assert (over.exceeded.configured, over.exceeded.seen) == (size, size + 1)


@pytest.mark.parametrize(
    "made", ["'x' * 200_000_000", "bytes(200_000_000)", "[b'x' * 1000] * 150_000"]
)
def test_far_over_the_limit(rig: Rig, made: str) -> None:
    outcome = rig.run(
        f"def custom_code(window): return {made}",
        limits=SMALL.model_copy(update={"memory_mb": 256}),
    )
    assert outcome.exceeded is not None, outcome
    assert outcome.exceeded.limit is Limit.VALUE_SIZE


def test_pickle_bytes_and_dunder_keys_are_only_values(rig: Rig) -> None:
    value = {"__reduce__": b"\x80\x04cos\nsystem\n.", "__class__": ["~b", {"~t": 1}]}
    assert rig.value("def custom_code(window): return window", value) == value


@pytest.mark.parametrize("made", ["{1: 2}", "{1}", "object()", "lambda: 1", "(n for n in [1])"])
def test_what_may_not_travel(rig: Rig, made: str) -> None:
    outcome = rig.run(f"def custom_code(window): return [{made}]")
    assert outcome.kind is Kind.CONTRACT_BROKEN
    assert outcome.reason.startswith("value[0]")
