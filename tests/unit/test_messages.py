"""Messages: what is written can be read, what is strange is one error, and little is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import messages, topics, values
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.errors import BadRequest
from protocol.lifecycle import TaskState
from protocol.messages import (
    EVENT,
    MODULE,
    ORDER,
    REPLY,
    REPORT,
    REQUEST,
    Deploy,
    EndEvent,
    IterationEvent,
    ModuleMessage,
    OffboardOrder,
    OnboardOrder,
    Reply,
    Result,
    Submit,
    TaskReport,
)
from protocol.module import Environment, Module, Side, digest_of
from protocol.outcome import Kind, Outcome
from protocol.participation import Participation

KINDS: list[Any] = [ORDER, REPORT, REQUEST, EVENT, MODULE]

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.binary(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.text(max_size=8).filter(lambda k: k not in values.MARKS), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


@given(TREES)
def test_a_report_with_any_value_is_read_as_it_was_written(tree: values.Tree) -> None:
    report = TaskReport(
        id="r", task="t", attempt=1, state=TaskState.SUCCEEDED,
        outcome=Outcome(kind=Kind.VALUE, value=tree), digest="0" * 64, generation=3, seconds=0.5,
    )  # fmt: skip
    assert messages.decode(REPORT, *messages.encode(report)) == report


@given(st.lists(TREES, max_size=4), TREES)
def test_orders_survive(results: list[values.Tree], previous: values.Tree) -> None:
    order = OffboardOrder(
        id="t", assignment="a", iteration=2, user_id="ada", method="mean", timeout_s=1,
        results=results, previous=previous,
    )  # fmt: skip
    assert messages.decode(ORDER, *messages.encode(order)) == order


def test_events_inside_a_reply_keep_their_kind() -> None:
    iteration = IterationEvent(
        assignment="a", number=1, value=1.5,
        results=[Result(vehicle="car-1", value=1.5, outcome=Kind.VALUE)],
        participation={"car-1": Participation(status="included")},
    )  # fmt: skip
    end = EndEvent.model_validate({"assignment": "a", "state": "succeeded", "iterations": 1})
    reply = Reply(history=[iteration, end])
    assert messages.decode(REPLY, *messages.encode(reply)) == reply
    assert messages.decode(EVENT, *messages.encode(iteration)) == iteration


def test_a_submission_is_readable_json() -> None:
    spec = Assignment(
        vehicles=Select.ids("car-1"),
        onboard=Onboard("mean", signals="SPEED", samples=5),
        offboard=Offboard("mean"),
    )
    data, content_type = messages.encode(Submit(user_id="ada", id="a1", assignment=spec))
    assert content_type == values.JSON
    assert json.loads(data)["assignment"]["onboard"]["method"] == "mean"
    read = messages.decode(REQUEST, data, content_type)
    assert isinstance(read, Submit)
    assert read.assignment == spec


@given(st.binary(max_size=200), st.sampled_from([values.JSON, values.CBOR, "text/html", ""]))
def test_no_bytes_do_more_than_raise_bad_request(data: bytes, content_type: str) -> None:
    for kind in KINDS:
        with pytest.raises(BadRequest):
            messages.decode(kind, data, content_type)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[" * 100_000,
        b'{"kind":"task"}',
        b'{"kind":"onboard","kind":"offboard"}',
        b'{"kind":"onboard","id":"+","extra":1}',
        b'{"mode":"submit","user_id":"ada","id":"a","assignment":{"onboard":{"method":"mean"}}}',
        b"9" * 5000,
    ],
)
def test_hostile_json_is_one_error(data: bytes) -> None:
    for kind in KINDS:
        with pytest.raises(BadRequest):
            messages.decode(kind, data, values.JSON)


def test_cbor_with_shared_references_is_refused() -> None:
    cycle = bytes.fromhex("d81c81d81d00")  # an array that holds itself
    with pytest.raises(BadRequest, match="CBOR"):
        messages.decode(REPORT, cycle, values.CBOR)


def test_a_module_whose_digest_does_not_fit_is_none() -> None:
    source = "def custom_code(w): return 1"
    digest = digest_of(source, "minimal")
    module = Module(
        user_id="ada", name="m", side=Side.ONBOARD, generation=1, source=source, digest=digest,
        environment=Environment.MINIMAL,
    )  # fmt: skip
    message = ModuleMessage.of(module)
    assert message.module() == module
    forged = message.model_copy(update={"custom_code": source + " "})
    with pytest.raises(ValueError, match="digest"):
        forged.module()


def test_a_deployment_on_the_wire_is_an_assignment_as_in_the_paper() -> None:
    source = "def custom_code(w):\n    return max(w)\n"
    deploy = Deploy(mode="deploy_onboard", user_id="ada", id="d1", name="m", custom_code=source)
    tree = json.loads(messages.encode(deploy)[0])
    assert (tree["user_id"], tree["mode"], tree["custom_code"]) == ("ada", "deploy_onboard", source)


def test_an_onboard_order_may_ask_for_one_signal_or_several() -> None:
    for signals in ("A", ("A", "B")):
        order = OnboardOrder(
            id="t", assignment="a", iteration=1, user_id="ada", method="mean", timeout_s=1,
            signals=signals, samples=3, first=0,
        )  # fmt: skip
        assert messages.decode(ORDER, *messages.encode(order)) == order
    assert topics.is_name(messages.new_id())
