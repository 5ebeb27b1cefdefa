"""Messages that are nearly right, on every topic: nobody dies of them, and nothing is believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

import oodida
from protocol import topics
from protocol.link import Link, Outgoing
from protocol.messages import new_id
from protocol.values import CBOR, JSON
from tests.end_to_end.conftest import VEHICLES

HUGE = 10**5000
REPORT: dict[str, Any] = {
    "kind": "task", "id": "r", "task": "t", "attempt": 1, "state": "succeeded", "digest": "0" * 64,
}  # fmt: skip


def text(message: Any) -> tuple[bytes, str]:
    return json.dumps(message).replace("Infinity", "1e999").encode(), JSON


def binary(message: Any) -> tuple[bytes, str]:
    return cbor2.dumps(message), CBOR


def outcome(**fields: Any) -> dict[str, Any]:
    return {**REPORT, "outcome": {"kind": "value", **fields}}


INFINITE = float("inf")
CASES: dict[str, tuple[Callable[[], str], tuple[bytes, str]]] = {
    "an infinite value": (
        lambda: topics.reports("vehicles", "car-1"), text(outcome(value=INFINITE)),
    ),
    "an infinite time": (
        lambda: topics.reports("vehicles", "car-1"), text(outcome(value=1, seconds=INFINITE)),
    ),
    "a mark that holds nothing": (
        lambda: topics.reports("vehicles", "car-1"), text(outcome(value={"~f": "boom"})),
    ),
    "an array whose bytes do not fit": (
        lambda: topics.reports("vehicles", "car-1"),
        binary(outcome(value={"~a": ["<f8", [2**40], b"x"]})),
    ),
    "a failure with a value": (
        lambda: topics.reports("vehicles", "car-1"),
        text({**REPORT, "state": "failed", "outcome": {"kind": "module_error", "value": 1}}),
    ),
    "a date": (
        lambda: topics.reports("vehicles", "car-1"), binary(outcome(value=cbor2.CBORTag(1, 0))),
    ),
    "repeated strings": (
        lambda: topics.reports("vehicles", "car-1"),
        (cbor2.dumps(outcome(value=["x" * 900] * 400), string_referencing=True), CBOR),
    ),
    "a presence with an infinite attribute": (
        lambda: topics.presence("vehicles", f"x-{new_id()}"),
        text({"online": True, "session": 1, "attributes": {"a": INFINITE}}),
    ),
    "a presence of a megabyte": (
        lambda: topics.presence("vehicles", f"x-{new_id()}"),
        text({"online": True, "session": 1, "signals": {f"s{i}": "u" * 500 for i in range(1900)}}),
    ),
    "a huge number on receipts": (
        lambda: topics.receipts("vehicles", "car-2"), binary({"id": HUGE}),
    ),
    "a huge number in an order": (
        lambda: topics.orders("vehicles", "car-3"), binary({"kind": "onboard", "id": HUGE}),
    ),
    "an order with a name that breaks lines": (
        lambda: topics.orders("vehicles", "car-3"), text({"kind": "cancel", "a\nINFO\x1b[31m": 1}),
    ),
    "a module that is not its topic's": (
        lambda: topics.modules("car-1", "eve", "m"), text({"mode": "deploy_onboard", "name": "n"}),
    ),
    "a huge number as a module": (
        lambda: topics.modules("car-1", "eve", "m"), binary({"generation": HUGE}),
    ),
    "an off-board order with no values": (
        topics.offboard_orders,
        text({"kind": "offboard", "id": "x", "assignment": "a", "iteration": 1, "user_id": "eve",
              "method": "mean", "timeout_s": 1, "results": [{"~a": 1}]}),
    ),
    "an order for a method that is none": (
        lambda: topics.orders("vehicles", "car-1"),
        text({"kind": "onboard", "id": new_id(), "assignment": "a", "iteration": 1, "samples": 1,
              "user_id": "eve", "method": "none", "timeout_s": 5, "signals": "A", "first": 0}),
    ),
}  # fmt: skip


def everybody(**changes: Any) -> oodida.Assignment:
    return oodida.Assignment(
        vehicles=oodida.Select.ids(*VEHICLES),
        onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=3),
        offboard=oodida.Offboard("sum"),
        **changes,
    )


def publish(fleet: oodida.Fleet, topic: str, payload: bytes, content_type: str) -> None:
    link = fleet._connection._link
    fleet._connection.do(link.publish(Outgoing(topic, payload, content_type)))


@pytest.mark.parametrize("case", CASES)
def test_everybody_goes_on(ada: oodida.Fleet, case: str) -> None:
    topic, (payload, content_type) = CASES[case]
    publish(ada, topic(), payload, content_type)
    run = ada.submit(everybody())
    assert run.result(timeout_s=30) == 9
    assert {p.status for p in run.iterations[0].participation.values()} == {"included"}
    assert {v.name for v in ada.vehicles() if v.online} >= set(VEHICLES)


def test_an_analyst_who_is_sent_rubbish_reads_on(ada: oodida.Fleet) -> None:
    run = ada.submit(everybody(iterations=2))
    for payload, content_type in (
        text({"kind": "iteration", "assignment": run.id, "number": 1, "value": {"~f": "boom"},
              "results": [], "participation": {}}),
        text({"kind": "end", "assignment": run.id, "state": "failed", "iterations": 10**9}),
        binary({"kind": "end", "assignment": HUGE}),
        (b"{", JSON),
    ):  # fmt: skip
        publish(ada, topics.events(ada.user, run.id), payload, content_type)
    assert run.result(timeout_s=30) == 9
    assert len(run.iterations) == 2


def test_an_off_board_result_is_taken_from_workers_only(ada: oodida.Fleet) -> None:
    """A vehicle, known or not, answers for itself; it cannot end the off-board part."""
    slow = (
        "import time\ndef custom_code(results):\n"
        "    time.sleep(2 if len(results) == 2 else 0)\n    return sum(results)\n"
    )
    ada.deploy(slow, name="slow", to="cloud")
    spec = oodida.Assignment(
        vehicles=oodida.Select.ids("car-1", "car-2"),
        onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=3),
        offboard=oodida.Offboard("custom", module="slow"),
    )
    run = asyncio.run(_forge(ada, spec))
    assert run.result(timeout_s=30) == 6


async def _forge(fleet: oodida.Fleet, spec: oodida.Assignment) -> oodida.Run:
    """Submit, overhear the off-board order, and answer it as vehicles, known and unknown."""
    async with Link(fleet.url, new_id(), subscriptions=[topics.offboard_orders()]) as link:
        run = await asyncio.to_thread(fleet.submit, spec)
        order: dict[str, Any] = {}
        while order.get("assignment") != run.id:
            message = await link.receive()
            message.acknowledge()
            order = json.loads(message.payload)
        for name in ("car-1", "nobody"):
            forged = {
                **REPORT, "id": new_id(), "task": order["id"],
                "outcome": {"kind": "value", "value": "FORGED"},
            }  # fmt: skip
            payload, content_type = text(forged)
            await link.publish(Outgoing(topics.reports("vehicles", name), payload, content_type))
        return run
