"""Messages as hypothesis draws them: from the types, so that no new field is left out."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st
from pydantic import TypeAdapter

from protocol.values import BOUNDS, pack
from tests.fuzz.mangle import mangle, to_cbor, to_json

Schema = dict[str, Any]
NAMES = st.sampled_from(["a", "ada", "car-1", "worker-1", "m", "x" * 64])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    | st.lists(inner, max_size=2).map(tuple),
    max_leaves=6,
)  # fmt: skip
TREES = VALUES.map(lambda value: pack(value, BOUNDS))


def of_type(kind: TypeAdapter[Any]) -> st.SearchStrategy[Any]:
    """Trees that are messages of this kind, or nearly: laws that no schema tells may be broken."""
    schema = kind.json_schema()
    return _Shapes(schema.get("$defs", {})).of(schema)


def payloads(kind: TypeAdapter[Any]) -> st.SearchStrategy[bytes]:
    """Bytes of messages, in both forms, as they should be and mangled."""
    written = st.builds(_written, of_type(kind), st.booleans())
    seeds = st.integers(0, 2**32 - 1)
    return written | st.builds(lambda data, seed: mangle(data, Random(seed)), written, seeds)


def _written(tree: Any, as_cbor: bool) -> bytes:
    return to_cbor(tree) if as_cbor else to_json(tree)


class _Shapes:
    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions
        self._made: dict[str, st.SearchStrategy[Any]] = {}

    def of(self, schema: Schema) -> st.SearchStrategy[Any]:
        if "$ref" in schema:
            return self._named(schema["$ref"].rpartition("/")[2])
        for union in ("oneOf", "anyOf"):
            if union in schema:
                return st.one_of([self.of(branch) for branch in schema[union]])
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                items = self._items(schema)
                least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
                return st.lists(items, min_size=least, max_size=max(least, min(most, 4)))
            case "string":
                return _text(schema)
            case "integer":
                least, most = schema.get("minimum", -(2**63)), schema.get("maximum", 2**64 - 1)
                small = st.sampled_from([n for n in (0, 1, 2) if least <= n <= most] or [least])
                return small | st.integers(int(least), int(most))
            case "number":
                return st.floats(0.1, 100.0) | st.sampled_from([0, 1, 30, 1e9])
            case "boolean":
                return st.booleans()
            case "null":
                return st.none()
            case _:
                return TREES

    def _named(self, name: str) -> st.SearchStrategy[Any]:
        if name not in self._made:
            self._made[name] = st.deferred(lambda: self.of(self._definitions[name]))
        return self._made[name]

    def _items(self, schema: Schema) -> st.SearchStrategy[Any]:
        if "prefixItems" in schema:
            return st.one_of([self.of(item) for item in schema["prefixItems"]])
        return self.of(schema.get("items", {}))

    def _object(self, schema: Schema) -> st.SearchStrategy[Any]:
        if "properties" not in schema:
            values = schema.get("additionalProperties", True)
            inner = self.of(values) if isinstance(values, dict) else TREES
            return st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=3)
        fields = {name: self.of(inner) for name, inner in schema["properties"].items()}
        required = {name: fields.pop(name) for name in schema.get("required", ())}
        # The mark is a default, so that the schema does not ask for it; without it nothing is read.
        for mark in {"kind", "mode"} & fields.keys():
            required[mark] = fields.pop(mark)
        return st.fixed_dictionaries(required, optional=fields)


def _text(schema: Schema) -> st.SearchStrategy[Any]:
    if schema.get("format") == "binary":
        return st.binary(min_size=1, max_size=20)
    pattern = str(schema.get("pattern", ""))
    if pattern == r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$":
        return NAMES
    if pattern:
        return st.from_regex(pattern, fullmatch=True).map(lambda text: text.rstrip("\n"))
    least = schema.get("minLength", 0)
    return st.text(min_size=least, max_size=max(least, min(schema.get("maxLength", 12), 12)))
