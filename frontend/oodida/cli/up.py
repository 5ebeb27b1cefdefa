"""The command that starts a whole system on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from oodida.cli import interrupts, show
from oodida.cli.options import Json
from oodida.cli.words import attributes_from, vehicles_from
from oodida.connecting import user_name
from oodida.fleet import Fleet
from oodida.local import local, read_authority
from protocol.errors import BadRequest
from protocol.followed import LOOK_S, Followed


def up(
    vehicle: Annotated[
        list[str] | None,
        typer.Option(help="NAME=RECORDING.csv, or NAME for a simulated driver; several times."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VEHICLE:NAME=VALUE",
            help="What --where and an authority file may select by, such as car-1:region=eu; "
            "several times.",
        ),
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option(
            help="A file that says who may do what, and whose code waits for a second person. "
            "Default: everybody may do what an analyst may."
        ),
    ] = None,
    other: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --trust: somebody else who gets a certificate, such as whoever approves; "
            "several times.",
        ),
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
    user: Annotated[
        str | None,
        typer.Option(
            envvar="OODIDA_USER",
            help="Whose certificate is made; with --authority, somebody who has a role there. "
            "Default: who is logged in.",
        ),
    ] = None,
) -> None:
    """Start a whole system on this machine, and keep it up until interrupted.

    Without --vehicle: three simulated drivers, car-1 to car-3. In a second terminal, for example:

        oodida run --onboard mean --signals VEHICLE_SPEED --samples 50

    Whoever is logged in on this machine can reach it, and nobody from elsewhere. With --trust only
    who has a certificate, and what is deployed and computed is signed, as in a fleet.

    To try roles:

        oodida up --trust --user ada --other bob --authority roles.toml --attribute car-1:region=eu
    """
    interrupts.take_all()
    with show.errors(json_wanted=as_json):
        if other and not trust:
            raise BadRequest("--other makes a certificate: add --trust. Without, --user is enough")
        chosen = vehicles_from(vehicle or ["car-1", "car-2", "car-3"])
        progress = None if as_json else show.err.print
        roles = Followed(authority, read_authority, None)
        with local(
            chosen, port=port, rate_hz=rate_hz, folder=folder, import_rules=import_rules,
            attributes=attributes_from(attribute), authority=authority, others=other or (),
            progress=progress, trust=trust, user=user_name(user),
        ) as fleet:  # fmt: skip
            _tell(fleet, list(chosen), other or [], as_json=as_json)
            try:
                _follow(roles, authority)
            except KeyboardInterrupt:
                show.err.print("stopping")


def _follow(roles: Followed[Any], authority: Path | None) -> None:
    """Say what becomes of a change of the file; the orchestrator says it in its own log alone."""
    while True:
        time.sleep(LOOK_S)
        if roles.look():  # a mistake is logged, which is shown
            show.note(f"{authority} has changed: it holds from now on")


def _tell(fleet: Fleet, vehicles: list[str], others: list[str], *, as_json: bool) -> None:
    if as_json:
        told = {"url": fleet.url, "vehicles": vehicles}
        proof = {"identity": str(fleet.identity)} if fleet.identity is not None else {}
        show.as_json({**told, **proof})
        return
    show.out.print(f"up at {fleet.url} with {', '.join(vehicles)}; Ctrl-C ends it")
    if fleet.identity is None:
        return
    show.out.print("in a second terminal, before all else:")
    show.out.print(f"    export OODIDA_URL={fleet.url}", soft_wrap=True)
    show.out.print(f"    export OODIDA_IDENTITY={fleet.identity}", soft_wrap=True)
    for name in others:
        place = fleet.identity.with_name(name)
        show.out.print(f"as {name}:  oodida --identity {place}", soft_wrap=True)
