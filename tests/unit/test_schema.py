"""Which schemas are taken, that nothing is fetched for one, and what checking may cost."""

from __future__ import annotations

import functools
import http.server
import json
import math
import random
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from protocol import errors
from protocol.contract import Contract, schema
from protocol.contract.cost import MAX_LOOKS, MAX_STEPS, MAX_WEIGHT, PATTERN
from protocol.contract.schema import MAX_DEPTH, MAX_TEXT
from protocol.errors import BadContract
from protocol.values import pack

NUMBERS = {"type": "array", "items": {"type": "number"}}
MANY: dict[str, Any] = {"$defs": {"a": {"enum": [0] * 1000}}}
UNIT = {"type": "number", "minimum": 0, "maximum": 1}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], "a JSON object, not list"),
        (True, "a JSON object, not bool"),
        ({"type": "nonsense"}, "/type"),
        ({"properties": {"a": {"minimum": "x"}}}, "/properties/a/minimum has a wrong type"),
        ({"properties": []}, "/properties has a wrong type"),
        ({"patern": "x"}, "'patern' is not taken here"),
        ({"uniqueItems": True}, "grows with the square"),
        ({"$id": "http://x/y"}, "'#/$defs/name'"),
        ({"items": {"$defs": {}}}, "at the top of the schema"),
        ({"unevaluatedProperties": False}, "not taken"),
        ({"$dynamicRef": "#x"}, "not taken"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "only draft 2020-12"),
        ({"$ref": "#/$defs/nowhere"}, "refers to '#/$defs/nowhere'"),
        ({"$ref": 1}, "refers to '1'"),
        ({"$ref": "#"}, "nothing is fetched"),
        ({"$ref": ""}, "nothing is fetched"),
        ({"$ref": "#/properties/a", "properties": {"a": {}}}, "nothing is fetched"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "refers to itself"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "refers to itself"),
        ({"pattern": "(?=a)b"}, "looks ahead or back"),
        ({"pattern": "["}, "not valid"),
        ({"pattern": "((a{100}){100}){100}"}, "too large"),
        ({"patternProperties": {"[": {}}}, "not valid"),
        ({"properties": {f"p{i}": {"pattern": "a"} for i in range(33)}}, "more than 32 patterns"),
        ({"const": 2**64}, "beyond 64 bits"),
        ({"const": [-(10**5000)]}, "beyond 64 bits"),
        ({"const": math.nan}, "not finite"),
        ({"const": "\ud800"}, "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        ({"const": {1: 2}}, "not a str"),
        ({"const": b"x"}, "a bytes, which is not JSON"),
        ({"description": "x" * MAX_TEXT}, "bytes; at most"),
        ({"enum": [0] * MAX_TEXT}, "too large"),
        (
            {
                "allOf": [{"enum": [0] * 1000}] * 4,
                "anyOf": [{"$ref": "#/$defs/a"}] * 9,
                "$defs": {"a": {"enum": [0] * 1000}},
            },
            f"more than {MAX_WEIGHT} parts",
        ),
    ],
)
def test_schema_that_is_not_taken(rules: Any, said: str) -> None:
    with pytest.raises(BadContract) as caught:
        Contract.of_schema(rules)
    assert said in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()
    assert type(errors.from_code("bad_contract", "x")) is BadContract


def nested(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        made = {"not": made}
    return made


def test_depth_of_a_schema_is_bounded() -> None:
    assert Contract.of_schema(nested(MAX_DEPTH - 2)).check(None) is None
    for levels in (MAX_DEPTH, 10_000):
        with pytest.raises(BadContract, match="levels"):
            Contract.of_schema(nested(levels))


def test_depth_counts_through_references() -> None:
    chain: dict[str, Any] = {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(300)}
    with pytest.raises(BadContract, match="levels"):
        Contract.of_schema({"$ref": "#/$defs/d0", "$defs": {**chain, "d300": {}}})


def test_references_that_multiply_are_weighed_before_anybody_follows_them() -> None:
    def doubling(levels: int) -> dict[str, Any]:
        twice: dict[str, Any] = {
            f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)
        }
        return {"$ref": "#/$defs/d0", "$defs": {**twice, f"d{levels}": {"type": "string"}}}

    assert Contract.of_schema(doubling(5)).check("x") is None
    with pytest.raises(BadContract, match="parts"):
        Contract.of_schema(doubling(20))


