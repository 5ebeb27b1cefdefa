"""From what was seen to the outcome: every kind, and who is to blame."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.sandbox import Limits
from edge_runtime.sandbox.classify import Seen, Stop, classify, is_blank, needs_engine, printed_by
from edge_runtime.sandbox.engine import Ending
from protocol.outcome import Kind, Limit

LIMITS = Limits(cpu_s=8, memory_mb=100, value_bytes=100, value_depth=4, value_items=20)
CALM: dict[str, Any] = {
    "stopped": None, "exit": 0, "signal": None, "seconds": 0.1, "cpu_s": 0.1, "printed": 0,
    "at": None, "left": 0, "oom_kills": 0, "forks_refused": 0, "memory_peak": 1000,
}  # fmt: skip


def report(answer: Any = None, **seen: Any) -> Seen:
    text = b"" if answer is None else json.dumps(answer).encode()
    return Seen(json.dumps(CALM | seen).encode() + b"\n" + text)


def test_value() -> None:
    outcome = classify(report({"kind": "value", "value": [1, {"~t": []}]}), LIMITS)
    assert outcome.kind is Kind.VALUE
    assert outcome.value == [1, {"~t": []}]


def test_none_is_a_value() -> None:
    assert classify(report({"kind": "value", "value": None}), LIMITS).kind is Kind.VALUE


def test_error() -> None:
    fault = {"type": "E\x1b[m", "message": "m\0", "lines": [{"number": 3, "function": "f"}]}
    outcome = classify(report({"kind": "error", "fault": fault}), LIMITS)
    assert outcome.kind is Kind.MODULE_ERROR
    assert outcome.fault is not None
    assert (outcome.fault.type, outcome.fault.message) == ("E", "m")


def test_refused() -> None:
    said = {"kind": "refused", "code": "no_custom_code", "reason": "none", "line": 4}
    outcome = classify(report(said), LIMITS)
    assert outcome.kind is Kind.REFUSED
    assert outcome.describe() == "no_custom_code: none (line 4, in <module>)"


@pytest.mark.parametrize(
    ("seen", "limit", "configured", "measured"),
    [
        ({"stopped": "time", "seconds": 10.01}, Limit.TIME, 10, 10.01),
        ({"stopped": "processes"}, Limit.PROCESSES, 64, None),
        ({"stopped": "output"}, Limit.OUTPUT, 64, None),
        ({"stopped": "answer"}, Limit.VALUE_SIZE, 100, None),
        ({"stopped": "memory", "memory_peak": 100 * 2**20}, Limit.MEMORY, 100, 100),
        ({"oom_kills": 1, "memory_peak": None}, Limit.MEMORY, 100, None),
        ({"exit": None, "signal": 24, "cpu_s": 7.98}, Limit.CPU, 8, 7.98),
        ({"exit": None, "signal": 9, "cpu_s": 9.0}, Limit.CPU, 8, 9.0),
    ],
)
def test_limits_that_the_supervisor_saw(
    seen: dict[str, Any], limit: Limit, configured: float, measured: float | None
) -> None:
    # Whatever the module says at the same time.
    outcome = classify(report({"kind": "value", "value": 1}, **seen), LIMITS)
    assert outcome.kind is Kind.LIMIT_EXCEEDED
    assert outcome.exceeded is not None
    assert (outcome.exceeded.limit, outcome.exceeded.configured) == (limit, configured)
    assert outcome.exceeded.seen == measured
    assert outcome.value is None


@pytest.mark.parametrize(("stop", "limit"), [(Stop.TIME, Limit.TIME), (Stop.OUTPUT, Limit.OUTPUT)])
def test_limits_that_the_host_saw(stop: Stop, limit: Limit) -> None:
    outcome = classify(Seen(None, stop, ending=Ending(False, 137, False)), LIMITS)
    assert outcome.exceeded is not None
    assert outcome.exceeded.limit is limit


def test_the_engines_word_on_memory_overrules_all() -> None:
    ending = Ending(running=False, status=137, oom_killed=True)
    honest = report({"kind": "value", "value": 1})
    for seen in (
        Seen(None, None, ending=ending),
        Seen(None, Stop.TIME, ending=ending),
        Seen(honest.report, None, ending=ending),
    ):
        outcome = classify(seen, LIMITS)
        assert outcome.exceeded is not None
        assert outcome.exceeded.limit is Limit.MEMORY


def test_killed_without_a_reason_of_ours_is_the_modules_own_doing() -> None:
    outcome = classify(report(exit=None, signal=9), LIMITS)
    assert (outcome.kind, outcome.exceeded) == (Kind.MODULE_ERROR, None)
    assert "SIGKILL" in outcome.reason
    assert "signal 99" in classify(report(exit=None, signal=99), LIMITS).reason


def test_where_it_was_stopped() -> None:
    outcome = classify(report(stopped="time", at=[7, "f\x1b[1m"]), LIMITS)
    assert outcome.reason == "stopped in line 7, in f"


def test_no_report_is_the_engines_failure() -> None:
    outcome = classify(Seen(None, None, "bad", Ending(False, 127, False)), LIMITS)
    assert outcome.kind is Kind.ENGINE_FAILURE
    assert "exit status 127" in outcome.reason
    late = classify(Seen(None, Stop.LATE), LIMITS)
    assert late.kind is Kind.ENGINE_FAILURE


def test_broken_stream() -> None:
    outcome = classify(Seen(None, Stop.BROKEN, "a frame claims 9 bytes"), LIMITS)
    assert outcome.kind is Kind.CONTRACT_BROKEN


@pytest.mark.parametrize(
    ("value", "configured", "unit"),
    [
        ("x" * 99, 100, "bytes"),
        ([[[[[[]]]]]], 4, "levels"),
        ([0] * 20, 20, "items"),
    ],
)
def test_value_over_a_bound(value: Any, configured: int, unit: str) -> None:
    outcome = classify(report({"kind": "value", "value": value}), LIMITS)
    assert outcome.exceeded is not None
    assert outcome.exceeded.limit is Limit.VALUE_SIZE
    assert (outcome.exceeded.configured, outcome.exceeded.unit) == (configured, unit)


def test_the_guests_own_word_on_a_value_over_a_bound() -> None:
    said = {"kind": "too_large", "reason": "value[0] is too deep", "unit": "levels"}
    outcome = classify(report(said), LIMITS)
    assert outcome.exceeded is not None
    assert (outcome.exceeded.configured, outcome.reason) == (4, "value[0] is too deep")
    made_up = classify(report(said | {"unit": "miles"}), LIMITS)
    assert made_up.exceeded is not None
    assert made_up.exceeded.unit == "bytes"


def test_who_asks_the_engine() -> None:
    assert needs_engine(Seen(None))
    assert needs_engine(report(oom_kills=None))
    assert not needs_engine(report(oom_kills=0))
    assert not needs_engine(Seen(b"garbage"))


def test_printed_by() -> None:
    seen = report(printed=12)
    assert seen.report is not None
    assert printed_by(seen.report) == 12
    assert printed_by(b"garbage") == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON | st.fixed_dictionaries({"kind": st.sampled_from(["value", "error", "refused"])}))
def test_any_answer_has_an_outcome_and_the_blame_is_never_ours(answer: Any) -> None:
    outcome = classify(report(answer), LIMITS)
    assert outcome.kind in {
        Kind.VALUE,
        Kind.CONTRACT_BROKEN,
        Kind.MODULE_ERROR,
        Kind.LIMIT_EXCEEDED,
    }


@given(st.dictionaries(st.sampled_from(sorted(CALM)), JSON, min_size=1))
def test_any_report_has_an_outcome(seen: dict[str, Any]) -> None:
    outcome = classify(report({"kind": "value", "value": 1}, **seen), LIMITS)
    assert outcome.kind is not Kind.ENGINE_FAILURE


@given(st.binary(max_size=300))
def test_any_bytes_have_an_outcome(data: bytes) -> None:
    assert classify(Seen(data), LIMITS).kind is Kind.CONTRACT_BROKEN


def test_a_container_may_serve_again_only_if_it_is_as_before() -> None:
    answered = report({"kind": "value", "value": 1})
    assert is_blank(answered)
    assert is_blank(report({"kind": "error", "fault": {"type": "E", "message": ""}}))
    for seen in (
        report(stopped="time"), report(exit=1), report(exit=None, signal=9), report(left=1),
        report(oom_kills=1), report(left="x"), Seen(None), Seen(b"{}"),
        Seen(answered.report, Stop.OUTPUT),
    ):  # fmt: skip
        assert not is_blank(seen), seen


def test_what_libraries_do_while_they_are_imported_is_the_modules() -> None:
    late = classify(Seen(None, Stop.IMPORT_TIME), LIMITS)
    assert late.exceeded is not None
    assert (late.exceeded.limit, late.exceeded.configured) == (Limit.TIME, 30)
    assert "being imported" in late.describe()
    ended = classify(Seen(None, Stop.IMPORT_END, "bye"), LIMITS)
    assert ended.kind is Kind.MODULE_ERROR
    assert ended.reason == "a library ended the process while it was imported bye"
