"""The result contract: what a module's value must look like before it leaves the vehicle.

A contract is a JSON schema, given by the analyst or made from an annotation (`annotation.py`), and
is checked outside the container on the value's tree: whatever the module does, nothing else gets
out. What a schema sees of a tree is `likeness.py`; which schemas are taken is `schema.py`; what is
said of a value that does not fit is `misfit.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from protocol.contract.cost import Measure, measure
from protocol.contract.likeness import FINITE, HUGE, Likeness
from protocol.contract.misfit import misfit
from protocol.contract.schema import (
    ANNOTATIONS,
    DEFINITIONS,
    MANY,
    NAMED,
    ONE,
    PYTHON,
    Schema,
    canonical,
    compiled,
    shown,
)
from protocol.values import Tree, ValueProblem


@dataclass(frozen=True)
class Contract:
    """What a result must fit. Equal if the schema's canonical text is; travels as the schema."""

    text: str
    measure: Measure = field(compare=False, repr=False)

    @classmethod
    def of_schema(cls, schema: Schema) -> Self:
        """Take a stranger's JSON schema. Raises BadContract saying what is wrong with it."""
        text = canonical(schema)
        measured = measure(schema)
        compiled(schema)
        return cls(text, measured)

    @property
    def schema(self) -> Schema:
        """The schema, as a dict of its own."""
        parsed: Schema = json.loads(self.text)
        return parsed

    @cached_property
    def python(self) -> bool:
        """True if the schema tells values apart as Python's types do."""
        return str(self.schema.get("$schema")).rstrip("#") == PYTHON

    @cached_property
    def _lenient(self) -> _Judge:
        return _Judge(_prepare(self.schema, finite=False))

    @cached_property
    def _strict(self) -> _Judge:
        return _Judge(_prepare(self.schema, finite=True))

    def check(self, tree: Tree) -> str | None:
        """Hold a tree that has passed `values.check` against the schema.

        Returns None if it fits, else a sentence of at most 300 characters: where, what is
        expected, what was found. Raises nothing.
        """
        try:
            return self._check(tree)
        except BaseException as e:
            # A panic of the library is no Exception. What could not be checked must not leave.
            if not isinstance(e, Exception) and type(e).__name__ != "PanicException":
                raise
            return f"the value cannot be checked: {type(e).__name__}: {shown(str(e))}"

    def _check(self, tree: Tree) -> str | None:
        look = Likeness(python=self.python)
        try:
            seen = look.of(tree)
        except ValueProblem as e:
            return f"the value cannot be checked: {shown(str(e))}"
        counts = tuple(look.items), tuple(look.large), look.characters
        excess = self.measure.excess(*counts, strict=look.has_infinity)
        if excess:
            return excess
        judge = self._strict if look.has_infinity else self._lenient
        said = judge.misfit(seen, tree)
        if look.has_nan and said is None:
            said = judge.misfit(Likeness(python=False, nan=-HUGE).of(tree), tree)
        return said


class _Judge:
    """A prepared schema, ready to check with."""

    def __init__(self, prepared: Schema) -> None:
        self._prepared = prepared
        self._validator = compiled(prepared)

    def misfit(self, seen: Any, tree: Tree) -> str | None:
        return None if self._validator.is_valid(seen) else misfit(self._prepared, seen, tree)


def _prepare(schema: Any, *, finite: bool) -> Any:
    """The same schema, so written that it can be checked, and misfits told, at bounded cost.

    The library explains a union by every failure of every branch, which for a large value takes
    seconds and hundreds of megabytes; `not` it does not explain, so unions go behind two. And what
    stands for infinity is by chance an integer and a multiple of much: ``finite`` tells it apart.
    """
    if not isinstance(schema, dict):
        return schema
    made: Schema = {}
    also: list[Schema] = []
    for keyword, value in schema.items():
        if keyword in ("anyOf", "oneOf"):
            branches = [_prepare(inner, finite=finite) for inner in value]
            also.append({"not": {"not": {keyword: branches}}})
        elif keyword in ONE:
            made[keyword] = _prepare(value, finite=finite)
        elif keyword in MANY:
            made[keyword] = [_prepare(inner, finite=finite) for inner in value]
        elif keyword in NAMED or keyword in DEFINITIONS:
            made[keyword] = {name: _prepare(inner, finite=finite) for name, inner in value.items()}
        elif keyword == "title" or keyword not in ANNOTATIONS:
            made[keyword] = value
    types = schema.get("type", ())
    if finite and (("integer" in types and "number" not in types) or "multipleOf" in schema):
        also.append({"minimum": -FINITE, "maximum": FINITE})
    if also:
        made["allOf"] = [*made.get("allOf", []), *also]
    return made
