"""The commands about the audit log: read it, take it along, see whether it is whole."""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from oodida.cli import show
from oodida.cli.options import Json, Url, User
from oodida.connecting import connect
from protocol.audit import Entry, Verdict, verify
from protocol.errors import BadAuditLog, BadRequest

app = typer.Typer(
    no_args_is_help=True,
    help="Who did what, when, and whether it was allowed: the cloud's audit log.",
    epilog="Note the head that [bold]oodida audit export[/bold] prints, somewhere else than the "
    "log: with it, [bold]oodida audit verify --head[/bold] finds even a log that was cut off.",
)

#: The table's columns; the year is in its title.
COLUMNS: Final = ("no.", "time", "who", "what", "about", "outcome")
_LONGEST_WORD: Final = 19
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Head = Annotated[
    str | None,
    typer.Option(help="The hash of an entry, noted earlier: it has to be in the log."),
]


@app.command("list")
def listed(
    by: Annotated[
        str | None,
        typer.Option(help="Only what this analyst did, or ROLE:NAME such as vehicle:car-1."),
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as submit.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only from then on: 2026-05-01, 2026-05-01T12:00, 90m, 24h, 7d."),
    ] = None,
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """What was done and what was refused, oldest first.

    Long names and reasons are cut off in the table; with --json everything is there.
    """
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        found = fleet.audit(by, action, _moment(since))
        if as_json:
            for entry in found:
                show.as_json(entry)
            return
        listed = list(found)
        years = " to ".join(sorted({listed[n].at[:4] for n in (0, -1)})) if listed else ""
        title = f"Audit log, {years}, in UTC" if years else "Audit log"
        show.table(title, COLUMNS, [row(entry) for entry in listed], whole=2)
        if any("…" in word for entry in listed for word in row(entry)):
            show.out.print("what is cut off is whole in  oodida audit list --json")


def row(entry: Entry) -> list[str]:
    """An entry as the table has it: short enough for 100 columns."""
    why = re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda long: f"{long[0][:12]}…", entry.reason)
    outcome = "allowed" if entry.allowed else _cut(f"{entry.code}: {why}", 100)
    when = entry.at[5:19].replace("T", " ")
    who = _cut(entry.actor.removeprefix("analyst:"), 14)
    return [str(entry.number), when, who, entry.action, _cut(entry.subject, 16), outcome]


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it; - is standard output.")],
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Write the whole log to a file, an entry a line in JSON, and say where it ends.

    The file appears when it is complete. What is said of the head is for `oodida audit verify`.
    """
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        if str(file) == "-":
            verdict = verify(_passed_on(fleet.audit_lines()))
        else:
            verdict = _written(file, fleet.audit_lines())
        told = {"entries": verdict.entries, "head": verdict.head.hash, "file": str(file)}
        if as_json and str(file) != "-":
            show.as_json(told)
        else:
            show.err.print(f"{verdict.entries} entries, head {verdict.head.hash}")
        _require_whole(verdict, as_json=as_json)


def _passed_on(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        print(line)
        yield line


def _written(file: Path, lines: Iterable[str]) -> Verdict:
    part = file.with_name(f".{file.name}.{os.getpid()}")

    def each() -> Iterator[str]:
        with part.open("w", encoding="ascii") as out:
            for line in lines:
                out.write(f"{line}\n")
                yield line

    try:
        verdict = verify(each())
        part.replace(file)
    except OSError as problem:
        raise BadRequest(f"{file} cannot be written: {problem.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return verdict


@app.command("verify")
def verified(
    file: Annotated[
        Path | None,
        typer.Argument(help="An export, checked without a cloud. Default: the cloud's."),
    ] = None,
    head: Head = None,
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """See whether any entry was changed, removed, moved or put in. Status 0: none was.

    Without --head it cannot be seen that the end is missing, or that the whole log was written
    anew by somebody who can write to the store.
    """
    with show.errors(json_wanted=as_json):
        if head is not None and not re.fullmatch("[0-9a-f]{64}", head):
            raise BadRequest(f"{head!r:.80} is no hash of an entry: 64 characters of 0-9 and a-f")
        if file is not None:
            verdict = _of_file(file, head)
        else:
            with connect(url, user) as fleet:
                verdict = verify(fleet.audit_lines(), head)
        if as_json:
            problems = [finding._asdict() for finding in verdict.findings]
            told = {"ok": not problems, "entries": verdict.entries, "head": verdict.head.hash}
            show.as_json({**told, "problems": problems})
        else:
            show.out.print(f"{verdict.entries} entries, head {verdict.head.hash}")
        _require_whole(verdict, as_json=as_json)
        if not as_json:
            show.out.print("no entry was changed, removed, moved or put in")


def _of_file(file: Path, head: str | None) -> Verdict:
    try:
        if str(file) == "-":
            verdict = verify(_lines(sys.stdin.buffer), head)
        else:
            with file.open("rb") as source:
                verdict = verify(_lines(source), head)
    except OSError as problem:
        raise BadRequest(f"{file} cannot be read: {problem.strerror}") from None
    if verdict.entries and not verdict.head.number:
        raise BadAuditLog(
            f"{file} is no audit log: none of its {verdict.entries} lines is an entry. "
            "`oodida audit export FILE` writes one"
        )
    return verdict


def _lines(source: Iterable[bytes]) -> Iterator[str]:
    """Whatever the terminal's encoding is, and what is no text is no entry."""
    return (line.decode(errors="surrogateescape") for line in source)


def _require_whole(verdict: Verdict, *, as_json: bool) -> None:
    if not verdict.findings:
        return
    if not as_json:
        for finding in verdict.findings:
            show.err.print(show.text(finding.problem, 500))
    raise typer.Exit(1)


def _moment(words: str | None) -> dt.datetime | None:
    """A time, or how long ago. Raises BadRequest for what is neither."""
    if words is None:
        return None
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", words)
    try:
        if ago:
            return dt.datetime.now(dt.UTC) - dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return dt.datetime.fromisoformat(words)
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{words!r:.80} is no time: 2026-05-01, 2026-05-01T12:00, or as 90m, 24h, 7d ago"
        ) from None
