"""What a result contract takes, refuses and says, and that no schema can make it hang or crash."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.contract import Contract, schema
from protocol.contract.schema import PYTHON
from protocol.errors import BadContract
from protocol.values import pack
from tests.unit.test_values import VALUES

NUMBERS = {"type": "array", "items": {"type": "number"}}
UNIT = {"type": "number", "minimum": 0, "maximum": 1}


def told(rules: dict[str, Any], value: Any) -> str | None:
    """What a contract of this schema says of a value."""
    return Contract.of_schema(rules).check(pack(value))


@pytest.mark.parametrize(
    ("rules", "fits", "misfit", "said"),
    [
        ({"type": "null"}, None, 0, "the value: expected None, found an int"),
        ({"type": "integer"}, 3, 3.5, "expected an int, found a float"),
        ({"type": "integer"}, 3.0, True, "expected an int, found a bool"),
        (
            {"type": ["number", "null"]},
            None,
            "x",
            "expected a number or None, found a str of length 1",
        ),
        (NUMBERS, [1, 2.5], [1, "x"], "at /1: expected a number, found a str of length 1"),
        (NUMBERS, (1, 2), {"a": 1}, "expected a list, found a dict of 1 key"),
        (NUMBERS, np.zeros(3), np.zeros((3, 2)), "at /0: expected a number, found an array of f8"),
        (NUMBERS, [], b"x", "expected a list, found 1 bytes"),
        ({"type": "string"}, b"x", ["x"], "expected a str, found a list of 1"),
        ({"const": "AAE="}, b"\0\1", b"\0", 'expected "AAE=", found 1 bytes'),
        ({"required": ["a"]}, {"a": 1}, {}, "expected the key 'a', found a dict of 0 keys"),
        ({"additionalProperties": False}, {}, {"leak": 1}, "expected no keys, found a dict"),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"a": 1},
            {"a": 1, "leak": 1},
            "expected no key but those of the schema (not 1 more)",
        ),
        ({"maxItems": 1}, [1], [1, 2], "expected at most 1 items, found a list of 2"),
        ({"minLength": 2}, "ab", "a", "expected at least 2 characters"),
        ({"enum": ["ok", 1]}, 1, "no", """expected "ok" or 1, found a str of length 2"""),
        ({"const": [1, 2]}, (1, 2), [2, 1], "expected [1, 2], found a list of 2"),
        ({"pattern": "^[A-Z]+$"}, "AB", "Ab", "expected a text that matches ^[A-Z]+$"),
        ({"multipleOf": 0.5}, 1.5, 0.3, "expected a multiple of 0.5"),
        ({"exclusiveMaximum": 2}, 1, 2, "expected less than 2, found an int"),
        ({"propertyNames": {"maxLength": 1}}, {"a": 1}, {"ab": 1}, "expected keys that are"),
        ({"not": {"type": "null"}}, 1, None, "expected what `not` says, found None"),
        ({"contains": {"const": 1}}, [0, 1], [0], "expected an item as `contains` says"),
        ({"if": {"type": "string"}, "then": {"maxLength": 1}}, "a", "ab", "at most 1 characters"),
        ({"items": {"prefixItems": [{}, False]}}, [[1]], [[1, 2]], "at /0/1: expected nothing"),
        (
            {"anyOf": [{"type": "null"}, NUMBERS]},
            None,
            [1, None],
            "at /1: expected a number, found None",
        ),
        ({"anyOf": [{"type": "null"}, NUMBERS]}, [1], "x", "expected None or a list, found"),
        ({"oneOf": [{"type": "number"}, {"const": 3}]}, 2, 3, "fit one schema of `oneOf`, not"),
        (
            {"items": {"$ref": "#/$defs/speed"}, "$defs": {"speed": {"title": "Speed", **UNIT}}},
            [0.5],
            [0.5, "x"],
            "at /1: expected a number (Speed), found a str of length 1",
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": [NUMBERS]}}},
            {"a": []},
            {"a": [None]},
            "at /a/0: expected a number, found None",
        ),
        (UNIT, 1, math.inf, "expected at most 1, found an infinite float"),
        (UNIT, 0, math.nan, "found a float that is no number"),
        (
            {"type": "integer"},
            1e300,
            -math.inf,
            "expected a finite number, found an infinite float",
        ),
    ],
)
def test_what_fits_and_what_is_said_of_what_does_not(
    rules: dict[str, Any], fits: Any, misfit: Any, said: str
) -> None:
    assert told(rules, fits) is None
    assert said in (told(rules, misfit) or "")


@pytest.mark.parametrize("form", [lambda x: x, lambda x: [x], lambda x: np.array([x, 1])])
def test_what_is_not_finite_is_a_number_and_beyond_every_bound(form: Any) -> None:
    def fits(value: float, **rules: float) -> bool:
        whole = {"type": ["number", "array"], **rules, "items": {"type": "number", **rules}}
        return told(whole, form(value)) is None

    for value in (math.nan, math.inf, -math.inf):
        assert fits(value)
        assert not fits(value, minimum=-1e300, maximum=1e300)
    assert fits(math.inf, minimum=1)
    assert fits(-math.inf, maximum=1)
    assert not fits(math.nan, minimum=-1e300)
    assert not fits(math.nan, maximum=1e300)


def test_complex_numbers_are_pairs() -> None:
    pair = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    assert told({"items": pair}, np.array([1j, math.inf])) is None
    assert told({"items": {"type": "number"}}, np.array([1j])) is not None


def test_a_dict_that_looks_like_a_mark_is_a_dict() -> None:
    assert told({"required": ["~b"]}, {"~b": 1}) is None
    assert told({"type": "object", "required": ["~t"]}, {"~t": [1]}) is None
    assert told({"$schema": PYTHON, "required": ["~~"]}, {"~": 1}) is None


# Trees from strangers


def deep(levels: int) -> Any:
    made: Any = 0
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(
    "tree",
    [
        deep(2000),
        [10**5000],
        "\ud800",
        ["x", "\udfff"],
        {"\ud800": 1},
        {1: 2},
        {"~a": ["<f8", [65_536, 0], b""]},
        {"~a": [1, 2, 3]},
        {"~a": 1},
        {"~t": 1},
        {"~f": "x"},
        {"~d": [1]},
        object(),
        {1, 2},
        [{"~a": ["|b1", [65_536, 0], b""]}] * 40,
        [1, object()],
        math.nan,
    ],
)
def test_a_tree_that_is_none_is_a_misfit_and_no_crash(tree: Any) -> None:
    for rules in ({"type": "null"}, {"$schema": PYTHON, "type": "null"}):
        said = Contract.of_schema(rules).check(tree)
        assert said is not None
        assert len(said) <= 300


def test_what_is_said_is_short_and_fit_to_show() -> None:
    hostile = {"\x1b[31m" * 50 + "\n": {"=cmd()\0" * 100: ["\u202e" * 5000]}}
    any_of_it = {"type": "object", "additionalProperties": {"additionalProperties": NUMBERS}}
    said = told(any_of_it, hostile)
    assert said is not None
    assert said.isprintable()
    assert len(said) <= 300


# Identity


def test_a_contract_is_its_canonical_schema() -> None:
    one = Contract.of_schema({"type": "object", "required": ["a"], "title": "ü"})
    other = Contract.of_schema({"title": "ü", "required": ["a"], "type": "object"})
    assert one == other
    assert hash(one) == hash(other)
    assert one.schema == {"type": "object", "required": ["a"], "title": "ü"}
    assert Contract.of_schema(json.loads(json.dumps(one.schema))) == one
    assert one != Contract.of_schema({"type": "object"})
    one.schema.clear()
    assert one.schema == other.schema


# Laws

TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, -1.0, "a", "ab", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab~"), inner),
    max_leaves=8,
)


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of the keywords that are taken, over smaller ones."""
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from("ab~"), inner, max_size=2)
    few = st.integers(0, 3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
            "enum": st.lists(JSON, min_size=1, max_size=3),
            "const": JSON,
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "minimum": st.integers(-2, 2),
            "exclusiveMaximum": st.integers(-2, 2),
            "maxLength": few,
            "pattern": st.sampled_from(["^a", "b$", "a+b*"]),
            "minItems": few,
            "maxItems": few,
            "items": inner,
            "prefixItems": some,
            "contains": inner,
            "minContains": few,
            "properties": named,
            "patternProperties": named,
            "additionalProperties": inner,
            "propertyNames": inner,
            "required": st.lists(st.sampled_from("ab"), unique=True),
            "dependentSchemas": named,
            "maxProperties": few,
            "allOf": some,
            "anyOf": some,
            "oneOf": some,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b"]),
            "title": st.text(max_size=3),
        },
    )


