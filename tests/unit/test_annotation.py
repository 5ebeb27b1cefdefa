"""What annotations declare, read without running anything, and what is said of the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.contract import Contract
from protocol.contract.annotation import Declared, from_source
from protocol.module import MAX_SOURCE
from protocol.values import pack
from tests.unit.test_values import VALUES

IMPORTS = """
import typing as t
import numpy as np, numpy.typing as npt
import collections.abc
from typing import Annotated, Any, Dict, List, Literal, Mapping, NotRequired, Optional as Maybe
from typing import Required, Sequence, Tuple, TypeAlias, TypedDict, Union
"""
CLASSES = """
class Base(TypedDict):
    speed: float
class Trip(Base, total=False):
    '''One trip.'''
    stops: list[str]
    id: Required[int]
    place: "NotRequired[tuple[float, float]]"
Row = dict[str, float]
Rows: TypeAlias = "list[Row]"
"""


def declared(annotation: str, before: str = "") -> Declared:
    return from_source(f"{IMPORTS}{before}\ndef custom_code(window) -> {annotation}:\n    pass\n")


def contract(annotation: str, before: str = "") -> Contract:
    found = declared(annotation, before)
    assert found.contract is not None, found.note
    assert found.note == ""
    return found.contract


TRIP = {"speed": 1.5, "id": 1}


@pytest.mark.parametrize(
    ("annotation", "fit", "misfit"),
    [
        ("None", [None], [0, "", False]),
        ("bool", [True], [1, 0.0, None]),
        ("int", [1, True, -(2**63), 2**64 - 1, np.int8(3)], [1.0, math.nan, "1", None, b"1"]),
        ("float", [1.5, 1, True, math.nan, math.inf, np.float32(2)], ["1", None, [1.0]]),
        ("str", ["", "x", "~b"], [b"x", 1, ["x"]]),
        ("bytes", [b"", b"x"], ["x", {"~b": "eA=="}, {"~": "eA=="}, [120], {}]),
        ("bytearray | memoryview", [b"x"], ["x"]),
        ("list[float]", [[], [1, 2.5], (1.0,), np.zeros(3)], [1.0, ["x"], np.zeros((1, 1))]),
        ("list", [[], [1, "x"]], [{}, "x", b"x"]),
        ("t.List[int]", [[1]], [[1.0]]),
        ("Sequence[str] | None", [None, ["x"]], ["x", [None]]),
        ("collections.abc.Iterable[bool]", [[True]], [[1]]),
        ("tuple[int, str]", [(1, "a"), [1, "a"]], [(1,), (1, "a", 2), ("a", 1), {}]),
        ("Tuple[int, ...]", [(), (1, 2)], [("a",)]),
        ("tuple[()]", [()], [(1,), None]),
        ("tuple", [(), (1,)], [{}]),
        ("dict[str, float]", [{}, {"a": 1, "~b": 2.0}], [{"a": "x"}, [], b"x", {"~": "x"}]),
        ("Dict", [{}, {"a": b"x"}], [b"x", []]),
        ("t.Mapping[str, list[int]]", [{"a": [1]}], [{"a": 1}]),
        ("dict[Literal['a', '~b'], int]", [{"a": 1, "~b": 2}], [{"c": 1}, {"~~b": 1}]),
        ("Maybe[int]", [None, 1], ["x"]),
        ("Union[int, str, None]", [None, 1, "x"], [1.5, b"x"]),
        ("int | list[int | None]", [1, [1, None]], [[1.5], None]),
        ("Literal['a', 2, None, b'x']", ["a", 2, None, b"x"], ["b", True, 2.0, b"y", "eA=="]),
        ("Literal[-3]", [-3], [3, -3.0]),
        ("Literal[True]", [True], [1, False]),
        ("Annotated[int, 'km/h']", [1], ["x"]),
        ("np.ndarray", [np.zeros(2), np.zeros((1, 2)), [1], np.array([1j])], [1.0, {}, None, "x"]),
        ("npt.NDArray[np.float64]", [np.zeros(2), np.zeros((2, 2), "i4")], [["x"], [{}], 1.5]),
        ("npt.NDArray[np.float64]", [np.zeros(0), [[1.5]]], [np.array([1j]), np.array([[True]])]),
        ("np.ndarray[t.Any, np.dtype[np.int64]]", [np.zeros(2, "u1")], [np.zeros(2)]),
        ("npt.NDArray[np.int32 | np.bool_]", [np.array([True]), np.array([1])], [np.zeros(1)]),
        ("npt.NDArray[Any]", [np.array([1j])], [1]),
        ("np.float64", [1.5, np.float64(2)], ["x"]),
        ("np.integer", [np.uint8(2)], [1.5]),
        ("'list[int]'", [[1]], [1]),
        ('list["int"]', [[1]], [["x"]]),
        ("Trip", [TRIP, {**TRIP, "stops": [], "place": (1, 2)}], [{}, [], b"leak", {"id": 1}]),
        ("Trip", [], [{**TRIP, "leak": 1}, {**TRIP, "stops": [1]}, {**TRIP, "~": "eA=="}]),
        ("list[Trip]", [[TRIP]], [[{}], TRIP]),
        ("Rows", [[{"a": 1.0}]], [[{"a": "x"}], {"a": 1.0}]),
        ("list[Any]", [[1, b"x"]], [1]),
    ],
)  # fmt: skip
def test_what_an_annotation_takes(annotation: str, fit: list[Any], misfit: list[Any]) -> None:
    made = contract(annotation, CLASSES)
    assert [made.check(pack(value)) for value in fit] == [None] * len(fit)
    for value in misfit:
        said = made.check(pack(value))
        assert said is not None, value
        assert "expected" in said
    assert Contract.of_schema(made.schema) == made


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        ("float", "x", "the value: expected float, found a str of length 1"),
        ("dict[str, float]", b"x", "the value: expected a dict, found 1 bytes"),
        ("bytes", {"a": 1}, "the value: expected bytes, found a dict of 1 key"),
        ("Trip", {"speed": 1.5}, "expected the key 'id'"),
        ("Trip", {**TRIP, "leak": 1}, "expected no key but those of Trip (not 1 more)"),
        ("Trip", b"leak", "the value: expected Trip, found 4 bytes"),
        ("Trip | None", {**TRIP, "stops": ["a", 3]}, "at /stops/1: expected str, found an int"),
        ("Maybe[int | str]", 1.5, "expected int or str or None, found a float"),
        ("list[float]", np.array([1j]), "at /0: expected float, found a complex number"),
        ("list[int]", (1, math.nan), "at /1: expected int, found a float that is no number"),
        ("tuple[int, int]", (1,), "expected at least 2 items, found a tuple of 1"),
    ],
)
def test_what_is_said(annotation: str, value: Any, said: str) -> None:
    assert said in (contract(annotation, CLASSES).check(pack(value)) or "")


@pytest.mark.parametrize("annotation", ["Any", "object", "t.Any", "int | Any", "Maybe[object]"])
def test_where_anything_is_allowed_there_is_no_contract(annotation: str) -> None:
    assert declared(annotation) == Declared(None, "", 8)


@pytest.mark.parametrize(
    ("annotation", "before", "said"),
    [
        ("pd.DataFrame", "import pandas as pd", "`pd.DataFrame` in line 8: the annotation is not"),
        ("list[set[int]]", "", "`set[int]` in line 8: a value of this type may not travel"),
        ("complex", "", "may not travel"),
        ("'list['", "", "cannot be parsed"),
        ("'\"' * 9", "", "not one that is understood"),
        ("1 + 1", "", "`1 + 1`"),
        ("f()", "", "`f()`"),
        ("lambda: 1", "", "understood"),
        ("NotRequired[()]", "", "understood"),
        ("dict[int, int]", "", "keys of a dict that travels are str"),
        ("dict[str]", "", "understood"),
        ("list[int, int]", "", "understood"),
        ("list[*int]", "", "understood"),
        ("Literal[1.5]", "", "a Literal holds"),
        ("Literal[2 ** 64]", "", "a Literal holds"),
        ("Literal[18446744073709551616]", "", "beyond 64 bits"),
        (r"Literal['\ud800']", "", "lone surrogate"),
        ("npt.NDArray[np.object_]", "", "no scalar type"),
        ("np.ndarray[Any, list[int]]", "", "no np.dtype"),
        ("Tree", "Tree = list['Tree']", "refers to itself"),
        ("A", "A = B\nB = 'A'", "refers to itself"),
        ("A", "class A(TypedDict):\n    a: 'A'", "refers to itself"),
        ("A", "A = int\nA = str", "defined more than once"),
        ("List", "List = int", "defined more than once"),
        ("A", "def A(): pass", "it is no type"),
        ("A", "A, B = int, str", "it is no type"),
        ("A", "class A: x: int", "only a TypedDict"),
        ("A", "class A(A): pass", "only a TypedDict"),
        ("B", "class A(A): pass\nclass B(A): pass", "only a TypedDict"),
        ("A", "class A(TypedDict, t.Generic[t.T]): x: int", "only a TypedDict"),
        ("a0", "\n".join(f"a{i} = tuple[a{i + 1}, a{i + 1}]" for i in range(40)), "too large"),
        ("list[" * 60 + "int" + "]" * 60, "", "too large"),
        ("Literal[" + ", ".join(map(str, range(9000))) + "]", "", "bytes; at most"),
        (" | ".join(["int"] * 2000), "", "too large"),
    ],
)
def test_what_is_not_understood_is_said(annotation: str, before: str, said: str) -> None:
    found = declared(annotation, before)
    assert found.contract is None
    assert found.note.startswith("the result is not checked: ")
    assert said in found.note
    assert found.note.isprintable()
    assert len(found.note) < 300
    assert found.line == 8 + before.count("\n")


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("def custom_code(w): pass", None),
        ("def other(w) -> int: pass", None),
        ("async def custom_code(w) -> int: pass", None),
        ("custom_code = lambda w: 1", None),
        ("custom_code = max", None),
        ("class custom_code: pass", None),
        ("def custom_code(w) -> int: pass\ncustom_code = max", None),
        ("def f(w) -> int: pass\ncustom_code = f", 1),
        ("def f(w) -> int: pass\ng = f\ncustom_code = g", 1),
        ("def custom_code(w) -> str: pass\ndef custom_code(w) -> int: pass", 1),
        ("try:\n    import numpy\nexcept Exception: pass\ndef custom_code(w) -> int: pass", 1),
        ("if True:\n    def custom_code(w) -> 'int': pass", 1),
        ("from __future__ import annotations\ndef custom_code(w) -> int | None: pass", 1),
        ("import typing\ndef custom_code(w) -> typing.Union['int', None]: pass", 1),
        ("from typing_extensions import Literal as L\ndef custom_code(w) -> L[1]: pass", 1),
        ("from typing import *\ndef custom_code(w) -> int: pass", 1),
        ("def custom_code(w) -> R: pass\ntype R = int", 1),
        ("def custom_code(w) -> R: pass\nR: 'x' = int", 1),
        ("def custom_code(w) -> int:\n    '\\d'", 1),
        ("if 1:\n    import x as X\nelse:\n    X = 1\ndef custom_code(w) -> int: pass", 1),
    ],
)  # fmt: skip
def test_which_function_counts(source: str, takes: Any) -> None:
    found = from_source(source)
    assert found.note == ""
    if takes is None:
        assert found.contract is None
    else:
        assert found.contract is not None
        assert found.contract.check(takes) is None
        assert found.contract.check("x") is not None
        assert found.line > 0


def test_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = from_source("print('run')\ndef custom_code(w) -> print('run'): pass\nraise SystemExit")
    assert found.contract is None
    assert capsys.readouterr().out == ""


N = MAX_SOURCE - 100
HOSTILE: list[str] = [
    "-" * N + "1", "1" + "+1" * (N // 2), "a" + ".b" * (N // 2), "a" + "()" * (N // 2), "(" * N,
    "not " * (N // 4) + "1", "lambda:" * (N // 7) + "1", "1 if 1 else " * (N // 12) + "1",
    "a" + "[b]" * (N // 3), "a[" * 190 + "b" + "]" * 190, "'" + "[" * N + "'", "9" * N,
    "'" + "-" * N + "1'", "A" + "|A" * (N // 2), "A" + "|A" * 700, "A" + ".b" * 400, "\0", "\ud800",
    "'\\0'", "f'" + "{1}" * (N // 4) + "'",
]  # fmt: skip


FORMS = ["def custom_code(w) -> {}: pass", "A = {}\ndef custom_code(w) -> A: pass"]


@pytest.mark.parametrize("expression", HOSTILE, ids=[ascii(e[:6]) for e in HOSTILE])
@pytest.mark.parametrize("form", FORMS, ids=["direct", "alias"])
def test_a_hostile_source_is_soon_done_with(expression: str, form: str) -> None:
    began = time.thread_time()  # the processor's, whatever else the machine is doing
    found = from_source(form.replace("{}", expression))
    assert found.contract is None
    assert found.note.startswith("the result is not checked")
    assert time.thread_time() - began < 5  # a tenth of that when the machine is idle


def test_a_source_that_is_too_large_is_not_read() -> None:
    assert "cannot be parsed" in from_source("def custom_code(w) -> int: pass\n" + "#" * N * 2).note


@given(st.text() | st.text("defcustom_code(w)->list[int]:pass\n |.'\"=", max_size=60))
def test_any_text_gets_an_answer(text: str) -> None:
    found = from_source(text)
    assert found.contract is None or found.note == ""


# Laws


@dataclass(frozen=True)
class Kind:
    """A type: how it is written, values of it, and whether a value is of it."""

    text: str
    values: st.SearchStrategy[Any]
    has: Callable[[Any], bool]


INTS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
KEYS = TEXTS | st.sampled_from(["~", "~b", "~t", "~~"])
BASE = [
    Kind("None", st.none(), lambda v: v is None),
    Kind("bool", st.booleans(), lambda v: isinstance(v, bool)),
    Kind("int", INTS | st.booleans(), lambda v: isinstance(v, int)),
    Kind("float", st.floats() | INTS, lambda v: isinstance(v, (int, float))),
    Kind("str", TEXTS, lambda v: isinstance(v, str)),
    Kind("bytes", st.binary(max_size=4), lambda v: isinstance(v, bytes)),
    Kind(
        "Literal['a', 1, b'x']",
        st.sampled_from(["a", 1, b"x"]),
        lambda v: v in ("a", 1, b"x") and type(v) in (str, int, bytes),
    ),
]


def list_of(one: Kind) -> Kind:
    some = st.lists(one.values, max_size=3)
    return Kind(
        f"list[{one.text}]",
        some | some.map(tuple),
        lambda v: isinstance(v, (list, tuple)) and all(map(one.has, v)),
    )


def dict_of(one: Kind) -> Kind:
    return Kind(
        f"dict[str, {one.text}]",
        st.dictionaries(KEYS, one.values, max_size=3),
        lambda v: isinstance(v, dict) and all(map(one.has, v.values())),
    )


def pair_of(one: Kind, other: Kind) -> Kind:
    return Kind(
        f"tuple[{one.text}, {other.text}]",
        st.tuples(one.values, other.values),
        lambda v: (
            isinstance(v, (list, tuple)) and len(v) == 2 and one.has(v[0]) and other.has(v[1])
        ),
    )


def either(one: Kind, other: Kind) -> Kind:
    return Kind(
        f"Union[{one.text}, {other.text}]",
        one.values | other.values,
        lambda v: one.has(v) or other.has(v),
    )


KINDS = st.recursive(
    st.sampled_from(BASE),
    lambda inner: (
        inner.map(list_of)
        | inner.map(dict_of)
        | st.builds(pair_of, inner, inner)
        | st.builds(either, inner, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(KINDS, st.data())
def test_a_value_of_the_type_fits(kind: Kind, data: st.DataObject) -> None:
    value = data.draw(kind.values)
    assert contract(kind.text).check(pack(value)) is None


@settings(max_examples=300, deadline=None)
@given(KINDS, KINDS, st.data())
def test_a_value_fits_just_if_it_is_of_the_type(
    kind: Kind, other: Kind, data: st.DataObject
) -> None:
    value = data.draw(other.values | VALUES)
    said = contract(kind.text).check(pack(value))
    assert (said is None) == kind.has(value)
    assert said is None or (said.isprintable() and len(said) <= 300)


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["f8", "f4", "i4", "u8", "?", "c16"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    )
)
def test_an_array_is_the_list_of_its_elements(value: np.ndarray[Any, Any]) -> None:
    listed = value.tolist()
    for text, has in (("list[float]", float), ("list[int]", int), ("list[list[bool]]", bool)):
        if value.dtype.kind == "c":
            continue  # a complex number alone may not travel
        made = contract(text)
        assert (made.check(pack(value)) is None) == (made.check(pack(listed)) is None), has
    if value.ndim:
        assert contract("np.ndarray").check(pack(value)) is None
