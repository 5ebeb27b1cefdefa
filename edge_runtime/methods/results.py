"""What off-board methods share: taking the vehicles' results apart, or saying which does not fit.

Places are written as Python would: `results[2]['speed']` is what the third result has by the key
speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from edge_runtime.methods.columns import Array
from edge_runtime.methods.errors import refuse

#: Computes one value from the parts of the results at one path.
Leaf = Callable[[Sequence[Any], str], Any]
Sign = TypeVar("Sign", bound=Hashable)


def by_key(
    results: Sequence[Any],
    leaf: Leaf,
    *,
    whole: Callable[[object], bool] = lambda _: False,
    path: str = "",
) -> Any:
    """Apply a function to results, or by key where they are dicts with the same keys.

    ``whole`` says which dicts are not to be taken apart.
    Raises MethodError for a result whose keys are not those of the most.
    """
    keys = [frozenset(result) if isinstance(result, Mapping) else None for result in results]
    odd, common = odd_one_out(keys)
    if odd is not None:
        if keys[odd] is None or common is None:
            raise refuse(odd, path, f"is {'no' if keys[odd] is None else 'a'} dict, unlike most")
        raise refuse(odd, path, "has not the keys that most results have")
    if common is None or whole(results[0]):
        return leaf(results, path)
    return {
        key: by_key([r[key] for r in results], leaf, whole=whole, path=f"{path}[{key!r}]")
        for key in results[0]
    }


def odd_one_out(signs: Sequence[Sign]) -> tuple[int | None, Sign]:
    """The position of the first that is not as most are, None if there is none; and what most are.

    So the blame falls on the few, even where the first is one of them.
    """
    ((common, _),) = Counter(signs).most_common(1)
    return next((i for i, sign in enumerate(signs) if sign != common), None), common


def numbers(result: Any, position: int, path: str) -> Array:
    """A number, array or list of numbers as float64; booleans are 0 and 1.

    Raises MethodError for anything else.
    """
    try:
        array = np.asarray(result)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        kind = type(result).__name__
        raise refuse(position, path, f"is neither a number nor an array of numbers ({kind})")
    return array.astype(np.float64)


def stack(results: Sequence[Any], path: str) -> Array:
    """Numbers or arrays of one shape as a table of shape (n, *shape).

    Raises MethodError for what is not a number, and for a shape that is not that of the most.
    """
    arrays = [numbers(result, position, path) for position, result in enumerate(results)]
    odd, common = odd_one_out([array.shape for array in arrays])
    if odd is not None:
        raise refuse(odd, path, f"has the shape {arrays[odd].shape}, most results {common}")
    return np.stack(arrays)
