"""The commands of the authority: making it, its broker's certificate, what it gave, its keeper."""

from __future__ import annotations

import datetime as dt
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oodida.cli import show
from oodida.cli.options import Json
from protocol.link import enrolment

if TYPE_CHECKING:
    from oodida.pki import Issued, Pki

app = typer.Typer(
    no_args_is_help=True,
    help="The fleet's certificate authority: a folder that nobody but its keeper can read.",
    epilog="Begin with [bold]oodida pki init[/bold]; then [bold]oodida enroll[/bold] gives each "
    "vehicle, worker, orchestrator and analyst a certificate.",
)

Folder = Annotated[
    Path,
    typer.Option("--pki", envvar="OODIDA_PKI", help="The authority's folder."),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        help="A name or address that the broker is reached by, as in mqtts://HOST:8883; several "
        "times. Default: those of the certificate that it has, else this machine's, and localhost.",
    ),
]
Days = Annotated[float, typer.Option(help="How long the certificate is valid.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to make it; kept off the broker.")],
    host: Hosts = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a certificate authority, and the certificate of the broker.

    FOLDER/broker is what the broker is given. FOLDER/ca.key can make anybody: keep it where no
    program of the fleet runs, and keep a copy elsewhere.
    """
    from oodida.pki import Pki

    with show.errors(json_wanted=as_json):
        hosts = host or _this_machine()
        Pki.init(folder, hosts, moment())
        if as_json:
            show.as_json({"folder": str(folder), "broker": str(folder / "broker"), "hosts": hosts})
            return
        show.out.print(f"the authority is in {folder}, its broker's certificate for", *hosts)
        show.out.print(f"give the broker {folder}/broker, and enrol who may speak to it:")
        show.out.print(f"    oodida enroll vehicle car-1 --pki {folder}")


@app.command()
def renew(
    host: Hosts = None,
    pki: Folder = Path("pki"),
    days: Days = 397.0,
    *,
    as_json: Json = False,
) -> None:
    """Give the broker a new certificate, before the old one expires or for another host.

    Without --host it is for the hosts that the old one is for; with it, for those and no others.
    The broker reads it when it is started again, or gets a SIGHUP; nobody is disconnected by that.
    """
    with show.errors(json_wanted=as_json):
        authority = opened(pki)
        hosts = host or authority.broker_hosts() or _this_machine()
        made = authority.renew_broker(hosts, moment(), days)
        if as_json:
            show.as_json({"until": made.until.isoformat(), "hosts": hosts})
        else:
            show.out.print(
                f"the broker's certificate is valid until {made.until:%Y-%m-%d} for", *hosts
            )


@app.command("list")
def listed(pki: Folder = Path("pki"), *, as_json: Json = False) -> None:
    """Every name with the last certificate that it was given."""
    with show.errors(json_wanted=as_json):
        now, last = moment(), {}
        for one in opened(pki).issued():
            last[one.who] = one
        if as_json:
            show.as_json([told(one, now) for one in last.values()])
            return
        show.table(
            "Certificates",
            ["name", "state", "until"],
            [
                [str(one.who), state_of(one, now), f"{one.until:%Y-%m-%d %H:%M}"]
                for one in last.values()
            ],
        )


@app.command()
def serve(
    pki: Folder = Path("pki"),
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen at.")] = "127.0.0.1:8444",
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            help="A name or address that programs reach it by, as in `oodida enroll --token --at "
            "HOST:PORT`; several times. Default: this machine's, localhost and 127.0.0.1.",
        ),
    ] = None,
) -> None:
    """Answer for the authority until interrupted: certificates by token, and renewals.

    It speaks TLS 1.3 alone. Whoever has no token that is good, and no valid certificate, gets
    nothing. It needs the authority's key: run it where that lies, and let vehicles reach its port.
    """
    from oodida.pki.keeper import Keeper

    with show.errors(json_wanted=False):
        hosts = host or [*_this_machine(), "127.0.0.1"]
        keeper = Keeper(opened(pki), enrolment.address(listen), hosts)
        show.out.print(f"answering at {listen}; Ctrl-C ends it")
        try:
            keeper.serve_forever()
        except KeyboardInterrupt:
            show.err.print("stopping")
        finally:
            keeper.server_close()


def opened(folder: Path) -> Pki:
    """The authority in a folder."""
    from oodida.pki import Pki

    return Pki(folder)


def _this_machine() -> list[str]:
    return list(dict.fromkeys([socket.gethostname(), "localhost", "127.0.0.1"]))


def moment() -> dt.datetime:
    """Now, in whole seconds as certificates have them."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def state_of(one: Issued, now: dt.datetime) -> str:
    """What a certificate is now."""
    if one.revoked is not None:
        return "revoked"
    return "valid" if one.valid(now) else "expired"


def told(one: Issued, now: dt.datetime) -> dict[str, Any]:
    """A certificate as JSON."""
    return {
        "name": str(one.who),
        "serial": f"{one.serial:x}",
        "state": state_of(one, now),
        "until": one.until.isoformat(),
    }
