"""What checking against a schema can cost at most, known before anything is checked.

A few hundred bytes of references can mean more subschemas than there are atoms, and a library that
follows them neither stops nor lets go of the interpreter. So a schema is measured with its
references followed, none of which may lead in a circle, and a value is held against it only if the
product of both is within bounds.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Final, NamedTuple

from protocol.contract.schema import (
    ANNOTATIONS,
    DEFINITIONS,
    MANY,
    MAX_DEPTH,
    NAMED,
    ONE,
    Schema,
    referred,
    shown,
    subschemas,
)
from protocol.errors import BadContract

#: Parts of a schema, references followed.
MAX_WEIGHT: Final = 10_000
#: Patterns of a schema, references followed: each takes memory, too.
MAX_PATTERNS: Final = 32
#: Steps of one check, each of about 20 ns.
MAX_STEPS: Final = 50_000_000
#: Characters looked at in one check, each of about 1 ns; matching a pattern takes as many as
#: `PATTERN` looks.
MAX_LOOKS: Final = 1_000_000_000
PATTERN: Final = 1000
#: Steps of comparing a number with a limit; and where the number is large, because the library
#: writes out its digits.
NUMBER: Final = 25
LARGE: Final = 600

_NUMBERS: Final = frozenset(
    ("multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum")
)
_LENGTHS: Final = frozenset(("maxLength", "minLength"))
_PLAIN: Final = (
    frozenset(
        (
            "type", "enum", "const", "pattern", "maxItems", "minItems", "minContains",
            "maxContains", "required", "dependentRequired", "maxProperties", "minProperties",
        )
    )
    | _NUMBERS
    | _LENGTHS
)  # fmt: skip
#: Keywords that hold schemas for what is inside a value; the others are for the value itself.
_INSIDE: Final = frozenset(
    (
        "items", "contains", "additionalProperties", "propertyNames", "prefixItems", "properties",
        "patternProperties",
    )
)  # fmt: skip
#: Of those, the ones by which an item meets one of the schemas only.
_ONE_OF_THEM: Final = frozenset(("prefixItems", "properties"))
_NOT_HERE: Final = {
    "uniqueItems": "it takes time that grows with the square of the items",
    "$id": "references go to the schema's own $defs, by '#/$defs/name'",
    "$anchor": "references go to the schema's own $defs, by '#/$defs/name'",
    "$defs": "definitions stand at the top of the schema",
    "definitions": "definitions stand at the top of the schema",
}
#: An amount for each level of a value, from the outside.
Levels = tuple[int, ...]


class Measure(NamedTuple):
    """What a schema amounts to, its references followed."""

    weight: int = 1
    depth: int = 1
    patterns: int = 0
    looks: int = 0  # at each character
    steps: Levels = (1,)  # for each item of a level
    numbers: Levels = ()  # comparisons of numbers among them

    def excess(self, items: Levels, large: Levels, characters: int, *, strict: bool) -> str | None:
        """Say why a value is too much for the schema; None if it is not.

        ``items`` and ``large`` count items and large numbers by level; ``strict`` is whether
        integers are also compared: see `contract.py`.
        """
        steps = _product(items, self.steps) + _product(large, self.numbers) * LARGE
        if strict:
            steps += _product(items, self.numbers) * NUMBER
        if steps > MAX_STEPS:
            return (
                f"the value has {sum(items)} items, too many to be held against a schema of "
                f"{self.weight} parts; return less, or make the schema simpler"
            )
        if characters * self.looks > MAX_LOOKS:
            return (
                f"the value has {characters} characters of text, too many for a schema with "
                f"{self.patterns} patterns; return less, or make the schema simpler"
            )
        return None


def measure(schema: Schema) -> Measure:
    """Measure a schema that has a canonical text. Raises BadContract for what has no bound."""
    return _Scale(schema).whole()


class _Scale:
    """Weighs a schema. A definition is weighed once, however often it is referred to."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._known: dict[str, Measure] = {}
        self._open: set[str] = set()

    def whole(self) -> Measure:
        for kind in sorted(DEFINITIONS):
            for name, _ in subschemas(kind, self._root.get(kind)):
                self._definition(f"{kind}{name}", 0)
        top = {k: v for k, v in self._root.items() if k not in DEFINITIONS and k != "$schema"}
        return self._of(top, "", 0)

    def _of(self, schema: Any, where: str, level: int) -> Measure:
        if not isinstance(schema, dict):
            return Measure()
        if level > MAX_DEPTH:  # before the interpreter's own stack is at its end
            _bounded(Measure(depth=level), where)
        found = Measure(depth=0)
        for keyword, value in schema.items():
            place = f"{where}/{keyword}"
            if keyword == "$ref":
                part = self._referred(value, place, level + 1)
            elif keyword in ONE | MANY | NAMED:
                parts = [
                    self._of(inner, place + step, level + 1)
                    for step, inner in subschemas(keyword, value)
                ]
                part = _inside(keyword, parts) if keyword in _INSIDE else _all_of(parts)
            elif keyword in ANNOTATIONS:
                continue
            elif keyword in _PLAIN:
                part = _plain(keyword, value)
            else:
                why = _NOT_HERE.get(keyword, "it is not known, or has no bounded cost")
                raise BadContract(f"{shown(where)}: {shown(keyword)!r} is not taken here: {why}")
            found = _all_of([found, part])
        return _bounded(found._replace(depth=found.depth + 1), where)

    def _referred(self, reference: Any, where: str, level: int) -> Measure:
        place = referred(self._root, reference)
        if place is None:
            raise BadContract(
                f"{shown(where)} refers to {shown(str(reference))!r}; a reference goes to the "
                "schema's own '#/$defs/name', and nothing is fetched"
            )
        return self._definition(place, level)

    def _definition(self, place: str, level: int) -> Measure:
        if place in self._open:
            raise BadContract(
                f"{shown(place)} refers to itself, so that checking has no bound; "
                "write out as many levels as there are"
            )
        if place not in self._known:
            self._open.add(place)
            kind, _, name = place.partition("/")
            self._known[place] = self._of(self._root[kind][name], "/" + place, level)
            self._open.discard(place)
        return self._known[place]


