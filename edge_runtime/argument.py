"""What an order brings along: bounded before anything takes it."""

from __future__ import annotations

from typing import Final

from protocol import values
from protocol.errors import OodidaError
from protocol.values import Tree

#: What arrives in an order was bounded when it was made; this bounds what a stranger sends.
INPUT: Final = values.Bounds(size=48 * 1024 * 1024, depth=40, items=4_000_000)


def checked(tree: Tree) -> Tree:
    """The same, if it may be taken. Raises OodidaError."""
    try:
        return values.check(tree, INPUT)
    except values.ValueProblem as problem:
        raise OodidaError(f"the order holds no value that may travel: {problem}") from None
