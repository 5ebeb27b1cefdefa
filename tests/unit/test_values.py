"""Which values may travel, and that they arrive as they were."""

from __future__ import annotations

import json
import math
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol import values
from protocol.values import Bounds, TooLarge, ValueProblem

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = TEXT | st.sampled_from(sorted(values.MARKS))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=20,
)
DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | hnp.complex_number_dtypes(endianness="?", sizes=(64, 128))
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@given(VALUES)
@example({"~b": "x"})
@example({"~b": "AAAA"})
@example({"~d": {"~d": 1}})
@example([{"~t": [1]}, {"~f": "nan"}, {"~a": 1}])
@example([-0.0, math.inf, 2**64 - 1, "\0", "\u2028"])
def test_value_survives_both_ways_of_writing(value: Any) -> None:
    tree = values.check(values.pack(value))
    for back in (
        values.decode(*values.encode(tree)),
        values.from_text(values.to_text(tree)),
    ):
        assert same(values.unpack(values.check(back)), value)


def has_bytes(tree: Any) -> bool:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return isinstance(tree, bytes) or any(map(has_bytes, inner))


@given(VALUES)
@example({"~b": 1, "a": 2})
def test_json_is_used_unless_there_are_bytes(value: Any) -> None:
    tree = values.pack(value)
    data, kind = values.encode(tree)
    assert kind == (values.CBOR if has_bytes(tree) else values.JSON)
    if kind == values.JSON:
        json.loads(data)


@given(ARRAYS)
def test_array_survives(value: np.ndarray[Any, Any]) -> None:
    tree = values.check(values.pack(value))
    back = values.unpack(values.from_text(values.to_text(tree)))
    np.testing.assert_array_equal(back, value)
    assert back.dtype == value.dtype.newbyteorder("<")
    assert back.flags.writeable


@given(ARRAYS.filter(lambda a: a.dtype.kind != "c"))
def test_array_is_a_nested_list_without_numpy(value: np.ndarray[Any, Any]) -> None:
    if 0 in value.shape:
        return  # a list cannot say how many columns its no rows have
    tree = values.pack(value)
    np.testing.assert_array_equal(values.unpack(tree, values.list_array), value.tolist())


def test_complex_array_needs_numpy() -> None:
    with pytest.raises(ValueProblem, match="NumPy"):
        values.unpack(values.pack(np.array([1j])), values.list_array)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3),
        (np.bool_(True), True),
        (np.float64("nan"), None),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (type("Sub", (str,), {})("s"), "s"),
        (type("Sub", (dict,), {})(a=1), {"a": 1}),
    ],
)
def test_near_relatives_become_the_plain_kind(value: Any, plain: Any) -> None:
    back = values.unpack(values.pack(value))
    assert same(back, plain) or math.isnan(back)


def test_arrays_of_the_standard_library() -> None:
    back = values.unpack(values.pack([array("d", [1.5]), array("H", [7]), array("b", [-1])]))
    assert [(a.dtype.str, a.tolist()) for a in back] == [
        ("<f8", [1.5]),
        ("<u2", [7]),
        ("|i1", [-1]),
    ]


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, object(), lambda: 1, 1j, {1: 2}, {None: 1}, [object()], 2**64, -(2**63) - 1,
        "\ud800", {"\udfff": 1}, np.array([object()]), np.array(["text"]), np.datetime64("2026"),
        np.complex64(1), np.longdouble(1), np.array([1], np.longdouble), type, ValueError("x"),
    ],
    ids=lambda v: repr(v)[:20],
)  # fmt: skip
def test_what_may_not_travel(value: Any) -> None:
    with pytest.raises(ValueProblem):
        values.pack(value)


