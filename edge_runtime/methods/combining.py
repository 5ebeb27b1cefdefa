"""The off-board methods that are more than a statistic: collecting, weighting, voting, learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from edge_runtime.methods import columns
from edge_runtime.methods.columns import Array, plain
from edge_runtime.methods.errors import MethodError, refuse
from edge_runtime.methods.results import by_key, odd_one_out, stack


def collect(results: Sequence[Any]) -> list[Any]:
    """The vehicles' results in a list.

    In the order in which they were given, of any kind.
    """
    return list(results)


def weighted_mean(results: Sequence[Any]) -> Any:
    """Mean of the vehicles' values, weighted; each result is a pair of value and weight.

    A result is [value, weight] or {"value": ..., "weight": ...}; other keys are ignored. Values
    are numbers, arrays of one shape or dicts of such, in one unit; a NaN is missing and skipped
    together with its weight. Weights are finite and not negative. Returns sum(w x) / sum(w).
    Raises MethodError for a result that is no such pair, and where the weights sum to 0.
    """
    pairs = [_pair(result, position) for position, result in enumerate(results)]
    weights = _weights([weight for _, weight in pairs], "'s weight")

    def leaf(values: Sequence[Any], path: str) -> Any:
        table = stack(values, path)
        column = np.broadcast_to(weights.reshape(-1, *(1 for _ in table.shape[1:])), table.shape)
        weighted = columns.total_where_present(table, column * table)
        return plain(np.asarray(weighted / columns.total_where_present(table, column)))

    return by_key([value for value, _ in pairs], leaf, path="'s value")


def _pair(result: Any, position: int) -> tuple[Any, Any]:
    if isinstance(result, Mapping) and {"value", "weight"} <= result.keys():
        return result["value"], result["weight"]
    pair = result.tolist() if isinstance(result, np.ndarray) else result
    if isinstance(pair, list | tuple) and len(pair) == 2:
        return pair[0], pair[1]
    raise refuse(position, "", "is neither [value, weight] nor a dict with value and weight")


def _weights(given: Sequence[Any], path: str) -> Array:
    weights = stack(given, path)
    if weights.ndim != 1:
        raise refuse(0, path, "is no number")
    unusable = ~(np.isfinite(weights) & (weights >= 0))
    if unusable.any():
        raise refuse(int(np.argmax(unusable)), path, "is not finite or less than 0")
    if not 0 < weights.sum() < np.inf:
        raise MethodError(f"the weights of the results sum to {weights.sum():g}")
    return weights


def majority_vote(results: Sequence[Any]) -> Any:
    """Most frequent of the vehicles' results.

    Results are booleans, numbers or texts; a boolean is no number here, and NaN is a vote not
    given. By key where they are dicts with the same keys. A tie goes to the smallest: booleans
    (False first) before numbers before texts in the order of their code points, so that the order
    of the results does not matter. Returns NaN where no vote was given.
    Raises MethodError for a result of another kind.
    """
    return by_key(results, _vote)


def _vote(votes: Sequence[Any], path: str) -> Any:
    ballots: Counter[tuple[int, Any]] = Counter()
    for position, vote in enumerate(votes):
        plain_vote = vote.item() if isinstance(vote, np.generic) else vote
        match plain_vote:
            case bool():
                ballots[0, plain_vote] += 1
            case int() | float():
                if plain_vote == plain_vote:  # noqa: PLR0124 - NaN alone is not equal to itself
                    ballots[1, plain_vote] += 1
            case str():
                ballots[2, plain_vote] += 1
            case _:
                raise refuse(position, path, "is neither boolean, number nor text")
    if not ballots:
        return float("nan")
    most = max(ballots.values())
    return min(ballot for ballot, number in ballots.items() if number == most)[1]


def federated_averaging(results: Sequence[Any]) -> Any:
    """Mean of the vehicles' model weights, by number of training samples.

    A result is {"weights": arrays or numbers in nested dicts, lists or tuples, "samples": how many
    samples the model was trained on}; other keys are ignored. All have the same structure, which
    is also that of the value returned: sum(n_k w_k) / sum(n_k), float64.
    Raises MethodError for a result of another structure or with a weight that is not finite (one
    diverged model would spoil all), and where no model has a sample.

    FederatedAveraging, Algorithm 1 of McMahan, Moore, Ramage, Hampson and Agüera y Arcas,
    *Communication-Efficient Learning of Deep Networks from Decentralized Data* (AISTATS 2017,
    arXiv:1602.05629).
    """
    for position, result in enumerate(results):
        if not isinstance(result, Mapping) or not {"weights", "samples"} <= result.keys():
            raise refuse(position, "", "is not a dict with weights and samples")
    samples = _weights([result["samples"] for result in results], "['samples']")
    shares = samples / samples.sum()
    return _average([result["weights"] for result in results], shares, "['weights']")


def _average(models: Sequence[Any], shares: Array, path: str) -> Any:
    def leaf(parts: Sequence[Any], where: str) -> Any:
        first = parts[0]
        kind = tuple if isinstance(first, tuple) else list
        if not isinstance(first, list | tuple) or _is_flat(first):
            mean = plain(_average_table(parts, shares, where))
            return kind(mean.tolist()) if isinstance(first, list | tuple) else mean
        odd, _ = odd_one_out([len(p) if isinstance(p, list | tuple) else None for p in parts])
        if odd is not None:
            raise refuse(odd, where, "is no list of the length that most results have")
        return kind(
            _average([part[i] for part in parts], shares, f"{where}[{i}]")
            for i in range(len(first))
        )

    return by_key(models, leaf, path=path)


def _is_flat(part: Sequence[Any]) -> bool:
    """Whether a list holds only numbers, so that it can be averaged as one array."""
    return all(isinstance(item, Real) for item in part)


def _average_table(parts: Sequence[Any], shares: Array, path: str) -> Array:
    table = stack(parts, path)
    finite = np.isfinite(table.reshape(len(parts), -1)).all(axis=1)
    if not finite.all():
        raise refuse(int(np.argmin(finite)), path, "holds a weight that is not finite")
    return np.asarray(np.tensordot(shares, table, axes=1))
