"""How many items a message holds, before any of them is made."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import messages
from protocol.errors import BadRequest
from protocol.messages import REPORT, counting
from protocol.messages.counting import MOST, SMALL, require_few
from protocol.values import CBOR, JSON

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)  # fmt: skip


def items(tree: Any) -> int:
    """Keys are items too."""
    if isinstance(tree, dict):
        return 1 + sum(1 + items(value) for value in tree.values())
    return 1 + sum(map(items, tree)) if isinstance(tree, list) else 1


@given(TREES, st.integers(0, 100))
def test_cbor_is_counted_exactly(tree: Any, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "MOST", most)
        assert counting._few_cbor(cbor2.dumps(tree)) == (items(tree) <= most)


@given(st.binary())
def test_whatever_the_bytes_are_they_are_counted(data: bytes) -> None:
    assert counting._few_cbor(data)
    assert counting._few_json(data)


BIG = 8 * 2**20 - 16
HOSTILE: dict[str, tuple[bytes, str]] = {
    "numbers": (b"[" + b"1," * (BIG // 2 - 1) + b"1]", JSON),
    "lists": (b"[" * (BIG // 2) + b"]" * (BIG // 2), JSON),
    "dicts": (b"[" + b'{"":1},' * (BIG // 7 - 1) + b"1]", JSON),
    "texts": (b"[" + b'"",' * (BIG // 3 - 1) + b"1]", JSON),
    "cbor numbers": (cbor2.dumps([1] * (BIG - 8)), CBOR),
    "cbor lists": (b"\x81" * (BIG - 1) + b"\x80", CBOR),
    "cbor texts": (cbor2.dumps([""] * (BIG - 8)), CBOR),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_be_millions_of_objects_is_refused_unread(name: str) -> None:
    with pytest.raises(BadRequest, match="items"):
        messages.decode(REPORT, *HOSTILE[name])


def test_large_texts_bytes_and_arrays_are_few_items() -> None:
    table = "\n".join(["1.5,2.5,3.5"] * 400_000)
    require_few(json.dumps({"value": table}).encode(), JSON)
    require_few(cbor2.dumps({"value": [bytes(range(256)) * 30_000, table]}), CBOR)
    require_few(b"," * SMALL, JSON)


def test_the_most_items_that_a_value_has_may_come() -> None:
    tree = {"value": [{"a": 1, "b": [2, 3]}] * (MOST // 8)}
    require_few(json.dumps(tree).encode(), JSON)
    require_few(cbor2.dumps(tree), CBOR)
