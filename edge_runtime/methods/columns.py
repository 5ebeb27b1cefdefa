"""Statistics down the first axis of a table of float64, skipping NaN.

The table has shape (n, ...), n at least 1: n samples of a window, or n vehicles' results. What
comes back has the table's shape without the first axis. A missing value is NaN, and is skipped as
pandas skips it; where nothing is left the statistic is NaN, the count 0 and the sum 0.0. No
function warns as long as NumPy's floating-point errors are ignored, which `silent` sees to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def silent() -> np.errstate:
    """A context in which 0/0 is NaN and an overflow is infinite, without a warning."""
    return np.errstate(all="ignore")


def plain(value: npt.NDArray[Any]) -> Any:
    """Return an array without dimensions as Python's own number, any other as it is."""
    return value.item() if value.ndim == 0 else value


def _sum(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The sum; of booleans, an int64. Without the layers that NumPy puts around it.

    They take longer than a window of ten samples does, which is what thousands of simulated
    vehicles have.
    """
    return np.asarray(np.add.reduce(table, axis=0))


def count(table: Array) -> npt.NDArray[np.int64]:
    """How many values are there."""
    return _sum(~np.isnan(table))


def total(table: Array) -> Array:
    """The sum."""
    return _sum(np.where(np.isnan(table), 0.0, table))


def total_where_present(table: Array, values: Array) -> Array:
    """The sum of the values whose place in the table is not empty."""
    return _sum(np.where(np.isnan(table), 0.0, values))


def mean(table: Array) -> Array:
    """The arithmetic mean."""
    missing = np.isnan(table)
    return np.asarray(_sum(np.where(missing, 0.0, table)) / _sum(~missing))


def variance(table: Array, ddof: int) -> Array:
    """The mean squared distance from the mean, with n - ddof as the divisor (two passes)."""
    degrees = count(table) - ddof
    squares = total_where_present(table, (table - mean(table)) ** 2)
    return np.where(degrees > 0, squares / degrees, np.nan)


def minimum(table: Array) -> Array:
    """The smallest value."""
    return np.asarray(np.fmin.reduce(table, axis=0))


def maximum(table: Array) -> Array:
    """The largest value."""
    return np.asarray(np.fmax.reduce(table, axis=0))


def median(table: Array) -> Array:
    """The middle value, or the mean of the two in the middle."""
    ordered = np.sort(table, axis=0)  # NaN last
    n = count(table)
    return (_pick(ordered, (n - 1) // 2) + _pick(ordered, n // 2)) / 2


def quantiles(table: Array, q: Sequence[float]) -> Array:
    """The quantiles in a new first axis, linear between neighbours.

    Definition 7 of Hyndman and Fan, *Sample Quantiles in Statistical Packages* (1996), which is
    the default of NumPy and pandas: position q (n - 1) in the ordered values, counted from 0.
    """
    ordered = np.sort(table, axis=0)
    last = np.maximum(count(table) - 1, 0)
    found = np.empty((len(q), *table.shape[1:]))
    for row, share in enumerate(q):
        position = share * last
        low = np.floor(position).astype(np.int64)
        left, right = _pick(ordered, low), _pick(ordered, np.minimum(low + 1, last))
        part = position - low
        # From the nearer neighbour, as NumPy does it, so that quantiles never cross.
        near_left = left + (right - left) * part
        near_right = right - (right - left) * (1 - part)
        between = np.where(part < 0.5, near_left, near_right)
        found[row] = np.where(left == right, left, between)  # also where both are infinite
    return found


def _pick(ordered: Array, position: npt.NDArray[np.int64]) -> Array:
    """The value at one position of each column; -1 is the last, NaN where nothing is there."""
    return np.asarray(np.take_along_axis(ordered, position[np.newaxis], axis=0)[0])