def _bounded(found: Measure, where: str) -> Measure:
    for name, most, amount in (
        ("parts", MAX_WEIGHT, found.weight),
        ("levels", MAX_DEPTH, found.depth),
        ("patterns", MAX_PATTERNS, found.patterns),
    ):
        if amount > most:
            raise BadContract(
                f"{shown(where)} has more than {most} {name}, its references followed"
            )
    return found


def _plain(keyword: str, value: Any) -> Measure:
    """What a keyword amounts to that holds no schemas."""
    weight = _nodes(value)
    compared = 1 if keyword in _NUMBERS else 4 * weight if keyword in ("const", "enum") else 0
    # Where infinity is looked at, an integer is compared with two limits.
    integer = keyword == "type" and isinstance(value, str | list) and "integer" in value
    pattern = keyword == "pattern"
    return Measure(
        weight=weight,
        depth=0,
        patterns=int(pattern),
        looks=PATTERN * pattern + (keyword in _LENGTHS),
        steps=(weight + NUMBER * compared,),
        numbers=(compared + 2 * integer,),
    )


def _nodes(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + _nodes(inner) for inner in value.values())
    return 1 + (sum(map(_nodes, value)) if isinstance(value, list) else 0)


def _all_of(parts: list[Measure]) -> Measure:
    """Each of the parts for the same value."""
    return Measure(
        weight=sum(part.weight for part in parts),
        depth=max((part.depth for part in parts), default=0),
        patterns=sum(part.patterns for part in parts),
        looks=sum(part.looks for part in parts),
        steps=_by_level(sum, [part.steps for part in parts]),
        numbers=_by_level(sum, [part.numbers for part in parts]),
    )


def _inside(keyword: str, parts: list[Measure]) -> Measure:
    """The parts for what is inside a value."""
    whole = _all_of(parts)
    join = max if keyword in _ONE_OF_THEM else sum
    patterns = len(parts) if keyword == "patternProperties" else 0
    return whole._replace(
        patterns=whole.patterns + patterns,
        looks=whole.looks + PATTERN * patterns,
        steps=(len(parts), *_by_level(join, [part.steps for part in parts])),
        numbers=(0, *_by_level(join, [part.numbers for part in parts])),
    )


def _by_level(join: Any, columns: list[Levels]) -> Levels:
    return tuple(join(row) for row in zip_longest(*columns, fillvalue=0))


def _product(items: Levels, amounts: Levels) -> int:
    return sum(a * b for a, b in zip(items, amounts, strict=False))
