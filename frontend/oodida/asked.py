"""What is asked for with a module, looked at before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from oodida.source import environment_for
from protocol import values
from protocol.assignment import explain
from protocol.errors import BadLimits, BadRequest, BadValue, UnknownEnvironment
from protocol.limits import LimitsAsked
from protocol.module import Environment as Shipped
from protocol.module import Side


def side_of(to: str) -> Side:
    """Where a module goes. Raises BadRequest for what is neither."""
    sides = {"vehicles": Side.ONBOARD, "cloud": Side.OFFBOARD}
    if to not in sides:
        raise BadRequest(f'a module goes to "vehicles" or to the "cloud", not to {to!r:.40}')
    return sides[to]


def environment_of(given: str | None, source: str) -> str:
    """The environment asked for, or the one that a source needs. Raises UnknownEnvironment."""
    if given is None:
        return environment_for(source).value
    if not isinstance(given, str):
        raise BadRequest(
            f"environment is a name, a digest or an Environment, not {type(given).__name__}; "
            "libraries of your own: environment=oodida.Environment([...])"
        )
    if given not in list(Shipped) and not re.fullmatch("[0-9a-f]{64}", given):
        known = ", ".join(Shipped)
        raise UnknownEnvironment(
            f"there is no environment {given!r:.60}; choose one of {known}, or a digest that "
            "`oodida environments` lists, or give an Environment of libraries of your own"
        )
    return given


def limits_of(profile: str, lower: Mapping[str, float] | None) -> LimitsAsked:
    """A profile, and what is lowered of it. Raises BadLimits."""
    if lower is not None and not isinstance(lower, Mapping):
        raise BadLimits(f'limits is a dict such as {{"time_s": 2}}, not {type(lower).__name__}')
    try:
        return LimitsAsked(profile=profile, lower=dict(lower or {}))
    except ValidationError as problem:
        raise BadLimits(explain(problem)) from None


def example_of(example: Any) -> values.Tree:
    """An example of what a module is called with, as it travels. Raises BadValue."""
    try:
        return values.pack(example)
    except values.ValueProblem as problem:
        raise BadValue(f"the example: {problem}") from None
