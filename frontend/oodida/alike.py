"""Many of whom the same is told, told once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

#: How many are named of whom the same is told.
NAMED: Final = 4


def alike(told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Those of whom the same is told, together: (their names, or how many they are; what it is)."""
    names: dict[str, list[str]] = {}
    for name, what in told.items():
        names.setdefault(what, []).append(name)
    for what, those in names.items():
        some = ", ".join(those[:NAMED])
        yield f"{some}, ... ({len(those)})" if len(those) > NAMED else some, what
