"""JSON schemas from strangers: their form, their parts, and the library that checks with them.

A schema is hostile until it is a `Contract`: before the library sees it, its text is bounded here
and its cost in `cost.py`. References go to the schema's own `$defs`, and nothing is ever fetched.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import BadContract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema_rs import Draft202012Validator

Schema = dict[str, Any]

#: The dialect that is meant where a schema names none.
STANDARD: Final = "https://json-schema.org/draft/2020-12/schema"
#: The dialect of schemas made from annotations: values are told apart as Python's types do it.
PYTHON: Final = "urn:oodida:python-types"
#: Bytes of a schema as canonical JSON text.
MAX_TEXT: Final = 16 * 1024
#: Levels of a schema's text, and of what it says when its references are followed.
MAX_DEPTH: Final = 64

ONE: Final = frozenset(
    ("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else")
)
MANY: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
NAMED: Final = frozenset(("properties", "patternProperties", "dependentSchemas"))
DEFINITIONS: Final = frozenset(("$defs", "definitions"))
#: Said to people and to other programs; nothing is checked.
ANNOTATIONS: Final = frozenset(
    (
        "$comment", "contentEncoding", "contentMediaType", "default", "deprecated", "description",
        "discriminator", "examples", "format", "readOnly", "title", "writeOnly",
    )
)  # fmt: skip
_REFERENCE: Final = re.compile(r"#/(\$defs|definitions)/([A-Za-z0-9_.\-]{1,100})\Z")


def canonical(schema: Any) -> str:
    """The canonical JSON text of a stranger's schema. Raises BadContract if it can have none."""
    if not isinstance(schema, dict):
        raise BadContract(f"a schema is a JSON object, not {type(schema).__name__}")
    _admit_json(schema)
    text = json.dumps(schema, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    size = len(text.encode())
    if size > MAX_TEXT:
        raise BadContract(f"the schema has {size} bytes; at most {MAX_TEXT} are taken")
    dialect = schema.get("$schema", STANDARD)
    if not isinstance(dialect, str) or dialect.rstrip("#") not in (STANDARD, PYTHON):
        raise BadContract(f"$schema: only draft 2020-12 is taken: {STANDARD}")
    return text


def compiled(schema: Schema) -> Draft202012Validator:
    """Make an admitted schema ready to check with. Raises BadContract if it is not valid."""
    import jsonschema_rs as library  # 3 MB and 30 ms, which only a contract is worth

    try:
        return library.Draft202012Validator(
            {key: value for key, value in schema.items() if key != "$schema"},
            validate_formats=False,
            offline=True,
            pattern_options=library.RegexOptions(size_limit=32 * 1024, dfa_size_limit=256 * 1024),
        )
    except library.ValidationError as e:
        where = "".join(f"/{step}" for step in e.instance_path)
        if e.kind.name == "format":
            reason = (
                "is a pattern that is not taken: it is not valid, too large, or looks ahead or back"
            )
        else:
            reason = "does not suit its keyword" if e.kind.name != "type" else "has a wrong type"
        raise BadContract(f"{shown(where)} {reason}: {shown(e.message)}") from None
    except ValueError as e:
        raise BadContract(f"the schema cannot be used: {shown(str(e))}") from None


def first_error(schema: Schema, seen: Any) -> Any:
    """The library's first `ValidationError` of a value; None if it fits."""
    import jsonschema_rs as library

    try:
        compiled(schema).validate(seen)
    except library.ValidationError as e:
        return e
    return None


def subschemas(keyword: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The schemas that a keyword holds, each with its place; none where the form is wrong."""
    if keyword in ONE:
        yield "", value
    elif keyword in MANY and isinstance(value, list):
        yield from ((f"/{i}", inner) for i, inner in enumerate(value))
    elif keyword in NAMED | DEFINITIONS and isinstance(value, dict):
        yield from ((f"/{name}", inner) for name, inner in value.items())


def referred(root: Schema, reference: Any) -> str | None:
    """The place, such as `$defs/name`, that a reference leads to; None if to nowhere."""
    found = _REFERENCE.match(reference) if isinstance(reference, str) else None
    if found is None:
        return None
    definitions = root.get(found[1])
    inside = isinstance(definitions, dict) and found[2] in definitions
    return f"{found[1]}/{found[2]}" if inside else None


def _admit_json(schema: Schema) -> None:
    """Raise BadContract for what has no JSON text, or may have one without end."""
    stack: list[tuple[Any, int]] = [(schema, 0)]
    left = MAX_TEXT
    while stack:
        node, depth = stack.pop()
        left -= 1
        if depth > MAX_DEPTH or left < 0:
            raise BadContract(
                f"the schema is too large: at most {MAX_TEXT} bytes and {MAX_DEPTH} levels"
            )
        if isinstance(node, dict):
            stack.extend((inner, depth + 1) for pair in node.items() for inner in pair)
            if not all(isinstance(key, str) for key in node):
                raise BadContract("the schema has a key that is not a str")
        elif isinstance(node, list):
            stack.extend((inner, depth + 1) for inner in node)
        elif isinstance(node, str):
            if any("\ud800" <= c <= "\udfff" for c in node):
                raise BadContract("the schema holds a lone surrogate, which is not valid text")
        elif isinstance(node, int):
            if not -(2**63) <= node < 2**64:
                raise BadContract("the schema holds an integer beyond 64 bits")
        elif isinstance(node, float):
            if not math.isfinite(node):
                raise BadContract("the schema holds a number that is not finite")
        elif node is not None:
            raise BadContract(f"the schema holds a {type(node).__name__}, which is not JSON")


def shown(text: str) -> str:
    """Text from a stranger, short and fit to be shown."""
    clean = "".join(c if c.isprintable() else "?" for c in text[:200])
    return (clean if len(clean) <= 80 else clean[:77] + "...") or "the schema"
