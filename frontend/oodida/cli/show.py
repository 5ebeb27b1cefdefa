"""How things look: tables for people, JSON for programs, and errors for both.

Everything that came from a vehicle or an analyst's module is shown as plain text: no markup of ours
is read in it, and no control character of it reaches the terminal.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from oodida.alike import alike
from oodida.cli.columns import widths
from oodida.deployment import Deployment
from oodida.run import Iteration
from protocol.errors import AssignmentFailed, OodidaError
from protocol.module import Side
from protocol.participation import Participation

out: Final = Console(highlight=False)
err: Final = Console(stderr=True, highlight=False)
#: C0 and C1 control characters, and those that turn the direction of text.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST: Final = 120


def text(value: Any, longest: int = _LONGEST) -> Text:
    """A value as one line of plain text, cut if it is long."""
    shown = value if isinstance(value, str) else _short(value)
    clean = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", shown)
    return Text(clean if len(clean) <= longest else clean[: longest - 1] + "…")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in list(value.items())[:20]) + "}"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        more = ", …" if len(value) > 10 else ""
        return "[" + ", ".join(map(_short, value[:10])) + more + "]"
    return str(value)


def plain(value: Any) -> Any:
    """A value as JSON has it: arrays as lists, bytes as base64, what is not finite as text."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python"))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def as_json(thing: Any) -> None:
    """Print one JSON document on one line, in which what a terminal acts upon is escaped."""
    document = json.dumps(plain(thing), ensure_ascii=False)
    print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", document))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, whole: int = 1
) -> None:
    """Print a table whose cells are plain text; the first ``whole`` columns are never wrapped.

    Where words would have to be broken to make it fit, each row is a paragraph instead.
    """
    listed = [[text(cell, 1000) for cell in row] for row in rows]
    out.print(Text(title, style="italic"))
    if not listed:
        out.print("  none yet")
        return
    room = out.width - 3 * len(columns) - 1  # the lines, and a space on either side of each cell
    found = widths(columns, [[cell.plain for cell in row] for row in listed], room, whole=whole)
    if found is None:
        for row in listed:
            _record(columns, row)
        return
    made = Table(header_style="bold")
    for column, width in zip(columns, found, strict=True):
        made.add_column(column, overflow="fold", width=width)
    for row in listed:
        made.add_row(*row)
    out.print(made)


def _record(columns: Sequence[str], row: Sequence[Text]) -> None:
    out.print(Text(row[0].plain, style="bold"), overflow="fold")
    told = [Text.assemble((f"{c} ", "dim"), v) for c, v in zip(columns, row, strict=True) if v]
    out.print(Padding(Text("; ").join(told[1:]), (0, 0, 0, 4), expand=False), overflow="fold")


def paragraph(title: str, words: Iterable[str]) -> None:
    """Print a list of words that must not be cut, as many a line as fit."""
    out.print(Text.assemble((f"{title}: ", "bold"), text(", ".join(words), 20_000)))


@contextlib.contextmanager
def errors(*, json_wanted: bool, interrupted: str = "interrupted") -> Iterator[None]:
    """Show an error of ours as one, and leave with status 1; ``interrupted`` is for Ctrl-C."""
    try:
        yield
    except OodidaError as error:
        error_of(error, json_wanted=json_wanted)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        err.print(interrupted)
        raise typer.Exit(130) from None


def error_of(error: OodidaError, *, json_wanted: bool) -> None:
    """Show one error."""
    if json_wanted:
        as_json({"error": {"code": error.code, "message": error.message, **error.details}})
        return
    err.print(
        Text.assemble(("error ", "bold red"), (error.code, "red"), ": ", text(error.message, 2000))
    )
    if isinstance(error, AssignmentFailed) and len(error.participation) > 3:
        for names, what in alike({v: said(why) for v, why in error.participation.items()}):
            err.print(Text("  ") + text(f"{names}: {what}", 500))


def busy(*, as_json: bool) -> Status:
    """A line that says what is being done, for people; use it as a context manager."""
    return Console(stderr=True, quiet=True).status("") if as_json else err.status("")


class Notes(logging.Handler):
    """Shows what is logged as a warning, beside whatever else is on the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        note(record.getMessage())


def note(warning: str) -> None:
    """Show what somebody should know, if there is anything."""
    if warning:
        err.print(Text.assemble(("note ", "yellow"), text(warning, 1000)))


def deployment(made: Deployment) -> dict[str, Any]:
    """A deployment as JSON has it."""
    return {
        "id": made.id,
        "name": made.name,
        "to": "vehicles" if made.side is Side.ONBOARD else "cloud",
        "state": made.state.value,
        "generation": made.generation,
        "digest": made.digest,
        "environment": made.environment,
        "states": made.states,
        "reasons": made.reasons,
        "warning": made.warning,
        "score": made.score,
        "privileges": list(made.privileges),
    }


def iteration(made: Iteration) -> dict[str, Any]:
    """An iteration as JSON has it."""
    return {
        "number": made.number,
        "value": plain(made.value),
        "results": [plain(vars(result)) for result in made.results],
        "participation": plain(dict(made.participation)),
        "removed": made.removed,
    }


def said(why: Participation) -> str:
    """A participation in words."""
    word = why.status.replace("_", " ")
    return f"{word} ({why.reason})" if why.reason else word


def iteration_line(made: Iteration) -> Text:
    """An iteration on one line: number, value, code, and who is missing."""
    codes = sorted({(r.generation, r.digest[:8]) for r in made.results if r.digest})
    code = ", ".join(f"{digest} (generation {g})" if g else digest for g, digest in codes)
    included = sum(p.status == "included" for p in made.participation.values())
    line = Text.assemble(
        (f"{made.number:>4}  ", "bold"),
        text("removed: it is older than what the cloud keeps" if made.removed else made.value, 60),
        (f"   {included} of {len(made.participation)} vehicles   code {code}", "dim"),
    )
    out_ = {v: said(why) for v, why in made.participation.items() if why.status != "included"}
    for names, what in alike(out_):
        line.append("\n      ")
        line.append_text(text(f"{names}: {what}", 300))
    return line
