"""The commands."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from oodida import check as checking
from oodida.alike import alike
from oodida.cli import auditing, deploying, environments, proving, reviewing, running, show, trust
from oodida.cli.demo import demo as play
from oodida.cli.doctor import doctor as examine
from oodida.cli.options import EnvironmentName, Json, To, Url, User
from oodida.cli.simulating import simulate
from oodida.cli.words import vehicles_from
from oodida.fleet import connect, environment_of, side_of, user_name
from oodida.local import local
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
    with show.errors(json_wanted=as_json):
        play(recordings, as_json=as_json)


@app.command()
def up(
    vehicle: Annotated[
        list[str] | None,
        typer.Option(help="NAME=RECORDING.csv, or NAME for a simulated driver; several times."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Where the broker listens on loopback.")
    ] = 1883,
    rate_hz: Annotated[
        float | None, typer.Option(help="Samples a second. Default: without waiting.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Keep store, modules and logs here. Default: nowhere.")
    ] = None,
    import_rules: Annotated[
        Path | None,
        typer.Option(help="What modules may import, for vehicles and worker. Default: as shipped."),
    ] = None,
    *,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Make certificates for everybody here; the output says how to use them."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a whole system on this machine, and keep it up until interrupted.

    Without --vehicle: three simulated drivers, car-1 to car-3. In a second terminal, for example:

        oodida run --onboard mean --signals VEHICLE_SPEED --samples 50

    Whoever is logged in on this machine can reach it, and nobody from elsewhere. With --trust only
    who has a certificate, and what is deployed and computed is signed, as in a fleet.
    """
    # Also where a shell has started it in the background, with interrupts ignored.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with show.errors(json_wanted=as_json):
        chosen = vehicles_from(vehicle or ["car-1", "car-2", "car-3"])
        progress = None if as_json else show.err.print
        with local(
            chosen, port=port, rate_hz=rate_hz, folder=folder, import_rules=import_rules,
            progress=progress, trust=trust, user=user_name(None),
        ) as fleet:  # fmt: skip
            if as_json:
                told = {"url": fleet.url, "vehicles": list(chosen)}
                proof = {"identity": str(fleet.identity)} if fleet.identity is not None else {}
                show.as_json({**told, **proof})
            else:
                show.out.print(f"up at {fleet.url} with {', '.join(chosen)}; Ctrl-C ends it")
                if fleet.identity is not None:
                    show.out.print("in a second terminal, before all else:")
                    show.out.print(f"    export OODIDA_URL={fleet.url}", soft_wrap=True)
                    show.out.print(f"    export OODIDA_IDENTITY={fleet.identity}", soft_wrap=True)
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                show.err.print("stopping")


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

app.add_typer(trust.app, name="pki")
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
