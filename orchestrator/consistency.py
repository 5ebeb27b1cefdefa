"""Which results may be combined. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from protocol.assignment import Consistency


class Made(NamedTuple):
    """A usable result: which vehicle made it, with which code."""

    vehicle: str
    digest: str
    generation: int


class Choice(NamedTuple):
    """The vehicles whose results are combined, and for the others the reason."""

    kept: tuple[str, ...]
    left_out: dict[str, str]


def choose(
    mode: Consistency,
    made: Iterable[Made],
    *,
    current: str | None,
    pinned: str | None,
    late: Iterable[Made] = (),
) -> Choice:
    """Choose among the results of one iteration, and late ones of the iteration before.

    ``current`` is the digest of the newest generation now (None for a built-in method), ``pinned``
    the one that was asked for. Results of different code are never mixed, except by "any".
    Late ones have no say in which code it is, unless there are no others.
    """
    fresh, old = sorted(made), sorted(late)
    results = sorted([*fresh, *old])
    if mode == "any" or not results:
        return Choice(tuple(r.vehicle for r in results), {})
    digest, why = _digest(mode, fresh or old, current=current, pinned=pinned)
    return Choice(
        tuple(r.vehicle for r in results if r.digest == digest),
        {
            r.vehicle: f"made by code {r.digest[:12]} (generation {r.generation}), "
            f"not by {why} {digest[:12]}"
            for r in results
            if r.digest != digest
        },
    )


def _digest(
    mode: Consistency, results: list[Made], *, current: str | None, pinned: str | None
) -> tuple[str, str]:
    """The digest whose results are kept, and whose it is in words."""
    if mode == "pinned" and pinned is not None:
        return pinned, "pinned"
    if mode == "newest" and current is not None:
        return current, "the newest"
    return _largest(results), "the majority's"


def _largest(results: list[Made]) -> str:
    """The digest with most results; a tie goes to the higher generation, then the higher digest."""
    groups: dict[str, tuple[int, int]] = {}
    for r in results:
        count, generation = groups.get(r.digest, (0, 0))
        groups[r.digest] = (count + 1, max(generation, r.generation))
    return max(groups, key=lambda digest: (*groups[digest], digest))