class _Listener(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


def test_nothing_is_fetched(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "null"}')
    with http.server.HTTPServer(("127.0.0.1", 0), _Listener) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/x"
            for reference in (url, file.as_uri(), "schema.json", "json-schema:///x"):
                with pytest.raises(BadContract, match="nothing is fetched"):
                    Contract.of_schema({"$ref": reference})
                # The library would not either, if the walk before it had a hole.
                with pytest.raises(BadContract):
                    schema.compiled({"$ref": reference})
            # ... which it does when nobody forbids it: the test can fail.
            with pytest.raises(jsonschema_rs.ValidationError):
                jsonschema_rs.Draft202012Validator({"$ref": url})
        finally:
            server.shutdown()
            thread.join()
        assert server.asked == ["/x"]  # type: ignore[attr-defined]


# What checking may cost


def seconds(contract: Contract, value: Any) -> tuple[float, str | None]:
    """Of the processor, whatever else the machine is doing; and what was said of the value."""
    tree = pack(value)
    contract.check(None)  # what is made once
    began = time.thread_time()
    said = contract.check(tree)
    return time.thread_time() - began, said


def test_big_values_are_checked_quickly() -> None:
    unit = Contract.of_schema({"type": "array", "items": UNIT})
    for value in (np.random.default_rng(1).random(100_000), [0.5] * 100_000):
        took, said = seconds(unit, value)
        assert said is None
        assert took < 0.2  # 3 to 8 ms when the machine has nothing else to do
    took, said = seconds(unit, np.full(10_000, math.nan))
    assert "found a float" in (said or "")
    assert took < 0.5


def test_a_misfit_in_a_big_union_is_told_quickly() -> None:
    branches = [{"items": {"type": "string"}}, {"items": {"type": "null"}}]
    took, said = seconds(Contract.of_schema({"anyOf": branches}), [1.5] * 100_000)
    assert "found a list of 100000" in (said or "")
    assert took < 1  # explained branch by branch it would be seconds, and hundreds of megabytes


def test_a_schema_too_heavy_for_the_value_is_a_misfit() -> None:
    heavy = Contract.of_schema(
        {"items": {"anyOf": [{"type": "null"}] * 700 + [{"type": "number"}]}}
    )
    assert heavy.check(pack([1.0] * 100)) is None
    took, said = seconds(heavy, np.zeros(MAX_STEPS // 1400))
    assert "too many to be held against" in (said or "")
    assert took < 0.5


def test_what_a_schema_says_of_something_else_does_not_weigh() -> None:
    fields: dict[str, Any] = {f"f{i}": UNIT for i in range(100)}
    contract = Contract.of_schema({"properties": {**fields, "trace": NUMBERS}})
    assert contract.check(pack({"f1": 0.5, "trace": np.zeros(130_000)})) is None


BRANCHES: list[dict[str, Any]] = [
    {"type": "null"},
    {"type": "integer"},
    {"minimum": 1.7e308},
    {"multipleOf": 1e-300},
    {"const": 3.5},
    {"enum": [1e300, 2, 3]},
    {"const": {"a": [1, 2]}},
    {"required": ["a"], "type": "object"},
]


@pytest.mark.parametrize("branch", BRANCHES, ids=str)
@pytest.mark.parametrize("number", [0.1, 1.7e308, math.inf])
def test_the_heaviest_check_that_is_done_ends_soon(branch: dict[str, Any], number: float) -> None:
    count = min(700, 4 * MAX_WEIGHT // 5 // (1 + len(json.dumps(branch))))
    union = {"anyOf": [{"not": {"not": branch}}] * count + [{"type": "number"}]}
    heavy = Contract.of_schema({"items": union})
    fewest, most = 1, 131_072  # items that are still checked
    while fewest < most:
        middle = (fewest + most + 1) // 2
        items, large = (1, middle), (0, middle if number > 1 else 0)
        strict = math.isinf(number)
        if heavy.measure.excess(items, large, 0, strict=strict):
            most = middle - 1
        else:
            fewest = middle
    took, said = seconds(heavy, np.full(fewest, number))
    assert said is None
    assert took < 10  # a second when the machine has nothing else to do


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "(a*)*c", "[ab]*a[ab]{150}c"])
def test_patterns_are_matched_in_linear_time(pattern: str) -> None:
    text = "".join(random.Random(1).choices("ab", k=100_000))  # noqa: S311 - no secret
    contract = Contract.of_schema({"pattern": pattern})
    for value in ("a" * 100_000 + "!", text):
        took, said = seconds(contract, value)
        assert said is not None
        assert took < 5


def test_text_too_long_for_the_patterns_is_a_misfit() -> None:
    contract = Contract.of_schema({"items": {"allOf": [{"pattern": "a"}, {"pattern": "a"}]}})
    characters = MAX_LOOKS // PATTERN
    assert contract.check(["a" * (characters // 2)]) is None
    assert "too many for a schema with 2 patterns" in (
        contract.check(["a" * (characters // 2 + 1)]) or ""
    )
    keys = Contract.of_schema({"patternProperties": {"a": {}}})
    assert keys.check({"a" * characters: 1}) is None
    assert "too many for a schema" in (keys.check({"a" * (characters + 1): 1}) or "")
