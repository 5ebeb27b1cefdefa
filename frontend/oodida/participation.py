"""Why a vehicle is in or out of what an assignment gave, over all its iterations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from protocol.account import Usage
from protocol.messages import IterationLedger
from protocol.participation import Participation, Status


@dataclass(frozen=True)
class Standing:
    """How a vehicle stands in the newest iteration that is closed, and stood in all before it.

    ``status`` is a word of a closed set, ``reason`` says more, ``usage`` is what its task used.
    ``code`` is that of the error for which it refused, such as ``policy_signal``; else empty.
    ``history`` holds (iteration, participation) from the first on.
    """

    status: Status
    reason: str
    usage: Usage | None
    history: tuple[tuple[int, Participation], ...] = field(default=(), repr=False)
    code: str = ""


def standings(ledgers: Iterable[IterationLedger]) -> Mapping[str, Standing]:
    """By vehicle, how those of the newest of these iterations stand. They come in order."""
    told = list(ledgers)
    if not told:
        return {}
    history: dict[str, list[tuple[int, Participation]]] = {}
    for ledger in told:
        for vehicle, p in ledger.participation.items():
            history.setdefault(vehicle, []).append((ledger.iteration, p))
    return {
        vehicle: Standing(p.status, p.reason, p.usage, tuple(history[vehicle]), p.code)
        for vehicle, p in sorted(told[-1].participation.items())
    }
