"""A bad request gets one clear error with a stable code, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

import oodida
from protocol import topics
from protocol.errors import OodidaError
from protocol.link import Outgoing
from protocol.messages import Reply, new_id
from protocol.values import JSON

GOOD: dict[str, Any] = {
    "onboard": {"method": "mean", "signals": "VEHICLE_SPEED", "samples": 3},
    "offboard": {"method": "mean"},
}


def changed(part: str, **changes: Any) -> dict[str, Any]:
    return {**GOOD, part: {**GOOD[part], **changes}}


CASES = {
    "unknown method": (changed("onboard", method="maen"), "unknown_method"),
    "unknown off-board method": (changed("offboard", method="meen"), "unknown_method"),
    "unknown signal": (changed("onboard", signals="VEHICLE_SPED"), "unknown_signal"),
    "zero samples": (changed("onboard", samples=0), "bad_request"),
    "a text for samples": (changed("onboard", samples="ten"), "bad_request"),
    "a parameter of the wrong type": (
        changed("onboard", method="threshold_exceedance", params={"threshold": "fast"}),
        "bad_parameter",
    ),
    "a parameter too many": (changed("onboard", params={"speed": 1}), "bad_parameter"),
    "unknown vehicle": ({**GOOD, "vehicles": {"names": ["ghost"]}}, "unknown_vehicle"),
    "nobody has the attribute": (
        {**GOOD, "vehicles": {"attributes": {"model": "tank"}}},
        "unknown_vehicle",
    ),
    "unknown module": (changed("onboard", method="custom", module="none"), "unknown_module"),
    "unknown off-board module": (
        changed("offboard", method="custom", module="none"),
        "unknown_module",
    ),
    "custom without module": (changed("onboard", method="custom"), "bad_request"),
    "zero iterations": ({**GOOD, "iterations": 0}, "bad_request"),
    "an unknown consistency": ({**GOOD, "consistency": "most"}, "bad_request"),
    "a field that is none": ({**GOOD, "colour": "red"}, "bad_request"),
    "no on-board part": ({"offboard": {"method": "mean"}}, "bad_request"),
    "pinned without code": ({**GOOD, "consistency": "pinned"}, "bad_request"),
    "not an object": ([1, 2], "bad_request"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cloud_refuses_it_and_stores_nothing(ada: oodida.Fleet, case: str) -> None:
    assignment, code = CASES[case]
    request = {"mode": "submit", "user_id": ada.user, "id": new_id(), "assignment": assignment}
    with pytest.raises(OodidaError) as caught:
        ask_raw(ada, json.dumps(request).encode())
    assert caught.value.code == code
    assert len(caught.value.message) > 10
    assert ada.assignments() == []


def ask_raw(fleet: oodida.Fleet, payload: bytes) -> Reply:
    """Send bytes as a request, around every check of the library."""
    connection = fleet._connection
    return connection.do(connection.exchange(payload, JSON))


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b'{"mode":"dance"}', b"\xff\xfe", b"[" * 50_000, b'{"mode":1e999}'],
)
def test_bytes_that_are_no_request_are_answered_too(ada: oodida.Fleet, payload: bytes) -> None:
    with pytest.raises(OodidaError) as caught:
        ask_raw(ada, payload)
    assert caught.value.code == "bad_request"


def test_nobody_asks_in_anothers_name(ada: oodida.Fleet, bob: oodida.Fleet) -> None:
    request = {"mode": "assignments", "user_id": bob.user}
    with pytest.raises(oodida.BadRequest, match="another's name"):
        ask_raw(ada, json.dumps(request).encode())


def test_nobody_sees_or_ends_anothers_assignment(ada: oodida.Fleet, bob: oodida.Fleet) -> None:
    run = ada.submit(oodida.Assignment.model_validate(GOOD))
    run.result()
    for attempt in (bob.run, bob.cancel):
        with pytest.raises(OodidaError) as caught:
            attempt(run.id)
        assert caught.value.code == "unknown_assignment"


def test_an_id_is_not_used_twice_and_the_same_request_is_done_once(
    ada: oodida.Fleet, bob: oodida.Fleet
) -> None:
    id_ = new_id()

    def submit(fleet: oodida.Fleet, **changes: Any) -> Reply:
        request = {"mode": "submit", "user_id": fleet.user, "id": id_, "assignment": GOOD}
        return ask_raw(fleet, json.dumps({**request, **changes}).encode())

    submit(ada)
    submit(ada)
    assert [a.id for a in ada.assignments()] == [id_]
    for fleet, changes in ((bob, {}), (ada, {"assignment": {**GOOD, "iterations": 2}})):
        with pytest.raises(OodidaError) as caught:
            submit(fleet, **changes)
        assert caught.value.code == "id_taken"


def test_rubbish_on_every_topic_disturbs_nobody(ada: oodida.Fleet) -> None:
    connection = ada._connection
    for topic in (
        topics.reports("vehicles", "car-1"),
        topics.reports("workers", "nobody"),
        topics.orders("vehicles", "car-1"),
        topics.offboard_orders(),
        topics.receipts("vehicles", "car-1"),
        topics.requests(ada.user),
        topics.events(ada.user, "x"),
    ):
        for payload in (b"", b"\x00\xff", b'{"kind":"task"}', b"[" * 5000):
            connection.do(connection._link.publish(Outgoing(topic, payload)))
    counted = changed("onboard", method="count")
    assert ada.submit(oodida.Assignment.model_validate(counted)).result() == 3


MODULE = "def custom_code(window):\n    return 1\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"environment": ["six"]}, "environment is a name"),
        ({"limits": ["time_s"]}, "limits is a dict"),
        ({"returns": "number"}, "returns is a JSON schema as a dict"),
        ({"timeout_s": 0}, "seconds above 0"),
        ({"timeout_s": float("nan")}, "seconds above 0"),
    ],
)
def test_what_cannot_be_an_option_of_a_deployment(
    ada: oodida.Fleet, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(oodida.BadRequest, match=said):
        ada.deploy(MODULE, name="m", **wrong)
    assert ada.modules() == []


def test_a_library_that_is_missing_is_told_with_what_to_do(ada: oodida.Fleet) -> None:
    with pytest.raises(oodida.ModuleRefused, match=r"oodida\.Environment"):
        ada.deploy(f"import no_such_library\n{MODULE}", name="m")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limits": {"tim": 1}}, "tim"),
        ({"limits": 5}, "limits is a dict"),
        ({"wheel_folder": "nofolder"}, "no folder nofolder"),
    ],
)
def test_what_a_system_of_ones_own_cannot_have_is_said_before_it_starts(
    wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(oodida.OodidaError, match=said), oodida.local({"car-1": None}, **wrong):
        pass
