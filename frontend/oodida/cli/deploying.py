"""The command that ships a module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oodida.alike import alike
from oodida.cli import show
from oodida.cli.options import EnvironmentName, Json, To, Url, User
from oodida.cli.words import environment_from, limits_from, options, schema_from, select_from
from oodida.connecting import connect
from oodida.deployment import Deployment
from protocol.limits import DEFAULT


def deploy(  # noqa: PLR0917 - options, all of them by name
    module: Annotated[Path, typer.Argument(help="The module's file.")],
    name: Annotated[str | None, typer.Option(help="Default: the file's name.")] = None,
    to: To = "vehicles",
    environment: EnvironmentName = None,
    requirement: Annotated[
        list[str] | None,
        typer.Option("--requirement", "-r", help="A library, 'NAME>=1,<2'; several times."),
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="A folder of wheels to send along, or one wheel.")
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option(help="The same libraries once more: what `oodida environments show` printed."),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="The limits of a call; `oodida profiles` lists them.")
    ] = DEFAULT,
    limit: Annotated[
        list[str] | None, typer.Option(help="A lower limit, NAME=NUMBER; several times.")
    ] = None,
    returns: Annotated[
        Path | None, typer.Option(help="A JSON schema that each result has to fit.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="Only these vehicles: car-1,car-2")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only vehicles with NAME=VALUE; several times.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Seconds to wait. Default: 30, or 900 with libraries of your own."
        ),
    ] = None,
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Ship a module to vehicles or cloud. What runs takes it at its next call.

    With --requirement or --wheels it gets libraries of its own: they are found and locked once,
    and brought to the vehicles. Ctrl-C only stops waiting: what was asked for goes on.
    """
    with (
        show.errors(
            json_wanted=as_json,
            interrupted="no longer waiting; the deployment goes on, `oodida modules` shows it",
        ),
        connect(url, user) as fleet,
        show.busy(as_json=as_json) as busy,
    ):
        busy.update(f"deploying {module.name}")
        with options():
            chosen = select_from(ids, where, None, 0) if ids is not None or where else None
        made = fleet.deploy(
            module,
            name,
            to,  # type: ignore[arg-type]  # whatever else it is, deploy says so
            vehicles=chosen,
            environment=environment_from(environment, requirement, wheels, lock),
            profile=profile,
            limits=limits_from(limit),
            returns=schema_from(returns),
            timeout_s=timeout,
            progress=lambda line: busy.update(show.text(line)),
        )
        busy.stop()
        if as_json:
            show.as_json(show.deployment(made))
            return
        if made.awaiting_approval:
            show.out.print(f"{made.name}, {made.digest[:12]}: {_asks(made)}")
            show.out.print("verified, and waiting until a second person approves it by")
            show.out.print(f"    oodida approve {made.id}")
            show.out.print("what became of it:  oodida review --mine")
            return
        title = f"{made.name}, generation {made.generation}, {made.digest[:12]}"
        told = {
            edge: f"{state}: {made.reasons[edge]}" if edge in made.reasons else state
            for edge, state in made.states.items()
        }
        show.table(title, ["where", "state"], list(alike(told)), whole=0)
        show.out.print(_asks(made))
        show.note(made.warning)
        if len(made.environment) == 64:
            show.out.print(f"environment {made.environment[:12]}")


def _asks(made: Deployment) -> str:
    """How much it asks for, in a line."""
    of_what = f" ({'; '.join(made.privileges)})" if made.privileges else ""
    return f"it asks for {made.score} of 8{of_what}"
