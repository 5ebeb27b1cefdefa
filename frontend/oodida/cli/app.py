"""The commands."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from oodida import check as checking
from oodida.alike import alike
from oodida.asked import environment_of, side_of
from oodida.cli import (
    auditing,
    deploying,
    environments,
    interrupts,
    pki,
    proving,
    reviewing,
    running,
    show,
    trust,
)
from oodida.cli.demo import demo as play
from oodida.cli.doctor import doctor as examine
from oodida.cli.options import EnvironmentName, Json, To, Url, User
from oodida.cli.simulating import simulate
from oodida.cli.up import up
from oodida.connecting import connect
from oodida.source import read
from protocol import methods as catalogue
from protocol.errors import BadRequest, OodidaError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Ask questions of a fleet of vehicles, with your own code, replaced while it runs.",
    epilog="Start with [bold]oodida demo[/bold], or [bold]oodida up[/bold] and a second terminal.",
)


@app.callback()
def identified(
    identity: Annotated[
        Path | None,
        typer.Option(
            envvar="OODIDA_IDENTITY",
            help="The folder that proves who you are, as `oodida enroll` makes it: ca.pem, "
            "cert.pem and key.pem. A broker that speaks TLS, mqtts://, asks for it.",
        ),
    ] = None,
) -> None:
    """Who asks, for every command that connects."""
    if identity is not None:
        os.environ["OODIDA_IDENTITY"] = str(identity)


@app.command()
def demo(
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of CSV recordings to drive the vehicles with.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Watch code travel to vehicles, and be replaced while it runs."""
    interrupts.take_all()
    with show.errors(json_wanted=as_json):
        play(recordings, as_json=as_json)


app.command()(up)


@app.command()
def vehicles(*, as_json: Json = False, url: Url = None, user: User = None) -> None:
    """Who is there, and what they can do."""
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        found = [*fleet.vehicles(), *fleet.workers()]
        if as_json:
            show.as_json(found)
            return
        show.table(
            "Vehicles and workers",
            ["name", "kind", "state", "attributes", "environments"],
            [
                [
                    v.name,
                    v.role,
                    "online" if v.online else "offline",
                    ", ".join(f"{k}={a}" for k, a in v.attributes.items()),
                    ", ".join(name[:12] for name in v.environments),
                ]
                for v in found
            ],
        )
        alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for v in found:
            alike.setdefault(tuple(v.signals.items()), []).append(v.name)
        for signals, names in alike.items():
            if signals:
                listed = (f"{name} ({unit})" if unit else name for name, unit in signals)
                show.paragraph(f"Signals of {', '.join(names)}", listed)


@app.command()
def methods(*, as_json: Json = False) -> None:
    """The built-in methods, their parameters, and what they return."""
    listed = [*catalogue.ONBOARD.values(), *catalogue.OFFBOARD.values()]
    if as_json:
        show.as_json([_method(m) for m in listed])
        return
    for side, title in (("onboard", "On-board"), ("offboard", "Off-board")):
        show.table(
            title,
            ["method", "what it gives", "parameters"],
            [
                [m.name, m.summary, ", ".join(_parameter(p) for p in m.parameters)]
                for m in listed
                if m.side == side
            ],
        )


def _parameter(parameter: catalogue.Parameter) -> str:
    return parameter.name + (
        "" if parameter.default is catalogue.REQUIRED else f"={parameter.default}"
    )


def _method(method: catalogue.Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "side": method.side,
        "summary": method.summary,
        "returns": method.returns,
        "parameters": [
            {
                "name": p.name,
                "type": p.type,
                "required": p.default is catalogue.REQUIRED,
                "default": None if p.default is catalogue.REQUIRED else p.default,
                "meaning": p.meaning,
            }
            for p in method.parameters
        ],
    }


@app.command()
def check(
    module: Annotated[Path, typer.Argument(help="The module's file.")],
    to: To = "vehicles",
    environment: EnvironmentName = None,
    *,
    as_json: Json = False,
) -> None:
    """Try a module on this machine, as deploy does first. Nothing is sent."""
    with show.errors(json_wanted=as_json):
        source, name = read(module)
        side, env = side_of(to), environment_of(environment, source)
        verdict = checking.require(source, side, env, None, name)
        if as_json:
            show.as_json({"ok": True, "environment": env, "warning": verdict.warning})
        else:
            show.out.print(f"{name} is fine for {to}, environment {env}")
            show.note(verdict.warning)


@app.command()
def doctor(
    *,
    vehicle: Annotated[
        bool, typer.Option("--vehicle", help="Is this machine fit as a vehicle? The default.")
    ] = False,
    cloud: Annotated[
        bool, typer.Option("--cloud", help="As a worker's, and do broker and cloud answer?")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Look whether this machine is fit for running modules, and what to do where it is not.

    The engine and its known holes, room on disk and in memory, and in real sandboxes whether each
    limit holds. It takes about ten seconds. Status 0: no problem, warnings apart.
    """
    with show.errors(json_wanted=as_json):
        if vehicle and cloud:
            raise BadRequest("--vehicle and --cloud are two questions: ask one at a time")
        fit = examine(of_cloud=cloud, url=url, user=user, as_json=as_json)
    if not fit:
        raise typer.Exit(1)


app.command()(simulate)
app.command()(deploying.deploy)


app.command()(running.run)
app.command()(running.watch)
app.command()(running.participation)
app.command()(running.resume)
app.command()(running.cancel)
app.command()(reviewing.review)
app.command()(reviewing.approve)
app.command()(reviewing.reject)
app.command()(proving.proof)
app.command()(proving.verify)

app.add_typer(environments.app, name="environments")
app.command()(environments.profiles)

app.add_typer(pki.app, name="pki")
app.command()(trust.enroll)
app.command()(trust.revoke)

app.add_typer(auditing.app, name="audit")


@app.command()
def modules(*, as_json: Json = False, url: Url = None, user: User = None) -> None:
    """Your modules: generation, digest, and where each is ready."""
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        found = fleet.modules()
        if as_json:
            show.as_json(found)
            return
        show.table(
            f"Modules of {fleet.user}",
            ["name", "digest", "side", "no.", "asks", "environment", "where"],
            [
                [
                    m.name,
                    m.digest[:12],
                    m.side.value,
                    m.generation,
                    f"{m.score}/8",
                    m.environment[:12],
                    "; ".join(f"{state}: {who}" for who, state in alike(m.states)),
                ]
                for m in found
            ],
            whole=2,
        )


def main() -> None:
    """Run the command line."""
    logging.getLogger().addHandler(show.Notes(logging.WARNING))
    try:
        app()
    except OodidaError as error:
        show.error_of(error, json_wanted=False)
        raise SystemExit(1) from None
