"""Which vehicles a selection gives; and, where it gives none, why, to who asked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from orchestrator.authority import WHO, Grant
from orchestrator.seen import Seen
from protocol.assignment import Select
from protocol.errors import UnknownVehicle
from protocol.participation import Participation

#: How many names or values a sentence lists.
_NAMED: Final = 5
_LIST: Final = "; `oodida vehicles` lists them"


def chosen(user: str, grant: Grant, select: Select, fleet: Mapping[str, Seen]) -> list[str]:
    """The vehicles selected. Raises UnknownVehicle if not one of them was ever seen.

    The selection is narrowed to what the user may use already. Nothing is told of other vehicles.
    """
    names = select.choose(fleet)
    if any(name in fleet for name in names):
        return names
    missing = {
        name: Participation(status="unknown", reason="no vehicle of this name was ever seen")
        for name in names
    }
    own = {name: seen for name, seen in fleet.items() if grant.sees(seen.attributes)}
    raise UnknownVehicle(
        _unknown(names, own) if select.names is not None else _none(user, grant, select, own),
        participation={name: why.model_dump() for name, why in missing.items()},
    )


def _unknown(names: list[str], own: Mapping[str, Seen]) -> str:
    near = difflib.get_close_matches(names[0], own, n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else _LIST
    return f"no vehicle is known by the name {', '.join(names[:_NAMED])}{hint}"


def _none(user: str, grant: Grant, select: Select, own: Mapping[str, Seen]) -> str:
    """Why attributes select none of the vehicles that a user may use."""
    theirs = f"that {user} may use ({grant.only}) " if grant.vehicles else ""
    if not own:
        limit = f"; {WHO}" if theirs else ""
        return f"no vehicle {theirs}was ever seen{limit}"
    if select.size is not None and Select(attributes=select.attributes).choose(own):
        return f"none of the selected vehicles is online now, to draw from{_LIST}"
    wanted = {k: v for k, v in select.attributes.items() if k not in grant.vehicles}
    words = [f"{name}={value}" for name, value in wanted.items()]
    told = [_values(name, own) for name in wanted]
    return f"no vehicle {theirs}has {' and '.join(words)}: {'; '.join(told)}{_LIST}"


def _values(name: str, own: Mapping[str, Seen]) -> str:
    found = {seen.attributes[name] for seen in own.values() if name in seen.attributes}
    if not found:
        return f"none has an attribute {name}"
    listed = sorted(map(str, found))
    more = ", …" if listed[_NAMED:] else ""
    return f"{name} is {', '.join(listed[:_NAMED])}{more}"
