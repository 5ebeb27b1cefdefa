"""Files that people write, and those that go from hand to hand, as `Target`s."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import typer

from edge_runtime.policy import file as policy_file
from oodida.cli import auditing
from orchestrator.authority import Authority
from protocol import audit
from protocol.errors import OodidaError
from protocol.limits import Limits, Profiles
from protocol.messages import OnboardOrder
from protocol.roles import Action
from tests.fuzz.law import LawBroken, Target
from tests.fuzz.targets import EXAMPLES, MODULE, in_a_file

#: The longest line of an error about a file that is shown, in characters.
MAX_SAID: Final = 2000


def toml(tree: Any) -> str:
    """A tree of JSON as TOML, so that a file can be changed as a tree; no null is in TOML."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(toml, tree)) + "]"
    return json.dumps(tree).replace("NaN", "nan").replace("Infinity", "inf")


def _as_toml(read: Callable[[Path], object], data: bytes) -> None:
    """A case that is a tree is written as TOML, whatever else it is is a file as it stands."""
    with contextlib.suppress(ValueError, RecursionError):
        tree = json.loads(data)
        if isinstance(tree, dict):
            lines = (f"{json.dumps(key)} = {toml(value)}\n" for key, value in tree.items())
            data = "".join(lines).encode(errors="surrogatepass")
    try:
        in_a_file(read, "a.toml", data)
    except OodidaError as problem:
        if len(problem.message) > MAX_SAID:
            raise LawBroken("what is said of a file is longer than anybody reads") from problem
        raise


def _authority(path: Path) -> None:
    """Who is not in the file, and not by default, may do nothing."""
    found = Authority.read(path)
    for user in ("ada", "bob", "eve", *found.users):
        granted = user in found.users or found.default is not None
        for action in Action:
            if found.may(user, action) and not granted:
                raise LawBroken("somebody may do something without a role")
        if not granted:
            continue
        grant = found.require(user, Action.VEHICLES)
        grant.sees({"model": "etios", "n": 1}), grant.reads("VEHICLE_SPEED")
        grant.has_profile("default"), grant.has_environment("a" * 64)
        found.model_dump_json()


AUTHORITY: Final = {
    "default": {"role": "viewer"},
    "review": {"min_score": 3, "days": 7.5},
    "users": {
        "ada": {"role": "administrator"},
        "bob": {
            "role": "analyst", "vehicles": {"model": "etios", "n": 1, "f": 1.5, "b": True},
            "signals": ["VEHICLE_*", "RPM?", "[a-z]*"], "profiles": ["default"],
            "environments": ["minimal", "own", "a" * 64], "daily_tasks": 100,
        },
    },
}  # fmt: skip


def _policy(path: Path) -> None:
    """What was read decides on orders, moments and modules without an error of another kind."""
    found = policy_file.read(path, Profiles.read())
    order = EXAMPLES["order onboard"]
    assert isinstance(order, OnboardOrder)
    found.of_order(order, {"A": "km/h"}), found.of_module(MODULE, Limits())
    for moment in (0.0, 1e9, 4e9):
        found.of_moment(moment)


POLICY: Final = {
    "policy": 1, "custom_code": True, "highest_profile": "default", "environments": ["minimal"],
    "analysts": {"denied": ["eve"]},
    "signals": {"allowed": ["A", "VEHICLE_SPEED"], "location": ["GPS"]},
    "budget_a_day": {"container_starts": 100, "cpu_s": 60.0, "bytes_sent": 1000},
    "quiet_hours": {"hours": ["22:00-06:00", "12:00-24:00"], "zone": "Europe/Stockholm"},
}  # fmt: skip


def _chain() -> Iterator[str]:
    head = audit.Head()
    for number in range(4):
        act = audit.Act(
            actor="analyst:ada", action="submit", allowed=number != 2, subject=f"a-{number}",
            code="" if number != 2 else "forbidden", details={"n": number, "é": "\N{SNOWMAN}"},
        )  # fmt: skip
        entry = audit.after(head, act, f"2026-05-01T12:00:0{number}.000000Z", "o-1")
        head = audit.Head(entry.number, entry.hash)
        yield audit.line(entry) + "\n"


CHAIN: Final = "".join(_chain()).encode()
KNOWN: Final = json.loads(CHAIN.splitlines()[-1])["hash"]


def _audit(path: Path) -> None:
    """As the command reads it: what is not the log as it was written is told, and told in words."""
    whole = path.read_bytes().removesuffix(b"\n") == CHAIN.removesuffix(b"\n")
    for as_json in (False, True):
        told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            try:
                auditing.verified(path, KNOWN, as_json=as_json)
                holds = True
            except typer.Exit:
                holds = False
        if holds != whole:
            raise LawBroken("a log that was changed is told to be whole, or the other way round")


def _toml_seeds(tree: dict[str, Any]) -> tuple[bytes, ...]:
    plain = "".join(f"{key} = {toml(value)}\n" for key, value in tree.items())
    return json.dumps(tree).encode(), plain.encode()


FILES: Final = {
    target.name: target
    for target in (
        Target("authority file", partial(_as_toml, _authority), _toml_seeds(AUTHORITY)),
        Target("vehicle's policy", partial(_as_toml, _policy), _toml_seeds(POLICY)),
        Target("audit log", partial(in_a_file, _audit, "a.jsonl"), (CHAIN, CHAIN[:-1])),
    )
}
