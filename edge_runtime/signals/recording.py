"""Recordings: tables of signals in CSV, as a logger or a program left them."""

from __future__ import annotations

import csv
import math
import re
import stat
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self, TextIO

from edge_runtime.signals.replay import Replay
from protocol.errors import BadRecording

#: The size of the largest file that is read, in bytes. In memory a number takes 8 bytes.
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_COLUMNS: Final = 10_000
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,100}")  # what an assignment can ask for
_TITLE: Final = re.compile(r"(?P<name>.*\S)\s*\((?P<unit>[^()]*)\)")
_WORDS: Final = {"true": 1.0, "false": 0.0}  # as pandas writes a column of booleans


class Recording(Replay):
    """A recording, replayed from its start in consecutive windows and again from its start.

    A column is a signal, a row a sample. Columns are one array('d') each, of one length, at least
    one; NaN stands for a missing sample.
    """

    def __init__(
        self,
        columns: Mapping[str, array[float]],
        units: Mapping[str, str] | None = None,
        *,
        rate_hz: float | None = None,
    ) -> None:
        super().__init__({name: (units or {}).get(name, "") for name in columns}, rate_hz)
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise BadRecording("a recording has columns of one length, at least one sample long")
        self._columns = dict(columns)
        (self._length,) = lengths

    def __len__(self) -> int:
        """The number of samples of each signal."""
        return self._length

    def samples(self, signal: str, first: int, count: int) -> array[float]:
        """Return samples first to first + count - 1; after the last comes the first again."""
        column = self._columns[signal]
        start = first % self._length
        window = column[start : start + count]
        while len(window) < count:
            window += column[: count - len(window)]
        return window

    @classmethod
    def open(
        cls, path: str | Path, *, rate_hz: float | None = None, max_bytes: int = MAX_BYTES
    ) -> Self:
        """Read a recording from a CSV file.

        The first line names the columns. Blanks around a name and an empty unit are no part of
        it: `VEHICLE_SPEED ()` is `VEHICLE_SPEED`. A unit in parentheses is split off: `SPEED
        (km/h)` is `SPEED` in km/h, unless two columns would then have one name. A column without
        a name, such as the index that pandas writes, is no signal.

        Fields are separated by commas, semicolons (then a decimal comma is read too) or tabs,
        whichever the first line has most of, and may be padded and quoted. A field that is blank
        or no number is NaN, as are fields that a row lacks. A row with more fields than there are
        names is as if blank, since none can be told to be of which column; blank fields at its
        end do not count. Blank lines are skipped.

        Raises BadRecording, which names the line, for a file that cannot be read, is larger than
        ``max_bytes``, has bad names, or not one row with a number in it.
        """
        path = Path(path)
        try:
            _check_size(path, max_bytes)
            # Bytes that are no UTF-8 may stand in a unit, which is not worth refusing a file for.
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                names, columns = _read(path, file, max_bytes)
        except OSError as error:
            raise BadRecording(f"{path} cannot be read: {error.strerror or error}") from None
        named = {name: column for (name, _), column in zip(names, columns, strict=True) if name}
        return cls(named, dict(names), rate_hz=rate_hz)


def _check_size(path: Path, max_bytes: int) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadRecording(f"{path} is no file; give the path of a CSV file")
    if status.st_size > max_bytes:
        raise BadRecording(
            f"{path} has {status.st_size} bytes, more than the {max_bytes} allowed; split it"
        )


def _read(
    path: Path, file: TextIO, max_fields: int
) -> tuple[list[tuple[str, str]], list[array[float]]]:
    header = file.readline()
    delimiter = max(",;\t", key=header.count)
    file.seek(0)
    rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        names = _names(path, next(rows, []))
        columns = [array("d") for _ in names]
        for row in rows:
            if row in ([], [""]) and len(row) < len(names):
                continue  # a blank line; but in a table of one column "" is a row
            samples = _samples(row, len(names), decimal_comma=delimiter == ";")
            for column, sample in zip(columns, samples, strict=True):
                column.append(sample)
            # A written field takes a byte at least; those that rows lack take none, but memory.
            if len(columns) * len(columns[0]) > max_fields:
                raise _bad(path, rows.line_num, "and those before lack most fields; is this CSV?")
    except csv.Error as error:
        raise _bad(path, rows.line_num, f"is no CSV ({error}); export the table again") from None
    named = (column for (name, _), column in zip(names, columns, strict=True) if name)
    if all(math.isnan(sample) for column in named for sample in column):
        raise _bad(path, rows.line_num, "is the last, and no row has a number in it; is this CSV?")
    return names, columns


def _bad(path: Path, line: int, problem: str) -> BadRecording:
    return BadRecording(f"{path}: line {max(line, 1)} {problem}", line=max(line, 1))


def _names(path: Path, titles: list[str]) -> list[tuple[str, str]]:
    """Names and units of the columns, in order; both are empty where a column has no name."""
    titles = [title.strip() for title in titles]
    if len(titles) > MAX_COLUMNS:
        raise _bad(path, 1, f"names more than {MAX_COLUMNS} columns; leave some out")
    split = [_split(title) for title in titles]
    if not any(name for name, _ in split):
        raise _bad(path, 1, "names no column; the first line has to name the columns")
    if not any(math.isnan(_number(title)) for title in titles if title):
        raise _bad(path, 1, "holds numbers only; add a first line that names the columns")
    uses = Counter(name for name, _ in split)
    # Two of one name that differ in what looked like a unit keep it, for it tells them apart.
    names = [
        (title, "") if unit and uses[name] > 1 else (name, unit)
        for title, (name, unit) in zip(titles, split, strict=True)
    ]
    for name, uses_of_name in Counter(name for name, _ in names if name).items():
        if uses_of_name > 1:
            raise _bad(path, 1, f"names {uses_of_name} columns {name[:60]!r}; rename all but one")
        if not _NAME.fullmatch(name):
            raise _bad(
                path, 1, f"has the name {name[:60]!r}...; use up to 100 printable characters"
            )
    return names


def _split(title: str) -> tuple[str, str]:
    """The name and the unit of a column's title. An empty unit alone is no name."""
    if not title.strip("() "):
        return "", ""
    parts = _TITLE.fullmatch(title)
    return (parts["name"], parts["unit"].strip()) if parts else (title, "")


def _samples(row: list[str], width: int, *, decimal_comma: bool) -> list[float]:
    if any(field.strip() for field in row[width:]):
        return [math.nan] * width
    if decimal_comma:
        row = [field.replace(",", ".") for field in row]
    samples = [_number(field) for field in row[:width]]
    return samples + [math.nan] * (width - len(samples))


def _number(field: str) -> float:
    """The number that a field holds, NaN where it holds none."""
    try:
        return math.nan if "_" in field else float(field)  # Python's digit groups are not CSV's
    except ValueError:
        return _WORDS.get(field.strip().casefold(), math.nan)
