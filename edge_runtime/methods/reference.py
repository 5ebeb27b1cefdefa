"""The reference of the built-in methods: `python -m edge_runtime.methods.reference` prints it.

The catalogue gives names, parameters and results, the implementation the rest. A test compares
`docs/reference/methods.md` with what is made here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge_runtime.methods import offboard, onboard
from protocol.methods import METHODS, REQUIRED, Method, Parameter

_INTRODUCTION = """\
# Built-in methods

Made from the catalogue and the code by `python -m edge_runtime.methods.reference`.

Give a method's name and its parameters: `oodida.Onboard("quantiles", signals="VEHICLE_SPEED",
samples=50, q=[0.5, 0.95])`, `oodida.Offboard("mean")`. `oodida methods` lists them on the command
line. Numbers are float64. A missing sample or result is NaN."""

_HEADER = """\
| parameter | value | unit | default | meaning |
| --- | --- | --- | --- | --- |"""

_SIDES: Mapping[str, tuple[str, Mapping[str, Callable[..., Any]]]] = {
    "onboard": ("On-board: over the window of one vehicle", onboard.METHODS),
    "offboard": ("Off-board: over the vehicles' results", offboard.METHODS),
}


def reference() -> str:
    """Return the page, in Markdown."""
    return "\n\n".join(_blocks()) + "\n"


def _blocks() -> Iterator[str]:
    yield _INTRODUCTION
    for side, (title, implementations) in _SIDES.items():
        yield f"## {title}"
        module = sys.modules[next(iter(implementations.values())).__module__]
        yield _text(module.__doc__)
        for method in METHODS[side].values():
            yield from _method_blocks(method, implementations[method.name])


def _method_blocks(method: Method, implementation: Callable[..., Any]) -> Iterator[str]:
    yield f"### {method.name}"
    yield _text(implementation.__doc__)
    if method.parameters:
        yield "\n".join([_HEADER, *map(_row, method.parameters)])
    for first, second in method.ranges:
        yield f"`{first}` and `{second}` are given both or not at all, `{first}` below `{second}`."
    yield f"Value: {method.returns}."


def _row(parameter: Parameter) -> str:
    if parameter.default is REQUIRED:
        default = "required"
    elif isinstance(parameter.default, tuple):
        default = f"`{list(parameter.default)}`"
    else:
        default = f"`{parameter.default}`"
    cells = (f"`{parameter.name}`", parameter.domain, parameter.unit, default, parameter.meaning)
    return f"| {' | '.join(cells)} |"


def _text(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "")


if __name__ == "__main__":
    sys.stdout.write(reference())