SCHEMAS = st.recursive(
    st.booleans() | st.fixed_dictionaries({"type": TYPES}), keywords, max_leaves=6
)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, st.dictionaries(st.sampled_from("ab"), SCHEMAS), JSON)
def test_plain_json_is_judged_as_the_standard_says(
    given: Any, definitions: dict[str, Any], value: Any
) -> None:
    whole = {"allOf": [given], "$defs": definitions}
    try:
        contract = Contract.of_schema(whole)
    except BadContract:
        return  # a reference in a circle or to nowhere, a lone surrogate
    said = contract.check(pack(value))
    library = jsonschema_rs.Draft202012Validator(whole, validate_formats=False)
    assert (said is None) == library.is_valid(value)
    assert said is None or (said.isprintable() and len(said) <= 300)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, VALUES, st.booleans())
@example({"type": "null"}, b"", True)
def test_any_value_gets_an_answer(given: Any, value: Any, python: bool) -> None:
    whole = {"allOf": [given], **({"$schema": PYTHON} if python else {})}
    try:
        contract = Contract.of_schema(whole)
    except BadContract:
        return
    said = contract.check(pack(value))
    assert said is None or "cannot be checked" not in said


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(schema.ONE | schema.MANY | schema.NAMED | {"type", "$ref", "enum"}))
        | st.text(max_size=4),
        VALUES,
    )
)
def test_any_schema_is_taken_or_refused(given: dict[str, Any]) -> None:
    try:
        contract = Contract.of_schema(given)
    except BadContract:
        return
    assert Contract.of_schema(contract.schema) == contract


@pytest.mark.parametrize(
    ("schema", "secret"),
    [
        ({"type": "integer"}, "57.7 N"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, {"57.7 N": "x"}),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1, "57.7 N": 1}),
        ({"type": "array"}, {"57.7 N": {"57.7 N": 1}}),
        ({"enum": ["a"]}, "57.7 N"),
        ({"type": "object", "propertyNames": {"maxLength": 2}}, {"57.7 N": 1}),
        ({"anyOf": [{"type": "integer"}, {"required": ["a"]}]}, {"57.7 N": 1}),
    ],
)
def test_what_was_not_declared_is_not_told_either(schema: dict[str, Any], secret: Any) -> None:
    said = Contract.of_schema(schema).check(pack(secret))
    assert said is not None
    assert "57.7" not in said
