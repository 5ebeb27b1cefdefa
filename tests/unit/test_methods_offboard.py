"""Off-board methods: numbers, arrays and dicts of the vehicles, and what cannot be combined."""

from __future__ import annotations

import contextlib
import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.methods import MethodError, run_offboard, run_onboard
from protocol.errors import BadParameter
from protocol.methods import OFFBOARD

NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20)
STATISTICS = ["mean", "median", "stdev", "variance", "min", "max", "sum", "count", "quantiles"]


def combine(name: str, results: list[Any], **params: object) -> Any:
    return run_offboard(name, results, None, params)


@pytest.mark.parametrize("name", STATISTICS)
@given(numbers=NUMBERS)
def test_statistics_are_those_of_a_window(name: str, numbers: list[float]) -> None:
    np.testing.assert_array_equal(combine(name, numbers), run_onboard(name, numbers, {}))


@pytest.mark.parametrize("name", STATISTICS)
@given(
    table=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=width, max_size=width),
            min_size=1,
            max_size=8,
        )
    )
)
def test_arrays_are_combined_element_by_element(name: str, table: list[list[float]]) -> None:
    value = combine(name, [np.array(row) for row in table])
    columns = [combine(name, list(column)) for column in zip(*table, strict=True)]
    np.testing.assert_allclose(value, np.stack(columns, axis=-1), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", ["mean", "median", "stdev", "variance", "sum", "quantiles"])
@given(numbers=NUMBERS, data=st.data())
def test_the_order_of_the_vehicles_does_not_matter(
    name: str, numbers: list[float], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(numbers))
    np.testing.assert_allclose(
        combine(name, shuffled), combine(name, numbers), rtol=1e-6, atol=1e-3
    )


def test_dicts_are_combined_by_key() -> None:
    results = [
        {"exceeded": True, "runs": [1, 2], "of": {"max": 130.0}},
        {"exceeded": False, "runs": np.array([3, 4]), "of": {"max": math.nan}},
    ]
    value = combine("mean", results)
    assert value["exceeded"] == 0.5
    assert value["runs"].tolist() == [2.0, 3.0]
    assert value["of"] == {"max": 130.0}


def test_a_single_value_is_pythons_own_and_counts_are_integers() -> None:
    assert type(combine("mean", [1, np.float32(2)])) is float
    assert type(combine("count", [1.0, math.nan])) is int
    assert combine("count", [1.0, math.nan]) == 1
    assert combine("count", [[1, 2], [3, math.nan]]).tolist() == [2, 1]


def test_missing_results_are_skipped() -> None:
    assert combine("mean", [1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(combine("max", [math.nan]))
    assert combine("sum", [math.nan]) == 0.0


def test_previous_is_of_no_consequence() -> None:
    assert run_offboard("mean", [1, 2], {"any": "thing"}, {}) == 1.5


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_added_histograms_are_the_histogram_of_all(windows: list[list[float]]) -> None:
    edges = {"bins": 7, "low": -100, "high": 100}
    whole = run_onboard("histogram", [n for window in windows for n in window], edges)
    added = combine("histogram", [run_onboard("histogram", window, edges) for window in windows])
    pooled = combine("histogram", [*windows], **edges)
    for value in (added, pooled):
        np.testing.assert_array_equal(value["edges"], whole["edges"])
        np.testing.assert_array_equal(value["counts"], whole["counts"])
        assert value["counts"].dtype == np.int64


def test_histograms_of_several_signals_are_added_by_signal() -> None:
    window = {"SPEED": [10.0, 20.0], "RPM": [800.0]}
    results = [run_onboard("histogram", window, {"low": 0, "high": 1000, "bins": 2})] * 3
    value = combine("histogram", results)
    assert value["SPEED"]["counts"].tolist() == [6, 0]
    assert value["RPM"]["counts"].tolist() == [0, 3]


def test_a_histogram_of_numbers_counts_the_vehicles() -> None:
    value = combine("histogram", [1, 2, 2, 9], bins=2, low=0, high=10)
    assert value["counts"].tolist() == [3, 1]


def test_collect_keeps_everything_in_order() -> None:
    results = [{"a": 1}, "text", None, [1, 2]]
    assert combine("collect", results) == results


def test_weighted_mean_takes_pairs_and_dicts() -> None:
    results = [[1.0, 1], {"value": 4.0, "weight": 2, "note": "x"}, np.array([7.0, 0.0])]
    assert combine("weighted_mean", results) == 3.0
    assert combine("weighted_mean", [([0, 1], 1), ([4, 5], 3)]).tolist() == [3.0, 4.0]
    assert combine("weighted_mean", [({"a": 1}, 1), ({"a": 3}, 1)]) == {"a": 2.0}


def test_weighted_mean_skips_what_is_missing_with_its_weight() -> None:
    assert combine("weighted_mean", [(math.nan, 100), (2.0, 1), (4.0, 1)]) == 3.0
    assert math.isnan(combine("weighted_mean", [(math.nan, 1)]))


@given(pairs=st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 50)), min_size=1, max_size=9))
def test_a_weight_is_as_good_as_repeating_the_value(pairs: list[tuple[float, int]]) -> None:
    repeated = [value for value, weight in pairs for _ in range(weight)]
    assert combine("weighted_mean", pairs) == pytest.approx(statistics.fmean(repeated), abs=1e-6)


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([True, False, True], True),
        ([True, False], False),
        (["b", "a", "b"], "b"),
        (["b", "a"], "a"),
        ([2, 1.0, 1, 2.0, 3], 1),
        ([True, 1], True),
        (["a", 5], 5),
        ([math.nan, math.nan, 4], 4),
        ([np.float64(4), np.bool_(True), 4], 4),
    ],
)
def test_the_majority_wins_and_a_tie_goes_to_the_smallest(votes: list[Any], winner: object) -> None:
    for order in (votes, votes[::-1]):
        elected = combine("majority_vote", order)
        assert elected == winner
        assert isinstance(elected, bool) == isinstance(winner, bool)


