"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, a document a line.")]
Url = Annotated[
    str | None,
    typer.Option(envvar="OODIDA_URL", help="The broker, mqtts://host:port. Default: this machine."),
]
User = Annotated[
    str | None, typer.Option(envvar="OODIDA_USER", help="Who asks. Default: who is logged in.")
]
To = Annotated[str, typer.Option(help="Where the module runs: vehicles or cloud.")]
EnvironmentName = Annotated[
    str | None,
    typer.Option(
        help="minimal, science (NumPy, SciPy, pandas, scikit-learn), or the whole digest of "
        "an environment that is built. Default: what it imports."
    ),
]
Quorum = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|SHARE",
        help="How many vehicles have to give a usable result: 20, or of those asked 0.8 or 80%. "
        "Once reached, the others get as long again; missed, the assignment fails. "
        "Default: one is enough, and all that can answer are awaited.",
    ),
]
LateAnswers = Annotated[
    str,
    typer.Option(
        metavar="drop|next",
        help="An answer that comes after its iteration was closed: drop it, or combine it in the "
        "next one if the vehicle has not answered that.",
    ),
]
HaltOnFailure = Annotated[
    str,
    typer.Option(
        metavar="SHARE|never",
        help="Halt when the module crashes or hits a limit on more than this share of the "
        "vehicles; `oodida resume` goes on, with the code repaired.",
    ),
]
BudgetWords = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=NUMBER,…",
        help="What each vehicle may use for the whole assignment: any of cpu_s=60, "
        "bytes_sent=1000000, container_starts=100. Default: without bound.",
    ),
]
WindowGaps = Annotated[
    str,
    typer.Option(
        metavar="allow|forbid",
        help="A window that was interrupted, by ignition off: use it and say so, or collect again.",
    ),
]
