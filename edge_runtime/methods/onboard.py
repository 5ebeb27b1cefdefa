"""The on-board methods: each computes one value from the samples of one signal.

Samples are a one-dimensional float64 array in the signal's unit, at least one, NaN where a sample
is missing. Statistics skip what is missing, as pandas does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from edge_runtime.methods import Samples, Window, columns
from edge_runtime.methods.bins import Histogram, histogram_of
from edge_runtime.methods.columns import Array
from edge_runtime.methods.errors import MethodError


def run(name: str, window: Window, params: Mapping[str, Any]) -> Any:
    """Run a method over a window; the parameters have been checked and completed."""
    method = METHODS[name]
    with columns.silent():
        if isinstance(window, Mapping):
            return {
                signal: method(_samples(given, signal), **params)
                for signal, given in window.items()
            }
        return method(_samples(window, "the window"), **params)


def _samples(given: Samples, what: str) -> Array:
    try:
        samples = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise MethodError(f"{what} holds something else than numbers") from None
    if samples.ndim != 1 or samples.size == 0:
        raise MethodError(f"{what} is not a row of at least one sample")
    return samples


def mean(window: Array) -> float:
    """Arithmetic mean of the samples.

    Returns a number in the signal's unit, NaN where every sample is missing.
    """
    return float(columns.mean(window))


def median(window: Array) -> float:
    """Median of the samples.

    Returns a number in the signal's unit: the middle sample in order of size, or the mean of the
    two in the middle; NaN where every sample is missing.
    """
    return float(columns.median(window))


def stdev(window: Array, ddof: int = 1) -> float:
    """Standard deviation of the samples.

    Returns a number in the signal's unit: the square root of the variance, which see.
    """
    return float(np.sqrt(columns.variance(window, ddof)))


def variance(window: Array, ddof: int = 1) -> float:
    """Variance of the samples.

    Returns a number in the signal's unit squared: the sum of the squared distances from the mean,
    divided by n - ddof; NaN where that is not positive.
    """
    return float(columns.variance(window, ddof))


def minimum(window: Array) -> float:
    """Smallest sample.

    Returns a number in the signal's unit, NaN where every sample is missing.
    """
    return float(columns.minimum(window))


def maximum(window: Array) -> float:
    """Largest sample.

    Returns a number in the signal's unit, NaN where every sample is missing.
    """
    return float(columns.maximum(window))


def total(window: Array) -> float:
    """Sum of the samples.

    Returns a number in the signal's unit, 0.0 where every sample is missing.
    """
    return float(columns.total(window))


def count(window: Array) -> int:
    """Number of samples that are not missing.

    Returns an integer, at most the length of the window.
    """
    return int(columns.count(window))


def quantiles(window: Array, q: Sequence[float] = (0.25, 0.5, 0.75)) -> Array:
    """Quantiles of the samples, interpolated linearly.

    Returns an array of the length of q in the signal's unit, NaN where every sample is missing.
    Definition 7 of Hyndman and Fan (1996), the default of NumPy and pandas.
    """
    return columns.quantiles(window, q)


def histogram(
    window: Array, bins: int = 10, low: float | None = None, high: float | None = None
) -> Histogram:
    """Histogram of the samples over bins of equal width.

    Returns {"edges": array of bins + 1, in the signal's unit, "counts": array of bins, int64}.
    A bin has its left edge and not its right one; the last has both. Samples outside of low to
    high are not counted. With low and high every vehicle has the same edges, so that the
    off-board histogram can add the counts; without, the finite samples give them (NaN edges where
    there is none). Raises MethodError where that range is too narrow or too wide to be split.
    """
    return histogram_of(window, bins, low, high)


def rate_of_change(window: Array, interval_s: float = 1.0) -> Array:
    """Change per second from each sample to the next.

    Returns an array of n - 1 in the signal's unit per second: item i is the change from sample i
    to sample i + 1, divided by interval_s; NaN beside a missing sample.
    """
    return np.diff(window) / interval_s


def threshold_exceedance(window: Array, threshold: float) -> dict[str, bool | int | float]:
    """Whether, how often and for how long the samples exceed a threshold.

    A sample exceeds it if it is greater; a missing one does not, and ends a run. Returns
    {"exceeded": whether any does, "count": how many do, "share": which part of the samples that
    are there (0 to 1), "max": the largest sample, in the signal's unit, "longest_run": the most
    samples in a row that do}; share and max are NaN where every sample is missing.
    """
    exceeds = window > threshold
    above = int(np.count_nonzero(exceeds))
    turns = np.flatnonzero(np.diff(exceeds, prepend=False, append=False))
    runs = turns[1::2] - turns[::2]
    return {
        "exceeded": above > 0,
        "count": above,
        "share": float(above / columns.count(window)),
        "max": maximum(window),
        "longest_run": int(runs.max(initial=0)),
    }


def sample(window: Array) -> Array:
    """The samples themselves, as they are.

    Returns an array of the window's length in the signal's unit, NaN where a sample is missing.
    """
    return window.copy()


def zscore_outliers(window: Array, z: float = 3.0) -> dict[str, Any]:
    """Samples that are many standard deviations from the mean.

    A sample's score is its distance from the mean divided by the standard deviation (ddof 1); an
    outlier's is greater than z or less than -z. Returns {"indices": int64 array of positions in
    the window, "values": array in the signal's unit, "scores": array in standard deviations}, all
    of one length. In a constant window there are none.
    """
    spread = stdev(window)
    # Rounding may give equal samples a tiny spread, and tiny samples none.
    if spread > 0 and minimum(window) < maximum(window):
        scores = (window - mean(window)) / spread
    else:
        scores = np.zeros_like(window)
    indices = np.flatnonzero(np.abs(scores) > z).astype(np.int64)
    return {"indices": indices, "values": window[indices], "scores": scores[indices]}


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
    "rate_of_change": rate_of_change,
    "threshold_exceedance": threshold_exceedance,
    "sample": sample,
    "zscore_outliers": zscore_outliers,
}
