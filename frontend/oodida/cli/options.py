"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, a document a line.")]
Url = Annotated[
    str | None,
    typer.Option(envvar="OODIDA_URL", help="The broker, mqtt://host:port. Default: this machine."),
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
