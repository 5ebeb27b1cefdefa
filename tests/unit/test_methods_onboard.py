"""On-board methods: against pandas and NumPy, with what is missing, and at their edges."""

from __future__ import annotations

import contextlib
import math
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_runtime.methods import MethodError, run_onboard
from protocol.errors import BadParameter, UnknownMethod

Samples = npt.NDArray[np.float64]

WINDOWS = arrays(
    np.float64,
    st.integers(1, 40),
    elements=st.floats(-1e6, 1e6, allow_subnormal=False) | st.just(math.nan),
)
#: Whatever an IEEE number may be.
WILD = arrays(np.float64, st.integers(1, 20), elements=st.floats())
SPEEDS = np.array([50.0, 121.0, 130.0, math.nan, 140.0, 120.0, 125.0])
MISSING = np.array([math.nan, math.nan])


def plain(value: Any) -> Any:
    """A value with lists for arrays, in which NaN is equal to NaN."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize(
    ("name", "params", "pandas"),
    [
        ("mean", {}, pd.Series.mean),
        ("median", {}, pd.Series.median),
        ("stdev", {}, pd.Series.std),
        ("stdev", {"ddof": 0}, lambda series: series.std(ddof=0)),
        ("variance", {}, pd.Series.var),
        ("variance", {"ddof": 3}, lambda series: series.var(ddof=3)),
        ("min", {}, pd.Series.min),
        ("max", {}, pd.Series.max),
        ("sum", {}, pd.Series.sum),
        ("count", {}, pd.Series.count),
        ("quantiles", {}, lambda series: series.quantile([0.25, 0.5, 0.75])),
        ("quantiles", {"q": [0.9, 0, 1]}, lambda series: series.quantile([0.9, 0, 1])),
        ("rate_of_change", {"interval_s": 0.5}, lambda series: series.diff()[1:] / 0.5),
    ],
)
@given(window=WINDOWS)
def test_statistics_agree_with_pandas(
    name: str, params: dict[str, Any], pandas: Any, window: Samples
) -> None:
    value = run_onboard(name, window, params)
    wanted = np.asarray(pandas(pd.Series(window)))
    np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-6)


@given(window=WINDOWS, bins=st.integers(1, 30))
def test_a_histogram_agrees_with_numpy(window: Samples, bins: int) -> None:
    value = run_onboard("histogram", window, {"bins": bins, "low": -10, "high": 10.5})
    counts, edges = np.histogram(window, bins, (-10, 10.5))
    np.testing.assert_array_equal(value["counts"], counts)
    np.testing.assert_array_equal(value["edges"], edges)


@given(window=WINDOWS)
def test_a_histogram_with_its_own_edges_counts_every_sample(window: Samples) -> None:
    value = run_onboard("histogram", window, {})
    assert value["counts"].sum() == run_onboard("count", window, {})
    assert (value["counts"].dtype, len(value["edges"])) == (np.dtype(np.int64), 11)


def test_a_histogram_of_a_range_without_room_says_so() -> None:
    with pytest.raises(MethodError, match="cannot be split into 1000 bins") as caught:
        run_onboard("histogram", np.array([1.0, 1.0 + 2**-52]), {"bins": 1000})
    assert caught.value.code == "method_error"


@given(window=WINDOWS, q=st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_quantiles_are_monotone_and_between_the_extremes(window: Samples, q: list[float]) -> None:
    found = run_onboard("quantiles", window, {"q": sorted(q)})
    if run_onboard("count", window, {}):
        assert (np.diff(found) >= 0).all()
        assert run_onboard("min", window, {}) <= found[0]
        assert found[-1] <= run_onboard("max", window, {})


def test_threshold_exceedance_tells_how_often_and_how_long() -> None:
    value = run_onboard("threshold_exceedance", SPEEDS, {"threshold": 120})
    assert value == {
        "exceeded": True, "count": 4, "share": 4 / 6, "max": 140.0, "longest_run": 2,
    }  # fmt: skip
    assert type(value["exceeded"]) is bool
    assert type(value["count"]) is type(value["longest_run"]) is int
    assert type(value["share"]) is type(value["max"]) is float


@given(window=WINDOWS, threshold=st.floats(-1e6, 1e6))
def test_the_longest_run_is_that_of_a_loop(window: Samples, threshold: float) -> None:
    longest = run = 0
    for sample in window:
        run = run + 1 if sample > threshold else 0
        longest = max(longest, run)
    value = run_onboard("threshold_exceedance", window, {"threshold": threshold})
    assert value["longest_run"] == longest
    assert value["exceeded"] == (longest > 0)


def test_outliers_are_found_where_they_are() -> None:
    window = np.array([1.0, 2.0, math.nan, 1.5, 1.0, 2.0, 50.0])
    value = run_onboard("zscore_outliers", window, {"z": 2})
    series = pd.Series(window)
    score = (50 - series.mean()) / series.std()
    assert value["indices"].tolist() == [6]
    assert value["indices"].dtype == np.int64
    assert value["values"].tolist() == [50.0]
    assert value["scores"].tolist() == pytest.approx([score])


@pytest.mark.parametrize("window", [[0.1] * 7, [5.0], [5e-324, 0.0], [math.inf, 1.0, 2.0]])
def test_a_window_without_spread_has_no_outliers(window: list[float]) -> None:
    value = run_onboard("zscore_outliers", window, {"z": 0.1})
    assert plain(value) == {"indices": [], "values": [], "scores": []}


def test_sample_is_a_copy_of_the_window() -> None:
    window = array("d", [1.0, math.nan, 3.0])
    value = run_onboard("sample", window, {})
    value[0] = 7.0
    assert plain(value) == [7.0, "NaN", 3.0]
    assert window[0] == 1.0


@pytest.mark.parametrize(
    ("name", "params", "wanted"),
    [
        ("mean", {}, "NaN"),
        ("median", {}, "NaN"),
        ("stdev", {}, "NaN"),
        ("variance", {"ddof": 0}, "NaN"),
        ("min", {}, "NaN"),
        ("max", {}, "NaN"),
        ("sum", {}, 0.0),
        ("count", {}, 0),
        ("quantiles", {"q": [0, 1]}, ["NaN", "NaN"]),
        ("histogram", {"bins": 1}, {"edges": ["NaN", "NaN"], "counts": [0]}),
        ("histogram", {"bins": 1, "low": 0, "high": 1}, {"edges": [0.0, 1.0], "counts": [0]}),
        ("rate_of_change", {}, ["NaN"]),
        (
            "threshold_exceedance",
            {"threshold": 0},
            {"exceeded": False, "count": 0, "share": "NaN", "max": "NaN", "longest_run": 0},
        ),
        ("sample", {}, ["NaN", "NaN"]),
        ("zscore_outliers", {}, {"indices": [], "values": [], "scores": []}),
    ],
)
def test_a_window_in_which_all_is_missing(name: str, params: dict[str, Any], wanted: Any) -> None:
    assert plain(run_onboard(name, MISSING, params)) == wanted


@pytest.mark.parametrize(
    ("name", "kind"),
    [("mean", float), ("median", float), ("sum", float), ("max", float), ("count", int)],
)
def test_single_values_are_pythons_own(name: str, kind: type) -> None:
    assert type(run_onboard(name, SPEEDS, {})) is kind


def test_one_sample_has_no_spread_and_no_rate() -> None:
    assert math.isnan(run_onboard("stdev", [3.0], {}))
    assert run_onboard("stdev", [3.0], {"ddof": 0}) == 0.0
    assert run_onboard("rate_of_change", [3.0], {}).shape == (0,)


def test_a_window_of_several_signals_gives_a_value_for_each() -> None:
    window: dict[str, Any] = {"SPEED": array("d", [1, 2, 3]), "RPM": np.array([800.0, math.nan])}
    assert run_onboard("mean", window, {}) == {"SPEED": 2.0, "RPM": 800.0}
    assert run_onboard("count", window, {}) == {"SPEED": 3, "RPM": 1}


@pytest.mark.parametrize("window", [[], [[1.0, 2.0]], ["fast"], 5.0])
def test_what_is_no_window_is_refused(window: Any) -> None:
    with pytest.raises(MethodError, match="the window"):
        run_onboard("mean", window, {})


def test_a_bad_signal_is_named() -> None:
    with pytest.raises(MethodError, match="RPM is not a row"):
        run_onboard("mean", {"SPEED": [1.0], "RPM": []}, {})


def test_the_catalogue_is_asked_first() -> None:
    with pytest.raises(UnknownMethod):
        run_onboard("collect", [1.0], {})
    with pytest.raises(BadParameter):
        run_onboard("mean", [1.0], {"ddof": 0})


@given(window=WILD)
def test_no_window_makes_a_method_warn_or_break(window: Samples) -> None:
    for name in ("mean", "median", "stdev", "variance", "min", "max", "sum", "count", "quantiles",
                 "rate_of_change", "sample", "zscore_outliers"):  # fmt: skip
        run_onboard(name, window, {})
    run_onboard("threshold_exceedance", window, {"threshold": 1e300})
    run_onboard("histogram", window, {"low": -1, "high": 1})
    with contextlib.suppress(MethodError):  # too narrow or too wide a range, and said so
        run_onboard("histogram", window, {})