def test_place_of_what_may_not_travel() -> None:
    with pytest.raises(ValueProblem, match=r"value\['a'\]\[1\] is a builtins.set"):
        values.pack({"a": [1, set()]})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_bounds_are_exact() -> None:
    bounds = Bounds(size=10, depth=3, items=5)
    for good in (nested(3), [0] * 4, "x" * 10, b"x" * 10, np.zeros(10, "u1"), ["x" * 5, b"x" * 5]):
        assert values.check(values.pack(good, bounds), bounds) is not None
    for bad, unit in (
        (nested(4), "levels"),
        ([0] * 5, "items"),
        ("x" * 11, "bytes"),
        (["x" * 6, b"x" * 5], "bytes"),
        (np.zeros(11, "u1"), "bytes"),
        (array("d", [0, 0]), "bytes"),
    ):
        with pytest.raises(TooLarge) as raised:
            values.pack(bad, bounds)
        assert raised.value.unit == unit
    for tree in (nested(4), [0] * 5):
        with pytest.raises(TooLarge):
            values.check(tree, bounds)


def test_value_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TooLarge):
        values.pack(value)


def test_nothing_is_copied_of_what_is_far_too_large() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**40

    with pytest.raises(TooLarge):
        values.pack(Huge())


@pytest.mark.parametrize(
    "tree",
    [
        math.nan, math.inf, (1,), {1}, {1: 2}, 2**64, "\ud800", {"\ud800": 1}, 1j,
        {"~t": 1}, {"~f": "huge"}, {"~f": 1}, {"~d": {}}, {"~d": ["a", 1]}, {"~d": ["~t"]},
        {"~d": [["~t"], 1]}, {"~b": "AAAA"}, {"~a": []}, {"~a": ["<f8", [1]]},
        {"~a": ["|O", [1], b"12345678"]}, {"~a": [["<f8"], [1], b"12345678"]},
        {"~a": ["<f8", [1], b"1234567"]}, {"~a": ["<f8", [-1], b"12345678"]},
        {"~a": ["<f8", [True], b"12345678"]}, {"~a": ["<f8", ["1"], b"12345678"]},
        {"~a": ["<f8", [2**62, 4], b""]}, {"~a": ["<f8", [1] * 33, b"12345678"]},
        {"~a": ["<f8", [0, 2**30], b""]}, {"~a": ["<f8", [1], "12345678"]},
    ],
    ids=str,
)  # fmt: skip
def test_tree_that_is_none(tree: Any) -> None:
    with pytest.raises(ValueProblem):
        values.check(tree)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=2)
        | st.lists(inner, max_size=3).map(lambda items: {"~a": items})
        | st.tuples(KEYS, inner).map(lambda pair: {"~d": list(pair)})
    ),
    max_leaves=20,
)


@given(TREES)
def test_what_passes_the_check_is_a_value(tree: Any) -> None:
    try:
        values.check(tree)
    except ValueProblem:
        return
    value = values.unpack(tree)
    assert same(values.unpack(values.pack(value)), value) or "nan" in repr(value)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"\xff", b"NaN", b"-Infinity", b'{"a": 1, "a": 2}', b"[1] [2]", b"9" * 5000,
        b'{"~b": "no base64"}', b'{"~b": "AAA"}', b'{"~b": 1}',
    ],
)  # fmt: skip
def test_text_that_is_none(text: bytes) -> None:
    with pytest.raises(ValueProblem):
        values.from_text(text)


def test_text_of_absurd_depth() -> None:
    with pytest.raises(TooLarge) as raised:
        values.from_text(b"[" * 100_000)
    assert raised.value.unit == "levels"


@given(st.binary(max_size=200), st.sampled_from([values.JSON, values.CBOR, "text/plain"]))
def test_any_bytes_are_a_tree_or_a_problem(data: bytes, kind: str) -> None:
    try:
        tree = values.decode(data, kind)
        values.check(tree)
    except ValueProblem:
        pass


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("d81c81d81d00"),  # a list that holds itself, by shared references
        bytes.fromhex("81" * 200 + "00"),
        bytes.fromhex("9f01ff"),  # of indefinite length
        bytes.fromhex("a201020103"),  # one key twice
        bytes.fromhex("0102"),  # two items
        bytes.fromhex("9b7fffffffffffffff"),  # a list of absurd length
        bytes.fromhex("5b7fffffffffffffff"),  # bytes of absurd length
    ],
)
def test_hostile_cbor(data: bytes) -> None:
    with pytest.raises(ValueProblem):
        values.decode(data, values.CBOR)
