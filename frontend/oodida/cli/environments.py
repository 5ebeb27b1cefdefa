"""The commands about what modules run in: environments and profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from oodida.cli import show
from oodida.cli.options import Json, Url, User
from oodida.connecting import connect
from protocol.limits import Profiles

app = typer.Typer(help="The libraries that were built into environments; `show` prints a lock.")


@app.callback(invoke_without_command=True)
def listed(
    context: typer.Context, *, as_json: Json = False, url: Url = None, user: User = None
) -> None:
    """The environments that are built: what was asked for, and which of your modules use them."""
    if context.invoked_subcommand is not None:
        return
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        found = fleet.environments()
        if as_json:
            show.as_json(found)
            return
        show.table(
            "Environments",
            ["digest", "libraries", "bytes", "built", "your modules"],
            [
                [
                    e.digest[:12],
                    ", ".join((*e.requirements, *e.wheels)) or "from a lock",
                    e.size,
                    e.built[:16].replace("T", " "),
                    ", ".join(e.modules),
                ]
                for e in found
            ],
        )


@app.command("show")
def show_(
    digest: Annotated[str, typer.Argument(help="Its digest, or the beginning of it.")],
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """One environment with its lock, which is printed so that pip can read it."""
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        found = fleet.environment(digest)
        if as_json:
            show.as_json(found)
            return
        for word, said in (
            ("environment", found.digest),
            ("asked for", ", ".join((*found.requirements, *found.wheels)) or "a lock"),
            ("image", found.image),
            ("bytes", str(found.size)),
            ("built", found.built),
            ("your modules", ", ".join(found.modules)),
        ):
            print("#", f"{word}:", show.text(said, 20_000).plain)
        for line in found.lock.splitlines():
            print(show.text(line, 1000).plain)


def profiles(*, as_json: Json = False) -> None:
    """The profiles of limits that are shipped, and what a vehicle grants at most.

    A vehicle or worker may have others: then it says so when a module is deployed.
    """
    with show.errors(json_wanted=as_json):
        read = Profiles.read()
        columns = {**read.profiles, "maximum": read.maximum}
        if as_json:
            show.as_json({name: limits.model_dump() for name, limits in columns.items()})
            return
        show.table(
            "Profiles of limits",
            ["limit", *columns],
            [
                [name, *(f"{getattr(limits, name):.10g}" for limits in columns.values())]
                for name in type(read.maximum).model_fields
            ],
        )
