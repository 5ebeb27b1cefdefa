"""Whether a machine is fit, and for the cloud whether its parts answer."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, ValidationError
from rich.table import Table
from rich.text import Text

from oodida.cli import show
from oodida.connecting import connect
from oodida.local import sandbox_images
from protocol.errors import LinkError, OodidaError, SetupError
from protocol.finding import Finding, Level, ok, problem, warning

#: Longest that looking at a machine may take, in seconds; an engine that hangs takes most of it.
PATIENCE_S: Final = 300
_STYLES: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


class _Said(BaseModel):
    """What `python -m edge_runtime.doctor --json` prints."""

    ok: bool
    findings: list[Finding]


def machine(role: str) -> list[Finding]:
    """Look at this machine. Raises SetupError if the edge runtime is not installed here."""
    images = [f"--image={name}={image}" for name, image in sandbox_images().items()]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "edge_runtime.doctor", "--json", "--role", role, *images],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SetupError(f"the engine did not answer within {PATIENCE_S} s; see its log") from None
    try:
        return _Said.model_validate_json(done.stdout).findings
    except ValidationError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise SetupError(
            f"the edge runtime cannot look at this machine ({''.join(last) or 'it said nothing'}); "
            "is it installed, with the extra `edge`?"
        ) from None


def cloud(url: str | None, user: str | None) -> Iterator[Finding]:
    """Ask the parts of the cloud whether they are there."""
    try:
        fleet = connect(url, user)
    except LinkError as error:
        todo = "start the broker, or correct --url (or OODIDA_URL)"
        yield problem("broker", error.message, todo)
        return
    with fleet:
        yield ok("broker", f"answers at {fleet.url}")
        try:
            workers, vehicles = fleet.workers(), fleet.vehicles()
        except OodidaError as error:
            todo = "start one at this broker: python -m orchestrator --broker URL"
            yield problem("orchestrator", error.message, todo)
            return
    yield ok("orchestrator", "answers")
    online = [w for w in workers if w.online]
    names = ", ".join(w.name for w in online)
    if not online:
        todo = "start one: python -m edge_runtime --role worker --name worker-1 --image ..."
        yield problem("workers", "none is online: nothing can be verified or combined", todo)
    elif not any(w.environments for w in online):
        todo = "start them with --image minimal=IMAGE, and those of other environments"
        yield warning("workers", f"{names}: without images, so no module can be verified", todo)
    else:
        yield ok("workers", f"online: {names}")
    there = sum(v.online for v in vehicles)
    yield ok("vehicles", f"{there} of {len(vehicles)} online")


def doctor(*, of_cloud: bool, url: str | None, user: str | None, as_json: bool) -> bool:
    """Look, and show it; False if there is a problem."""
    busy = contextlib.nullcontext() if as_json else show.err.status("looking; about ten seconds")
    with busy:
        found = list(cloud(url, user)) if of_cloud else []
        found += machine("worker" if of_cloud else "vehicle")
    fit = all(finding.level is not Level.PROBLEM for finding in found)
    if as_json:
        show.as_json({"ok": fit, "findings": found})
        return fit
    rows = Table.grid(padding=(0, 2))
    for finding in found:
        said = Text.assemble((f"{finding.name}: ", "bold"), show.text(finding.seen, 600))
        if finding.todo:
            said.append("\n→ ", "cyan").append_text(show.text(finding.todo, 600))
        rows.add_row(Text(finding.level.value, _STYLES[finding.level]), said)
    show.out.print(rows)
    return fit
