"""One order to many vehicles is the same as one to each."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from orchestrator import outbox as publishing
from orchestrator.bundle import Bundle, written
from orchestrator.store.outbox import BUNDLE
from orchestrator.turn import Turn
from protocol import messages, topics
from protocol.errors import BrokerBusy, LinkError, NotConnected
from protocol.link import Outgoing
from protocol.messages import ORDER, OnboardOrder, new_id

PATTERN = topics.all_of("vehicles", "orders")


def order(id_: str, previous: Any = None) -> OnboardOrder:
    return OnboardOrder(
        id=id_, assignment="a", iteration=1, user_id="ada", method="mean", signals="S", samples=1,
        first=0, timeout_s=1.5, previous=previous,
    )  # fmt: skip


def bundle(number: int) -> Bundle:
    to = [(f"car-{i}", new_id()) for i in range(number)]
    return Bundle(PATTERN, b'{"id":"MARK","n":1}', "application/json", "MARK", to, 5)


@given(
    st.integers(1, 5),
    st.sampled_from([None, "text", {"x": [1, 2.5]}, {"~a": ["<f8", [1], bytes(8)]}, b"\0\1"]),
)
def test_each_vehicle_gets_the_order_that_it_would_have_got_alone(
    number: int, previous: Any
) -> None:
    to = [(f"car-{i}", new_id()) for i in range(number)]
    together, alone = Turn(Session(), 0.0), Turn(Session(), 0.0)
    together.order_all(to, lambda id_: order(id_, previous), 1.5)
    for vehicle, id_ in to:
        alone.order(topics.orders("vehicles", vehicle), order(id_, previous), 1.5)
    sent = [message for item in together.outgoing for message in written(item)]
    assert sent == alone.outgoing
    for (_, id_), message in zip(to, sent, strict=True):
        found = messages.decode(ORDER, message.payload, message.content_type)
        assert isinstance(found, OnboardOrder)
        assert found.id == id_


def test_a_mark_that_stands_elsewhere_too_is_not_used() -> None:
    doubled = bundle(1)._replace(payload=b'{"id":"MARK","params":{"x":"MARK"}}')
    assert bundle(1).fits
    assert not doubled.fits


def test_nobody_is_told_nothing() -> None:
    turn = Turn(Session(), 0.0)
    turn.order_all([], order, 1.0)
    assert turn.outgoing == []


@given(st.integers(1, 3 * BUNDLE))
def test_parts_are_the_whole(number: int) -> None:
    whole = bundle(number)
    parts = list(whole.parts(BUNDLE))
    assert all(0 < len(part.to) <= BUNDLE for part in parts)
    assert [m for part in parts for m in part.messages()] == list(whole.messages())


@given(
    st.lists(
        st.one_of(st.none(), st.integers(1, 4)), min_size=1, max_size=6
    ).flatmap(
        lambda sizes: st.tuples(
            st.just(sizes),
            st.lists(
                st.sampled_from([None, NotConnected(), BrokerBusy("x"), LinkError("y")]),
                min_size=sum(size or 1 for size in sizes),
                max_size=sum(size or 1 for size in sizes),
            ),
        )
    )
)  # fmt: skip
def test_what_the_broker_has_not_taken_is_published_once_more_and_nothing_else(
    case: tuple[list[int | None], list[LinkError | None]],
) -> None:
    sizes, told = case
    stored: list[tuple[int, Outgoing | Bundle]] = [
        (i, Outgoing(f"t/{i}", b"") if size is None else bundle(size))
        for i, size in enumerate(sizes)
    ]
    sent = [(id_, message) for id_, item in stored for message in written(item)]
    expected = [
        one
        for one, problem in zip(sent, told, strict=True)
        if isinstance(problem, NotConnected | BrokerBusy)
    ]
    left = publishing._unsent(stored, told)
    assert [(id_, message) for id_, item in left for message in written(item)] == expected