def test_a_vote_is_by_key_and_may_be_void() -> None:
    votes = [{"gear": 3, "mode": "eco"}, {"gear": 3, "mode": "sport"}, {"gear": 4, "mode": "eco"}]
    assert combine("majority_vote", votes) == {"gear": 3, "mode": "eco"}
    assert math.isnan(combine("majority_vote", [math.nan]))


@given(votes=st.lists(st.booleans() | st.integers(0, 3) | st.sampled_from("ab")), data=st.data())
def test_a_vote_does_not_depend_on_the_order(votes: list[Any], data: st.DataObject) -> None:
    votes = [*votes, "a"]
    assert combine("majority_vote", data.draw(st.permutations(votes))) == combine(
        "majority_vote", votes
    )


def model(scale: float, samples: int) -> dict[str, Any]:
    layers = [
        np.full((2, 3), scale),
        (scale, {"bias": [scale, scale + 1], "rows": [[scale], [0.0, np.ones(2)]]}),
    ]
    return {"weights": {"layers": layers, "intercept": scale}, "samples": samples}


def test_federated_averaging_is_weighted_by_samples() -> None:
    value = combine("federated_averaging", [model(1.0, 30), model(5.0, 10)])
    array, (number, inner) = value["layers"]
    assert array.tolist() == [[2.0] * 3] * 2
    assert (number, inner["bias"], value["intercept"]) == (2.0, [2.0, 3.0], 2.0)
    assert inner["rows"][0] == [2.0]
    assert inner["rows"][1][0] == 0.0
    assert inner["rows"][1][1].tolist() == [1.0, 1.0]
    assert type(value["layers"][1]) is tuple
    assert type(number) is float


def test_federated_averaging_takes_bare_weights_and_ignores_other_keys() -> None:
    results = [
        {"weights": [1, 2], "samples": 1, "loss": 0.5},
        {"weights": [3, 4], "samples": 3, "loss": "none"},
    ]
    assert combine("federated_averaging", results) == [2.5, 3.5]
    assert combine("federated_averaging", [{"weights": 3, "samples": 2}]) == 3.0
    assert combine("federated_averaging", [{"weights": [], "samples": 2}]) == []


@given(
    weights=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5),
    samples=st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any),
)
def test_the_average_of_equal_models_is_the_model(weights: list[float], samples: list[int]) -> None:
    results = [{"weights": {"w": np.array(weights)}, "samples": n} for n in samples]
    np.testing.assert_allclose(
        combine("federated_averaging", results)["w"], weights, rtol=1e-12, atol=1e-12
    )


def test_a_model_without_samples_has_no_say() -> None:
    assert combine("federated_averaging", [model(9.0, 0), model(2.0, 5)])["intercept"] == 2.0


