"""Histograms: counting numbers into bins, and adding what was counted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from edge_runtime.methods.columns import Array
from edge_runtime.methods.errors import MethodError, refuse
from edge_runtime.methods.results import numbers, odd_one_out, stack

_MOST = 2**53  # up to here float64 holds every whole number


class Histogram(TypedDict):
    """Bins of equal width: ``edges`` is one longer than ``counts``."""

    edges: Array
    counts: npt.NDArray[np.int64]


def is_histogram(value: object) -> bool:
    """Whether a value has the form of a histogram."""
    return isinstance(value, Mapping) and value.keys() == {"edges", "counts"}


def histogram_of(values: Array, bins: int, low: float | None, high: float | None) -> Histogram:
    """Count values of one dimension; NaN and what is outside of low to high is left out.

    Raises MethodError where the range cannot be split into so many bins.
    """
    if low is None or high is None:
        finite = values[np.isfinite(values)]
        if not finite.size:
            return {"edges": np.full(bins + 1, np.nan), "counts": np.zeros(bins, np.int64)}
        low, high = float(finite.min()), float(finite.max())
    try:
        counts, edges = np.histogram(values, bins, (low, high))
    except ValueError:
        raise MethodError(f"{low!r} to {high!r} cannot be split into {bins} bins") from None
    return {"edges": edges.astype(np.float64), "counts": counts.astype(np.int64)}


def add_histograms(results: Sequence[Mapping[str, Any]], path: str) -> Histogram:
    """Add the counts of histograms over the same edges. Raises MethodError for others."""
    edges = stack([result["edges"] for result in results], f"{path}['edges']")
    counts = stack([result["counts"] for result in results], f"{path}['counts']")
    if counts.ndim != 2 or edges.shape != (len(counts), counts.shape[1] + 1):
        raise refuse(0, path, "is not a histogram, with one edge more than counts")
    odd, _ = odd_one_out([row.tobytes() for row in edges])
    if odd is not None:
        raise refuse(odd, path, "has other edges than most; give low and high on-board")
    whole = (counts >= 0) & (counts <= _MOST) & (counts == np.rint(counts))
    if not whole.all():
        position = int(np.argmin(whole.all(axis=1)))
        raise refuse(position, path, "has counts that are not whole numbers")
    return {"edges": edges[0], "counts": counts.sum(axis=0).astype(np.int64)}


def pool(results: Sequence[Any], path: str) -> Array:
    """All numbers of the results in one row, whatever their shapes."""
    return np.concatenate([numbers(r, i, path).ravel() for i, r in enumerate(results)])
