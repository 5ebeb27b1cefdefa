"""The off-board statistics: each computes one value from the vehicles' results.

A result is a number, an array (or list) of numbers, or a dict of such. Statistics work element by
element on arrays of one shape, and by key on dicts with the same keys. A boolean counts as 0 or 1.
A result that is NaN is missing and skipped, as in a window; where every result is missing the
statistic is NaN. Units are those of the results. Every method raises MethodError, naming the
position, for a result that cannot be combined with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from edge_runtime.methods import columns
from edge_runtime.methods.bins import add_histograms, histogram_of, is_histogram, pool
from edge_runtime.methods.columns import Array, plain
from edge_runtime.methods.combining import (
    collect,
    federated_averaging,
    majority_vote,
    weighted_mean,
)
from edge_runtime.methods.errors import MethodError
from edge_runtime.methods.results import by_key, stack


def run(name: str, results: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Run a method over results; the parameters have been checked and completed."""
    if not len(results):
        raise MethodError(f"{name} has no result to combine")
    with columns.silent():
        return METHODS[name](results, **params)


def _each(results: Sequence[Any], statistic: Callable[[Array], Any]) -> Any:
    return by_key(results, lambda parts, path: plain(statistic(stack(parts, path))))


def mean(results: Sequence[Any]) -> Any:
    """Arithmetic mean of the vehicles' results.

    Every vehicle counts the same, however long its window: weighted_mean is for the other case.
    """
    return _each(results, columns.mean)


def median(results: Sequence[Any]) -> Any:
    """Median of the vehicles' results.

    The middle one in order of size, or the mean of the two in the middle.
    """
    return _each(results, columns.median)


def stdev(results: Sequence[Any], ddof: int = 1) -> Any:
    """Standard deviation of the vehicles' results.

    The square root of the variance, which see.
    """
    return _each(results, lambda table: np.sqrt(columns.variance(table, ddof)))


def variance(results: Sequence[Any], ddof: int = 1) -> Any:
    """Variance of the vehicles' results.

    The sum of the squared distances from the mean, divided by n - ddof; NaN where that is not
    positive. The unit is squared.
    """
    return _each(results, lambda table: columns.variance(table, ddof))


def minimum(results: Sequence[Any]) -> Any:
    """Smallest of the vehicles' results."""
    return _each(results, columns.minimum)


def maximum(results: Sequence[Any]) -> Any:
    """Largest of the vehicles' results."""
    return _each(results, columns.maximum)


def total(results: Sequence[Any]) -> Any:
    """Sum of the vehicles' results.

    0.0 where every result is missing.
    """
    return _each(results, columns.total)


def count(results: Sequence[Any]) -> Any:
    """Number of the vehicles' results that are not missing.

    An integer; an int64 array where the results are arrays.
    """
    return _each(results, columns.count)


def quantiles(results: Sequence[Any], q: Sequence[float] = (0.25, 0.5, 0.75)) -> Any:
    """Quantiles of the vehicles' results, interpolated linearly.

    An array of the length of q; of shape (length of q, *shape) where the results are arrays.
    Definition 7 of Hyndman and Fan (1996), the default of NumPy and pandas.
    """
    return _each(results, lambda table: columns.quantiles(table, q))


def histogram(
    results: Sequence[Any], bins: int = 10, low: float | None = None, high: float | None = None
) -> Any:
    """Histogram of the vehicles' results, or the sum of their histograms.

    Where the results are histograms, as the on-board method makes them, their counts are added:
    they must have the same edges, and bins, low and high are not used. Otherwise all numbers are
    counted into one histogram, arrays of any shape with all their elements. By key where the
    results are dicts. Returns {"edges": array of bins + 1, "counts": array of bins, int64}.
    """

    def leaf(parts: Sequence[Any], path: str) -> Any:
        if is_histogram(parts[0]):
            return add_histograms(parts, path)
        return histogram_of(pool(parts, path), bins, low, high)

    return by_key(results, leaf, whole=is_histogram)


METHODS: Final[Mapping[str, Callable[..., Any]]] = {
    "mean": mean,
    "median": median,
    "stdev": stdev,
    "variance": variance,
    "min": minimum,
    "max": maximum,
    "sum": total,
    "count": count,
    "quantiles": quantiles,
    "histogram": histogram,
    "collect": collect,
    "weighted_mean": weighted_mean,
    "majority_vote": majority_vote,
    "federated_averaging": federated_averaging,
}
