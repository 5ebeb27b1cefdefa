"""The commands about who may speak: giving certificates, and taking them back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oodida.cli import show
from oodida.cli.options import Json
from oodida.cli.pki import Days, Folder, moment, opened, told
from protocol import identity
from protocol.errors import BadRequest, NotEnrolled
from protocol.identity import ROLES, Identity
from protocol.link import enrolment

if TYPE_CHECKING:
    from oodida.pki import Issued, Pki

#: How long a token may be good: a week.
MOST_MINUTES = 7 * 24 * 60.0
#: Of many, so many are enrolled in one step; in between others have their turn.
TOGETHER = 100


def enroll(
    role: Annotated[str, typer.Argument(help=f"One of {', '.join(ROLES)}.")],
    name: Annotated[str, typer.Argument(help="The name: letters, digits, and . _ -")],
    pki: Folder = Path("pki"),
    to: Annotated[
        Path | None,
        typer.Option(help="Where the files go. Default: identities/ROLE/NAME in the authority's."),
    ] = None,
    days: Days = 30.0,
    *,
    token: Annotated[
        bool,
        typer.Option(
            "--token", help="Print a one-time token instead: the program makes its key itself."
        ),
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(help="With --token: HOST:PORT of `oodida pki serve`, by one of its --host."),
    ] = None,
    minutes: Annotated[float, typer.Option(help="With --token: how long it is good.")] = 60.0,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=99_999,
            help="As many, numbered: NAME00001 and so on, as `oodida simulate --prefix NAME` has "
            "them. With --to, each gets a folder in it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a vehicle, worker, orchestrator or analyst a certificate; once more renews it.

    The folder with ca.pem, cert.pem and key.pem goes to that program, which takes it by
    --identity FOLDER or OODIDA_IDENTITY. Renewed files are read at the next connection: nothing has
    to be restarted. The broker needs no word of it.

    With --token nothing travels that could be stolen for long: `OODIDA_ENROLL=TOKEN python -m
    edge_runtime`, or --enroll FILE with the token in it, exchanges it once, at `oodida pki serve`,
    and renews its certificate there by itself.
    """
    with show.errors(json_wanted=as_json):
        if at is not None and not token:
            raise BadRequest("--at is where a token is exchanged: add --token, or leave --at out")
        if token and count is not None:
            raise BadRequest("a token is for one: give --token or --count")
        if token:
            _print_token(opened(pki), identity.of(role, name), at, minutes, as_json=as_json)
            return
        if count is not None:
            _enroll_many(opened(pki), role, name, count, days, to, as_json=as_json)
            return
        folder, made = opened(pki).enroll(identity.of(role, name), moment(), days, to)
        if as_json:
            show.as_json({**told(made, moment()), "folder": str(folder)})
            return
        show.out.print(
            f"{made.who} has a certificate until {made.until:%Y-%m-%d %H:%M} UTC: {folder}"
        )


def _enroll_many(
    pki: Pki, role: str, prefix: str, count: int, days: float, to: Path | None, *, as_json: bool
) -> None:
    every = [identity.of(role, f"{prefix}{number:05d}") for number in range(1, count + 1)]
    where = pki.folder / "identities" / role if to is None else to
    for first in range(0, count, TOGETHER):
        some = {who: where / who.name for who in every[first : first + TOGETHER]}
        for made in pki.enroll_all(some, moment(), days):
            if as_json:
                show.as_json({**told(made, moment()), "folder": str(some[made.who])})
        if not as_json and count > TOGETHER:
            show.err.print(f"{first + len(some)} of {count}")
    if not as_json:
        show.out.print(f"{every[0]} to {every[-1].name} have certificates: {where}")


def revoke(
    who: Annotated[
        list[str],
        typer.Argument(
            metavar="[ROLE] NAME",
            help="Such as vehicle car-1, or vehicle:car-1. The name alone, if no other role was "
            "ever given a certificate for it.",
        ),
    ],
    pki: Folder = Path("pki"),
    *,
    as_json: Json = False,
) -> None:
    """Take back every certificate of a name: the broker ends its connection and lets it in no more.

    Tokens of that name that nobody has used yet are good no more either.

    vehicle:car-1 and worker:car-1 are two names: one is revoked, the other goes on.
    The broker reads the list anew within a second, if it has FOLDER/broker itself and not a copy;
    otherwise hand it FOLDER/broker/crl.pem. `oodida enroll` lets the name in again.
    """
    with show.errors(json_wanted=as_json):
        found = opened(pki)
        meant = _meant(found, who)
        taken, tokens = found.revoke(meant, moment())
        if as_json:
            show.as_json(
                [told(one, moment()) for one in found.issued() if one.serial in _serials(taken)]
            )
        else:
            if taken:
                count = "its certificate" if len(taken) == 1 else f"{len(taken)} certificates"
                show.out.print(f"{meant}: {count} revoked, in {pki}/broker/crl.pem")
            if tokens:
                count = "an unused token is" if tokens == 1 else f"{tokens} unused tokens are"
                show.out.print(f"{meant}: {count} good no more")


def _print_token(pki: Pki, who: Identity, at: str | None, minutes: float, *, as_json: bool) -> None:
    if at is None:
        raise BadRequest("where is it exchanged? give --at HOST:PORT, of `oodida pki serve`")
    enrolment.address(at)
    if not 0 < minutes <= MOST_MINUTES:
        raise BadRequest(f"--minutes {minutes:g}: a token is good above 0 to {MOST_MINUTES:g}")
    made = enrolment.token(at, pki.authority, pki.token(who, moment(), minutes), who)
    if as_json:
        show.as_json({"for": str(who), "token": made, "minutes": minutes})
        return
    show.err.print(f"good once, for {who}, within {minutes:g} minutes:")
    show.out.print(made, soft_wrap=True)


def _meant(pki: Pki, words: Sequence[str]) -> Identity:
    """``role name`` as for `enroll`, ``role:name``, or a name that one role alone has."""
    word, *name = words
    if len(name) == 1:
        return identity.of(word, name[0])
    if name:
        raise BadRequest("one at a time: give a role and a name, such as vehicle car-1")
    if ":" in word:
        return identity.parse(word)
    found = sorted({one.who for one in pki.issued() if one.who.name == word})
    if not found:
        raise NotEnrolled(f"nobody called {word!r:.80} was ever enrolled here")
    if len(found) > 1:
        raise BadRequest(f"{word} is {' and '.join(map(str, found))}: say which one")
    return found[0]


def _serials(taken: Sequence[Issued]) -> set[int]:
    return {one.serial for one in taken}
