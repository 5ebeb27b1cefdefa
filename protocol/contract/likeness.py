"""What a JSON schema sees of a value: plain JSON, made from its tree.

In both dialects a tuple or an array is the list of its elements, nested by shape; an array without
dimensions is its one element.

In the standard dialect bytes are a text in base64, a complex number is a list of two numbers, and
a number that is not finite is larger, or smaller, than any other: see `Likeness`.

In the dialect of Python's types only the types of numbers matter, so each float is seen as one
that is no integer, bytes as ``{"~": base64}`` and a complex number as ``{"~": 0}``. No dict can
look like that: a key that begins with `~` is seen with a second one.
"""

from __future__ import annotations

import binascii
import math
import sys
from typing import Any, Final

from protocol.values import Tree, ValueProblem

#: The only key of what is neither JSON nor a dict.
MARK: Final = "~"
#: Stands for infinity. It is within no bound that is not of its own size.
HUGE: Final = sys.float_info.max
#: From here on comparing a float takes the library long.
LARGE: Final = 1e15
#: The bound within which every number is that does not stand for infinity.
FINITE: Final = math.nextafter(HUGE, 0)
#: A float of which nothing but its type is to be seen.
_SOME_FLOAT: Final = 0.5
#: Levels of nesting, arrays' dimensions included. Beyond what may travel.
MAX_DEPTH: Final = 96
#: Items, elements of arrays included; a value of 1 MB has fewer, unless it is made to have more.
MAX_ITEMS: Final = 2_000_000
_PLAIN: Final = frozenset((int, bool, type(None)))


def key_of(name: str) -> str:
    """The key under which the dialect of Python's types sees an item of a dict."""
    return "~" + name if name.startswith("~") else name


class Likeness:
    """One look at a tree that has passed `values.check`; counts what it sees.

    ``nan`` is the number that is seen for NaN, which is neither larger nor smaller than a bound:
    what fits whether it is `HUGE` or ``-HUGE`` has no bound. Raises ValueProblem for a tree that
    is too much.
    """

    def __init__(self, *, python: bool, nan: float = HUGE) -> None:
        #: Items by level, and how many of them are large numbers.
        self.items: list[int] = []
        self.large: list[int] = []
        self.characters = 0
        self.has_nan = False
        self.has_infinity = False
        self._left = MAX_ITEMS
        self._python = python
        self._nan = nan

    def of(self, node: Tree, depth: int = 0) -> Any:
        """The node as a schema sees it."""
        self._count(1, depth)
        kind = type(node)
        if kind is list:
            return self._list(node, depth)
        if kind is dict:
            return self._dict(node, depth)
        if kind is str:
            self.characters += len(node)
            return node
        if kind is float:
            self.large[depth] += abs(node) >= LARGE
            return _SOME_FLOAT if self._python else node
        if kind is bytes:
            return self._bytes(node)
        if kind in _PLAIN:
            return node
        raise ValueProblem(f"a {kind.__name__} may not travel")

    def _count(self, items: int, depth: int, large: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise ValueProblem("the value is nested too deeply")
        while len(self.items) <= depth:
            self.items.append(0)
            self.large.append(0)
        self.items[depth] += items
        self.large[depth] += large
        self._left -= items
        if self._left < 0:
            raise ValueProblem(f"the value has more than {MAX_ITEMS} elements")

    def _list(self, node: list[Any], depth: int) -> list[Any]:
        kinds = set(map(type, node))
        if kinds <= _PLAIN:
            self._count(len(node), depth + 1)
            return node  # nothing is changed by anybody who looks
        if kinds == {float}:
            large = 0 if self._python else _large(node)
            self._count(len(node), depth + 1, large)
            return [_SOME_FLOAT] * len(node) if self._python else node
        return [self.of(inner, depth + 1) for inner in node]

    def _dict(self, node: dict[str, Any], depth: int) -> Any:
        if len(node) == 1:
            ((mark, inner),) = node.items()
            if mark == "~t":
                return self._list(inner, depth)
            if mark == "~f":
                return self._not_finite(inner, depth)
            if mark == "~a":
                return self._array(inner[0], inner[1], inner[2], depth)
            if mark == "~d":
                node = {inner[0]: inner[1]}
        self.characters += sum(map(len, node))
        if self._python:
            return {key_of(key): self.of(inner, depth + 1) for key, inner in node.items()}
        return {key: self.of(inner, depth + 1) for key, inner in node.items()}

    def _bytes(self, data: bytes) -> Any:
        text = binascii.b2a_base64(data, newline=False).decode()
        self.characters += len(text)
        return {MARK: text} if self._python else text

    def _not_finite(self, name: str, depth: int) -> float:
        if self._python:
            return _SOME_FLOAT
        self.large[depth] += 1
        self.has_infinity = True
        self.has_nan = self.has_nan or name == "nan"
        return self._nan if name == "nan" else math.copysign(HUGE, float(name))

    def _array(self, dtype: str, shape: list[int], data: bytes, depth: int) -> Any:
        import numpy as np  # not imported for the many values without arrays

        for axis in range(len(shape)):
            self._count(math.prod(n or 1 for n in shape[: axis + 1]), depth + axis + 1)
        array = np.frombuffer(data, dtype).reshape(shape)
        if dtype[1] in "iub":
            return array.tolist()
        if self._python:
            one = {MARK: 0} if dtype[1] == "c" else _SOME_FLOAT
            return np.full(array.shape, one, object).tolist()
        if dtype[1] == "c":
            array = np.stack([array.real, array.imag], axis=-1)
        # What is not finite is large, also NaN, for which the comparison is false.
        large = array.size - int(np.count_nonzero(np.abs(array) < LARGE))
        self._count(2 * array.size if dtype[1] == "c" else 0, depth + array.ndim, large)
        if large and not np.isfinite(array).all():
            self.has_infinity = True
            self.has_nan = self.has_nan or bool(np.isnan(array).any())
            array = np.nan_to_num(array.astype("f8"), nan=self._nan, posinf=HUGE, neginf=-HUGE)
        return array.tolist()


def _large(numbers: list[float]) -> int:
    if max(numbers) < LARGE and min(numbers) > -LARGE:
        return 0
    return sum(not -LARGE < number < LARGE for number in numbers)


def at(tree: Tree, path: list[str | int]) -> Tree:
    """The node of a tree that a path in its likeness leads to, or the last one on the way."""
    node = tree
    for place, step in enumerate(path):
        mark = next(iter(node)) if isinstance(node, dict) and len(node) == 1 else None
        if mark == "~a":
            return _element(node, path[place:])
        if mark == "~t":
            node = node["~t"]
        elif mark == "~d":
            node = dict([node["~d"]])
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, dict) and isinstance(step, str) and step[1:] in node:
            node = node[step[1:]]
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            return node
    return node


def _element(tree: Tree, path: list[str | int]) -> Tree:
    import numpy as np

    from protocol.values import pack

    dtype, shape, data = tree["~a"]
    array = np.frombuffer(data, dtype).reshape(shape)
    return pack(np.asarray(array[tuple(int(step) for step in path[: len(shape)])]))
