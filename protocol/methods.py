"""The catalogue of built-in methods: which there are, and which parameters each takes.

It needs only the standard library, so that the analyst's library and the orchestrator can refuse
a bad request without having the implementation, which is in `edge_runtime.methods`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from protocol.catalogue import REQUIRED, Method, Parameter, ParameterValue, Required, Side
from protocol.errors import BadParameter, UnknownMethod

__all__ = [
    "METHODS", "OFFBOARD", "ONBOARD", "REQUIRED", "Method", "Parameter", "Side", "check",
    "near_misses",
]  # fmt: skip

_DDOF: Final = Parameter(
    "ddof",
    "integer",
    "what the divisor is less than the number of values; 1 is without bias, as in pandas",
    default=1,
    minimum=0,
    maximum=1000,
)
_Q: Final = Parameter(
    "q", "numbers", "which quantiles", default=(0.25, 0.5, 0.75), minimum=0, maximum=1
)
_BINS: Final = (
    Parameter("bins", "integer", "number of bins", default=10, minimum=1, maximum=1000),
    Parameter(
        "low",
        "number",
        "left edge of the first bin; None takes the smallest value",
        default=None,
        unit="the signal's",
    ),
    Parameter(
        "high",
        "number",
        "right edge of the last bin, which includes it; None takes the largest value",
        default=None,
        unit="the signal's",
    ),
)
_EDGES: Final = (("low", "high"),)
_HISTOGRAM: Final = "{edges: array of bins + 1, in the signal's unit; counts: array of bins}"
_INTERVAL: Final = Parameter(
    "interval_s", "number", "time from one sample to the next", default=1.0, unit="s", above=0
)
_THRESHOLD: Final = Parameter(
    "threshold", "number", "what a sample has to be greater than", unit="the signal's"
)
_Z: Final = Parameter(
    "z",
    "number",
    "how far from the mean an outlier is, more than this",
    default=3.0,
    unit="standard deviations",
    above=0,
)


def _table(*methods: Method) -> Mapping[str, Method]:
    return MappingProxyType({method.name: method for method in methods})


_on: Final = partial(Method, "onboard")
_off: Final = partial(Method, "offboard")
_NUMBER: Final = "number, in the signal's unit"
#: For a window of several signals each method is applied by signal, and returns a dict by signal.
ONBOARD: Final = _table(
    _on("mean", "Arithmetic mean of the samples.", _NUMBER),
    _on("median", "Median of the samples.", _NUMBER),
    _on("stdev", "Standard deviation of the samples.", _NUMBER, (_DDOF,)),
    _on("variance", "Variance of the samples.", f"{_NUMBER} squared", (_DDOF,)),
    _on("min", "Smallest sample.", _NUMBER),
    _on("max", "Largest sample.", _NUMBER),
    _on("sum", "Sum of the samples.", _NUMBER),
    _on("count", "Number of samples that are not missing.", "integer"),
    _on(
        "quantiles",
        "Quantiles of the samples, interpolated linearly.",
        "array of the length of q, in the signal's unit",
        (_Q,),
    ),
    _on(
        "histogram",
        "Histogram of the samples over bins of equal width.",
        _HISTOGRAM,
        _BINS,
        _EDGES,
    ),
    _on(
        "rate_of_change",
        "Change per second from each sample to the next.",
        "array one shorter than the window, in the signal's unit per second",
        (_INTERVAL,),
    ),
    _on(
        "threshold_exceedance",
        "Whether, how often and for how long the samples exceed a threshold.",
        "{exceeded: boolean; count: samples above; share: of the samples, 0 to 1; "
        "max: in the signal's unit; longest_run: samples}",
        (_THRESHOLD,),
    ),
    _on(
        "sample",
        "The samples themselves, as they are.",
        "array of the window's length, in the signal's unit",
    ),
    _on(
        "zscore_outliers",
        "Samples that are many standard deviations from the mean.",
        "{indices: array of positions in the window; values: array, in the signal's unit; "
        "scores: array, in standard deviations}",
        (_Z,),
    ),
)

_RESULT: Final = "as one result: number, array or dict by key"
#: The statistics work element by element on arrays of one shape, and by key on dicts.
OFFBOARD: Final = _table(
    _off("mean", "Arithmetic mean of the vehicles' results.", _RESULT),
    _off("median", "Median of the vehicles' results.", _RESULT),
    _off("stdev", "Standard deviation of the vehicles' results.", _RESULT, (_DDOF,)),
    _off("variance", "Variance of the vehicles' results.", _RESULT, (_DDOF,)),
    _off("min", "Smallest of the vehicles' results.", _RESULT),
    _off("max", "Largest of the vehicles' results.", _RESULT),
    _off("sum", "Sum of the vehicles' results.", _RESULT),
    _off(
        "count",
        "Number of the vehicles' results that are not missing.",
        "as one result, with integers",
    ),
    _off(
        "quantiles",
        "Quantiles of the vehicles' results, interpolated linearly.",
        "as one result, each number replaced by an array whose first axis is q",
        (_Q,),
    ),
    _off(
        "histogram",
        "Histogram of the vehicles' results, or the sum of their histograms.",
        _HISTOGRAM,
        _BINS,
        _EDGES,
    ),
    _off("collect", "The vehicles' results in a list.", "list of the results"),
    _off(
        "weighted_mean",
        "Mean of the vehicles' values, weighted; each result is a pair of value and weight.",
        "as one value: number, array or dict by key",
    ),
    _off(
        "majority_vote",
        "Most frequent of the vehicles' results.",
        "as one result: boolean, number, text or dict by key",
    ),
    _off(
        "federated_averaging",
        "Mean of the vehicles' model weights, by number of training samples.",
        "the structure of one result's weights",
    ),
)

METHODS: Final[Mapping[str, Mapping[str, Method]]] = MappingProxyType(
    {"onboard": ONBOARD, "offboard": OFFBOARD}
)


def check(side: str, name: str, params: Mapping[str, object]) -> dict[str, ParameterValue]:
    """Return the parameters of a call of a built-in method, complete and in plain form.

    ``side`` is "onboard" or "offboard" (`custom` is no built-in method). Left-out parameters get
    their defaults; numbers become float, and lists or tuples of numbers lists of float.
    Raises UnknownMethod, and BadParameter for a parameter that is unknown, missing, of the wrong
    type or out of range.
    """
    method = METHODS[side].get(name)
    if method is None:
        raise _unknown_method(side, name)
    known = {parameter.name: parameter for parameter in method.parameters}
    for given in params:
        if given not in known:
            takes = ", ".join(known) or "no parameters"
            raise BadParameter(f"{name} has no parameter {str(given)[:60]!r}; it takes {takes}")
    checked: dict[str, ParameterValue] = {}
    for parameter in method.parameters:
        if parameter.name in params:
            value: object = params[parameter.name]
        elif isinstance(parameter.default, Required):
            raise BadParameter(f"{name} needs {parameter.name}, {parameter.domain}")
        else:
            value = parameter.default
        checked[parameter.name] = parameter.read(value)
    for first, second in method.ranges:
        _check_range(first, checked[first], second, checked[second])
    return checked


def _check_range(first: str, low: ParameterValue, second: str, high: ParameterValue) -> None:
    if (low is None) != (high is None):
        raise BadParameter(f"{first} and {second} must be given both or not at all")
    if isinstance(low, float) and isinstance(high, float) and low >= high:
        raise BadParameter(f"{first} must be less than {second}, but {low:g} is not below {high:g}")


def _unknown_method(side: str, name: str) -> UnknownMethod:
    shown = repr(name[:60])
    if any(name in methods for methods in METHODS.values()):
        hint = f"{shown} is only for the other side, not {side}"
    elif close := near_misses(name, METHODS[side]):
        hint = f"no {side} method is called {shown}; did you mean {' or '.join(close)}?"
    else:
        hint = f"no {side} method is called {shown}"
    return UnknownMethod(f"{hint} (`oodida methods` lists all)")


def near_misses(word: str, known: Iterable[str]) -> list[str]:
    """Return up to three of the known words that may have been meant, the likeliest first."""
    wanted = word[:60].casefold()  # what comes over the wire may be long, and the search is slow
    folded = {name.casefold(): name for name in known}
    similar = difflib.get_close_matches(wanted, folded, n=3)
    around = [name for name in folded if len(wanted) > 2 and wanted in name]
    return [folded[name] for name in dict.fromkeys(similar + around)][:3]
