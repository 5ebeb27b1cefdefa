"""Review before run: what waits, what is different in it, and the word of a second person."""

from __future__ import annotations

import difflib
import json
from typing import Annotated

import typer

from oodida.cli import show
from oodida.cli.options import Json, Url, User
from oodida.connecting import connect
from oodida.fleet import Fleet
from protocol.assignment import Select
from protocol.errors import BadRequest
from protocol.limits import LimitsAsked
from protocol.messages import Decision, Review

Id = Annotated[str, typer.Argument(help="The deployment, as `oodida review` lists it.")]


def review(
    *,
    mine: Annotated[
        bool,
        typer.Option("--mine", help="What became of yours: by whom, when, why."),
    ] = False,
    everybody: Annotated[
        bool,
        typer.Option("--everybody", help="The same of all users, if you may see what they have."),
    ] = False,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """The deployments that wait until a second person approves.

    With --mine also those that wait no more: approved, rejected, or not approved in time.
    """
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        if mine or everybody:
            _decisions(fleet, everybody=everybody, as_json=as_json)
            return
        found = fleet.reviews()
        if as_json:
            # Whoever wants the source asks for one of them.
            show.as_json([one.model_dump(exclude={"source", "before"}) for one in found])
            return
        show.table(
            "Waiting for approval",
            ["deployment", "by", "module", "to", "score", "since"],
            [[r.deployment, r.user_id, r.name, _to(r), f"{r.score} of 8", r.since] for r in found],
        )
        if found:
            show.out.print("look at one and decide:  oodida approve DEPLOYMENT")


def _decisions(fleet: Fleet, *, everybody: bool, as_json: bool) -> None:
    found = fleet.decisions(everybody=everybody)
    if as_json:
        show.as_json(found)
        return
    show.table(
        f"Deployments of {'everybody' if everybody else fleet.user} that had to wait",
        ["deployment", *(["of"] if everybody else []), "module", "decision", "when", "why"],
        [
            [d.deployment, *([d.user_id] if everybody else []), d.name, _said(d), d.at, _why(d)]
            for d in found
        ],
    )


def _said(found: Decision) -> str:
    by = f" by {found.by}" if found.by else ""
    return f"{found.decision.replace('_', ' ')}{by}"


def _why(found: Decision) -> str:
    if found.decision == "waiting":
        return f"since {found.since}"
    return f"generation {found.generation}" if found.generation else found.reason


def approve(
    deployment: Id,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Show what is different from the generation before, and let it be shipped.

    It takes a second person: nobody approves what he has deployed. Status 1 if the answer is no.
    """
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        found = fleet.review(deployment)
        if found.user_id == fleet.user:
            fleet.approve(found)  # which the cloud refuses, and writes down
        if not as_json:
            _show(found)
        elif not yes:
            raise BadRequest("with --json nothing is asked: give --yes, when you have looked at it")
        if not yes and not typer.confirm("ship it?"):
            show.out.print("it is left waiting;  oodida reject DEPLOYMENT  ends that")
            raise typer.Exit(1)
        fleet.approve(found)
        if as_json:
            show.as_json({"deployment": deployment, "approved": True, "digest": found.digest})
        else:
            show.out.print(f"{found.name} of {found.user_id} is shipped")


def reject(
    deployment: Id,
    reason: Annotated[str, typer.Option(help="Why; its analyst is told.")] = "",
    *,
    as_json: Json = False,
    url: Url = None,
    user: User = None,
) -> None:
    """Do not let a deployment be shipped."""
    with show.errors(json_wanted=as_json), connect(url, user) as fleet:
        fleet.reject(deployment, reason)
        if as_json:
            show.as_json({"deployment": deployment, "approved": False, "reason": reason})
        else:
            show.out.print(f"{deployment} is rejected; nothing was shipped")


def difference(found: Review) -> list[str]:
    """The lines that differ from the generation before, as `diff -u` has them."""
    before, after = found.before.splitlines(), found.source.splitlines()
    old = f"generation {found.generation}" if found.generation else "nothing"
    return list(difflib.unified_diff(before, after, old, found.digest[:12], lineterm=""))


def _show(found: Review) -> None:
    environment, limits = found.environment, _limits(found.limits)
    if found.limits_before is not None and _limits(found.limits_before) != limits:
        limits = f"{limits}, before: {_limits(found.limits_before)}"
    if found.environment_before not in ("", environment):
        environment = f"{environment}, before: {found.environment_before}"
    facts = [
        ["module", f"{found.name} of {found.user_id}, to {_to(found)}"],
        ["digest", found.digest],
        ["environment", environment],
        ["limits", limits],
        *([["returns", json.dumps(found.returns)]] if found.returns is not None else []),
        ["asks for", f"{found.score} of 8"],
        *[["", reason] for reason in found.privileges],
    ]
    show.table(f"Deployment {found.deployment}", ["what", "is"], facts)
    lines = difference(found) or ["the source is the same as before"]
    for line in lines:
        style = {"+": "green", "-": "red"}.get(line[:1], "")
        show.out.print(show.text(line, longest=400), style=style, soft_wrap=True)


def _limits(asked: LimitsAsked) -> str:
    lower = ", ".join(f"{name}={most:g}" for name, most in asked.lower.items())
    return f"{asked.profile} {lower}".strip()


def _to(found: Review) -> str:
    if found.side == "offboard":
        return "cloud"
    chosen = found.vehicles
    if chosen is None or chosen == Select.all():
        return "all vehicles"
    words = [] if chosen.size is None else [f"{chosen.size} of those with"]
    words += [f"{name}={value}" for name, value in chosen.attributes.items()]
    return " ".join(words) if chosen.names is None else ", ".join(chosen.names)
