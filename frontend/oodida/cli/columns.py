"""How wide the columns of a table are, so that no word is broken where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len

#: A word longer than this may be broken: a path, or what a module has said.
LONGEST_WORD: Final = 40


def widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], room: int, *, whole: int
) -> list[int] | None:
    """The columns' widths in ``room`` characters, or None where words would have to be broken.

    The first ``whole`` columns are not wrapped at all.
    """
    cells = [[column, *(row[n] for row in rows)] for n, column in enumerate(columns)]
    wanted = [max(map(cell_len, column)) for column in cells]
    least = [
        wanted[n] if n < whole else min(wanted[n], max(map(_longest_word, column)))
        for n, column in enumerate(cells)
    ]
    left = room - sum(least)
    if left < 0:
        return None
    found = list(least)
    # Columns that want little get it; those that want much share what is then left.
    order = sorted(range(len(columns)), key=lambda n: wanted[n] - least[n])
    for place, n in enumerate(order):
        more = min(wanted[n] - least[n], left // (len(order) - place))
        found[n] += more
        left -= more
    return found


def _longest_word(cell: str) -> int:
    return min(LONGEST_WORD, max(map(cell_len, cell.split()), default=0))
