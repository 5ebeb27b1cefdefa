"""The topic tree: what is made can be taken apart, and nothing else is ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import topics

NAMES = st.from_regex(topics.NAME, fullmatch=True).filter(topics.is_name)


@given(NAMES, NAMES, NAMES)
def test_each_topic_can_be_taken_apart(a: str, b: str, c: str) -> None:
    assert topics.parse(topics.presence("workers", a)) == ("workers", a, "presence", ())
    assert topics.parse(topics.modules(a, b, c)) == ("vehicles", a, "modules", (b, c))
    assert topics.parse(topics.orders("vehicles", a)) == ("vehicles", a, "orders", ())
    assert topics.parse(topics.reports("vehicles", a)) == ("vehicles", a, "reports", ())
    assert topics.parse(topics.receipts("vehicles", a)) == ("vehicles", a, "receipts", ())
    assert topics.parse(topics.offboard_modules(a, b)) == ("offboard", "", "modules", (a, b))
    assert topics.parse(topics.requests(a)) == ("analysts", a, "requests", ())
    assert topics.parse(topics.replies(a, b)) == ("analysts", a, "replies", (b,))
    assert topics.parse(topics.events(a, b)) == ("analysts", a, "events", (b,))
    assert topics.parse(topics.offboard_orders()) == ("offboard", "", "orders", ())


@given(st.text(max_size=80))
def test_no_text_makes_parse_raise_and_no_wildcard_is_taken(text: str) -> None:
    address = topics.parse(f"oodida/v1/vehicles/{text}/orders")
    if address is not None:
        assert not set("+#/\0") & set(address.name)


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "$share", "ä", "a\0", "-a", "x" * 65, "a\n"])
def test_what_is_no_name_cannot_enter_a_topic(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be part"):
        topics.orders("vehicles", name)


@pytest.mark.parametrize(
    "topic", ["", "oodida", "oodida/v1", "oodida/v2/vehicles/a/orders", "a/b/c/d/e", "oodida/v1/x"]
)
def test_foreign_topics_are_not_ours(topic: str) -> None:
    assert topics.parse(topic) is None
