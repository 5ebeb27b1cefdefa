"""Whether a signal tells where the vehicle is. Its name and unit decide, by `location.toml`."""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).with_name("location.toml")
#: A word of a name: capitals that no small letter follows, or letters with at most one capital.
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")


@cache
def _table() -> dict[str, frozenset[str]]:
    read = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: frozenset(words) for name, words in read.items()}


def words(name: str) -> tuple[str, ...]:
    """The words of a name, in capitals: `CurrentLocation.gpsLat2` has CURRENT LOCATION GPS LAT."""
    return tuple(word.upper() for word in _WORD.findall(name))


@lru_cache(maxsize=4096)
def tells_location(name: str, unit: str = "") -> bool:
    """True if a signal of this name and unit tells where the vehicle is."""
    table, inside = _table(), words(name)
    found = {*inside, *words(unit)}
    if found & table["words"] or (len(inside) == 1 and inside[0] in table["names"]):
        return True
    if any(part in text.upper() for text in (name, unit) for part in table["parts"]):
        return True
    return bool(found & table["positions"]) and not found & table["of_parts"]
