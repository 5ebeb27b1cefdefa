"""What is said of a value that does not fit: where, what is expected, what was found.

Of what was found only its kind and size are told, and no key that the schema does not name: the
sentence leaves the vehicle, and what was not declared is to stay there.
"""

from __future__ import annotations

import json
from typing import Any, Final

from protocol.contract.likeness import FINITE, MARK, at
from protocol.contract.schema import PYTHON, Schema, compiled, first_error, referred
from protocol.values import Tree

MAX_SENTENCE: Final = 300
_WORDS: Final = {
    "null": "None",
    "boolean": "a bool",
    "integer": "an int",
    "number": "a number",
    "string": "a str",
    "array": "a list",
    "object": "a dict",
}
#: Keyword -> what to say of its limit.
_LIMITS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "a text that matches {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} keys",
    "maxProperties": "at most {} keys",
    "contains": "an item as `contains` says",
    "falseSchema": "nothing here",
}
_LIMIT_NAMES: Final = ("limit", "multiple_of", "pattern")
#: Unions within each other that are looked into.
_LEVELS: Final = 16


def misfit(schema: Schema, seen: Any, tree: Tree) -> str:
    """Say why a value does not fit.

    ``schema`` is prepared as `contract.py` does it, ``seen`` is the value as the schema sees it,
    ``tree`` the value itself.
    """
    path: list[str | int] = []
    here: Any = schema
    expected = "what the schema says"
    for _ in range(_LEVELS):
        error = first_error(_with_definitions(here, schema), seen)
        if error is None:  # a union of which more than one branch fits
            break
        path += error.instance_path
        for step in error.instance_path:
            seen = seen[step]
        union = _union(error)
        if union is None:
            parent = _parent(schema, here, error.evaluation_path)
            expected = _expected(error, parent, schema, seen)
            break
        if "oneOf" in union and sum(_fits(b, schema, seen) for b in union["oneOf"]) > 1:
            expected = "to fit one schema of `oneOf`, not several"
            break
        branches = next(iter(union.values()))
        expected = " or ".join(dict.fromkeys(_described(b, schema) for b in branches[:20]))
        near = [b for b in branches if _kind(seen) in _kinds(b, schema)]
        if len(near) != 1:
            break
        here = near[0]
    while path and path[-1] == MARK:  # bytes are nothing to look into
        path.pop()
    known = _names(schema)
    told = (str(s) if isinstance(s, int) or s in known else "*" for s in path[:12])
    where = "".join(f"/{_clean(step, 40)}" for step in told)
    found = _found(at(tree, path))
    place = f"at {where[:80]}" if where else "the value"
    return f"{place}: expected {_clean(expected, 100)}, found {_clean(found, 90)}"[:MAX_SENTENCE]


def _with_definitions(part: Any, root: Schema) -> Schema:
    """A part of a schema as one of its own."""
    shared: Schema = {key: root[key] for key in ("$defs", "definitions") if key in root}
    if isinstance(part, dict):
        return {**shared, **part}
    return {**shared, "allOf": [part]}


def _fits(part: Any, root: Schema, seen: Any) -> bool:
    return compiled(_with_definitions(part, root)).is_valid(seen)


def _union(error: Any) -> dict[str, list[Any]] | None:
    """The `anyOf` or `oneOf` that a prepared schema has behind its two `not`s."""
    if error.kind.name != "not":
        return None
    inner = error.kind.schema
    inner = inner.get("not") if isinstance(inner, dict) else None
    if isinstance(inner, dict) and set(inner) in ({"anyOf"}, {"oneOf"}):
        return inner
    return None


def _parent(root: Schema, here: Any, path: list[str | int]) -> Any:
    """The schema whose keyword, the last of the path, is not kept."""
    node: Any = _with_definitions(here, root)
    for step in path[:-1]:
        if step == "$ref":
            node = _follow(node, root)
        elif isinstance(node, dict) and step in node:
            node = node[str(step)]
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            return {}
    return node


def _follow(schema: Any, root: Schema) -> Any:
    place = referred(root, schema.get("$ref")) if isinstance(schema, dict) else None
    if place is None:
        return schema
    kind, _, name = place.partition("/")
    return root[kind][name]


