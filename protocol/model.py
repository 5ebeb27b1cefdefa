"""What is read from strangers is read up to the first thing that is wrong with it.

pydantic looks for all faults, and keeps a record of each: a list of millions of wrong items in one
message cost gigabytes and most of a minute. Only the first is ever told.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

#: The schemas of what holds any number of items.
_MANY: Final = frozenset({"list", "tuple", "set", "frozenset", "dict"})
#: More fields than any model has: of more, not one is looked at.
_MOST_FIELDS: Final = 100


def _hurry(schema: CoreSchema) -> None:
    """Have whatever holds many items refuse them all at the first wrong one."""
    stack: list[Any] = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            kind = node.get("type")  # of a table of fields it is the field of that name
            if isinstance(kind, str) and kind in _MANY:
                node["fail_fast"] = True
            others = ("metadata", "serialization")
            stack += (inner for key, inner in node.items() if key not in others)
        elif isinstance(node, list | tuple):
            stack += node


class FirstFault(BaseModel):
    """A model whose reading ends with its first fault."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema that pydantic makes, but impatient."""
        schema = handler(source)
        _hurry(schema)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _not_too_many_fields(cls, given: Any) -> Any:
        if type(given) is dict and len(given) > _MOST_FIELDS:
            raise ValueError(f"there are {len(given)} fields, where there may be few")
        return given