@pytest.mark.parametrize(
    ("name", "results", "position", "problem"),
    [
        ("mean", [1, 2, "fast"], 2, r"results\[2\] is neither a number nor .* \(str\)"),
        ("mean", [1, None], 1, r"\(NoneType\)"),
        ("mean", [1, 10**30], 1, r"\(int\)"),
        ("mean", [1, b"x", 2], 1, r"\(bytes\)"),
        ("mean", [1 + 1j], 0, r"\(complex\)"),
        ("mean", [[1, [2]]], 0, r"\(list\)"),
        ("mean", [[1], [1, 2], [1]], 1, r"has the shape \(2,\), most results \(1,\)"),
        ("mean", [[1, 2, 3], [1, 2], [3, 4]], 0, r"results\[0\] has the shape \(3,\)"),
        ("sum", [{"a": 1}, {"a": "x"}, {"a": 2}], 1, r"results\[1\]\['a'\] is neither"),
        ("max", [{"a": 1}, {"b": 1}, {"a": 1}], 1, "has not the keys that most results have"),
        ("max", [{"a": 1}, 2, {"a": 1}], 1, "is no dict, unlike most"),
        ("max", [{"a": 1}, 2, 3], 0, "is a dict, unlike most"),
        ("weighted_mean", [[1, 2], [1, 2, 3]], 1, r"is neither \[value, weight\] nor"),
        ("weighted_mean", [5], 0, "is neither"),
        ("weighted_mean", [np.array(5.0)], 0, "is neither"),
        ("weighted_mean", [[1, -1]], 0, "weight is not finite or less than 0"),
        ("weighted_mean", [[1, 1], [1, math.nan]], 1, "weight is not finite"),
        ("weighted_mean", [[1, 1], [1, "2"]], 1, r"results\[1\]'s weight is neither"),
        ("weighted_mean", [[1, [1]]], 0, "weight is no number"),
        ("weighted_mean", [["a", 1]], 0, r"results\[0\]'s value is neither"),
        ("weighted_mean", [[1, 0], [2, 0]], None, "weights of the results sum to 0"),
        ("majority_vote", ["a", None], 1, "is neither boolean, number nor text"),
        ("majority_vote", [[1]], 0, "is neither boolean, number nor text"),
        ("histogram", [1, {"edges": [0], "counts": []}, 2], 1, "is a dict"),
        ("histogram", [1, "x"], 1, r"\(str\)"),
        ("histogram", [{"edges": [0, 1, 2], "counts": [1]}], 0, "one edge more than counts"),
        ("histogram", [{"edges": 0, "counts": 1}], 0, "is not a histogram"),
        ("histogram", [{"edges": [0, 1], "counts": [0.5]}], 0, "counts that are not whole numbers"),
        (
            "histogram",
            [{"edges": [0, 1], "counts": [1]}, {"edges": [0, 2], "counts": [1]}],
            1,
            "has other edges than most; give low and high on-board",
        ),
        ("federated_averaging", [{"weights": [1.0]}], 0, "is not a dict with weights and samples"),
        ("federated_averaging", [{"weights": 1, "samples": -1}], 0, "less than 0"),
        ("federated_averaging", [{"weights": 1, "samples": 0}], None, "sum to 0"),
        ("federated_averaging", [model(1, 1), model(math.inf, 1)], 1, "weight that is not finite"),
        (
            "federated_averaging",
            [{"weights": [[1], [2.0, "b"]], "samples": 1}],
            0,
            r"results\[0\]\['weights'\]\[1\]\[1\] is neither",
        ),
        (
            "federated_averaging",
            [{"weights": {"w": [[1], [2, 3]]}, "samples": 1}] * 2
            + [{"weights": {"w": [[1]]}, "samples": 1}],
            2,
            "is no list of the length that most results have",
        ),
    ],
)
def test_what_cannot_be_combined_is_named(
    name: str, results: list[Any], position: int | None, problem: str
) -> None:
    with pytest.raises(MethodError, match=problem) as caught:
        combine(name, results)
    assert caught.value.code == "method_error"
    assert caught.value.details.get("position") == position


@pytest.mark.parametrize("name", OFFBOARD)
def test_without_results_there_is_nothing_to_combine(name: str) -> None:
    with pytest.raises(MethodError, match=f"{name} has no result to combine"):
        combine(name, [])


def test_the_catalogue_is_asked_first() -> None:
    with pytest.raises(BadParameter):
        combine("quantiles", [1], q=[2])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["edges", "counts", "value", "weight"]), inner)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("name", OFFBOARD)
@given(results=st.lists(ANYTHING, min_size=1, max_size=3))
def test_no_results_break_a_method(name: str, results: list[Any]) -> None:
    with contextlib.suppress(MethodError):
        combine(name, results)