def _expected(error: Any, parent: Any, root: Schema, seen: Any) -> str:
    keyword = error.kind.name
    title = parent.get("title") if isinstance(parent, dict) else None
    found_mark = _kind(seen) == "marked"
    wants_mark = keyword == "required" and error.kind.property == MARK
    if title and (found_mark or wants_mark):  # one of both is bytes, the other a dict
        return str(title)
    if keyword == "required":
        return f"the key {error.kind.property!r}"
    if keyword == "additionalProperties":
        return (
            f"no key but those of {title or 'the schema'} (not {len(error.kind.unexpected)} more)"
        )
    if keyword == "falseSchema" and error.instance_path[-1:] == [MARK]:
        return "a dict"
    if keyword == "falseSchema" and error.evaluation_path[-1:] == ["additionalProperties"]:
        return "no keys"
    if keyword in _LIMITS:
        limits = (getattr(error.kind, name, None) for name in _LIMIT_NAMES)
        limit: Any = next((found for found in limits if found is not None), "")
        if keyword in ("minimum", "maximum") and abs(limit) == FINITE:
            return "a finite number"
        return _LIMITS[keyword].format(limit)
    if keyword == "propertyNames":
        return f"keys that are {_described(parent, root)}"
    if keyword in ("type", "const", "enum"):
        return _described(parent, root)
    return f"what `{keyword}` says"


def _described(schema: Any, root: Schema) -> str:
    for _ in range(_LEVELS):
        schema = _follow(schema, root)
    if not isinstance(schema, dict):
        return "nothing" if schema is False else "anything"
    if "const" in schema:
        return _constant(schema["const"])
    if "enum" in schema:
        return " or ".join(_constant(value) for value in schema["enum"][:10])
    types = schema.get("type", [])
    words = [_WORDS[name] for name in ([types] if isinstance(types, str) else types)]
    said = " or ".join(words) or "what the schema says"
    title = schema.get("title")
    if title and root.get("$schema") == PYTHON:  # there it is the type's name
        return str(title)
    return f"{said} ({title})" if title else said


def _constant(value: Any) -> str:
    return _clean(json.dumps(value, ensure_ascii=False), 30)


def _kind(seen: Any) -> str:
    """The JSON type of a value as it is seen; `marked` for what a mark stands for."""
    if seen is None or isinstance(seen, bool):
        return "null" if seen is None else "boolean"
    if isinstance(seen, int | float):
        return "integer" if isinstance(seen, int) else "number"
    if isinstance(seen, dict):
        return "marked" if list(seen) == [MARK] else "object"
    return "string" if isinstance(seen, str) else "array"


def _kinds(schema: Any, root: Schema) -> frozenset[str]:
    """The JSON types that a schema may take, by its `type` alone."""
    for _ in range(_LEVELS):
        schema = _follow(schema, root)
    if not isinstance(schema, dict):
        return frozenset(_WORDS) if schema else frozenset()
    if "enum" in schema or "const" in schema:
        return frozenset(map(_kind, schema.get("enum", [schema.get("const")])))
    types = schema.get("type", list(_WORDS))
    named = {types} if isinstance(types, str) else set(types)
    return frozenset(named | {"integer"} if "number" in named else named)


def _names(schema: Any) -> set[str]:
    """Every key that a schema names."""
    names: set[str] = set()
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            names.update(part.get("properties", ()))
            names.update(n for n in part.get("required", ()) if isinstance(n, str))
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return names


def _found(node: Tree) -> str:
    """What a node of a tree is: its kind and size."""
    if isinstance(node, dict) and len(node) == 1:
        ((mark, inner),) = node.items()
        if mark == "~f":
            return "an infinite float" if "inf" in inner else "a float that is no number"
        if mark == "~a" and not inner[1]:  # one element
            words = {"b": "a bool", "i": "an int", "u": "an int", "f": "a float"}
            return words.get(inner[0][1], "a complex number")
        if mark == "~a":
            return f"an array of {inner[0].lstrip('<|')} with the shape {tuple(inner[1])}"
        if mark == "~t":
            return f"a tuple of {len(inner)}"
        if mark == "~d":
            return "a dict of 1 key"
    if isinstance(node, dict):
        return f"a dict of {len(node)} key{'' if len(node) == 1 else 's'}"
    if isinstance(node, list):
        return f"a list of {len(node)}"
    if isinstance(node, bytes):
        return f"{len(node)} bytes"
    if isinstance(node, str):
        return f"a str of length {len(node)}"
    words = {"NoneType": "None", "bool": "a bool", "int": "an int", "float": "a float"}
    return words[type(node).__name__]


def _clean(text: str, most: int) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text[:500])
    return shown if len(shown) <= most else shown[: most - 3] + "..."
