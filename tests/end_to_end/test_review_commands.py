"""Two people and a fleet with certificates: one deploys, and the code waits for the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import oodida
from tests.command import run
from tests.conftest import until

pytestmark = pytest.mark.timeout(180)
AUTHORITY = """
[users]
ada = {role = "analyst", signals = ["VEHICLE_*"]}
bob = {role = "operator"}

[review]
min_score = 3
"""
FIRST = "def custom_code(window):\n    return len(window)\n"
SECOND = "def custom_code(window):\n    return 2 * len(window)\n"


@pytest.fixture(scope="module")
def ada(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[oodida.Fleet]:  # noqa: ARG001
    file = tmp_path_factory.mktemp("authority") / "roles.toml"
    file.write_text(AUTHORITY)
    with oodida.local({"car-1": None}, user="ada", others=["bob"], authority=file) as fleet:
        yield fleet


def command(fleet: oodida.Fleet, user: str, *words: str, answer: str = "") -> tuple[int, str]:
    """The status of a command of somebody's, and what it said."""
    assert fleet.identity is not None
    environ = {
        "OODIDA_URL": fleet.url, "COLUMNS": "200", "OODIDA_USER": "",
        "OODIDA_IDENTITY": str(fleet.identity.with_name(user)),
    }  # fmt: skip
    done = run(*words, environ=environ, answer=answer)
    return done.status, done.out + done.err


def value(fleet: oodida.Fleet) -> object:
    onboard = oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=10)
    run = fleet.submit(oodida.Assignment(onboard=onboard, offboard=oodida.Offboard("max")))
    return run.result(60)


def test_code_waits_for_a_second_person_and_runs_when_that_person_has_looked(
    ada: oodida.Fleet, tmp_path: Path
) -> None:
    source = tmp_path / "m.py"
    source.write_text(FIRST)
    status, said = command(ada, "ada", "deploy", str(source))
    assert (status, "waiting until a second person approves" in said) == (0, True), said
    (first,) = json.loads(command(ada, "bob", "review", "--json")[1])
    with pytest.raises(oodida.OodidaError, match="has deployed no module m"):
        value(ada)
    status, said = command(ada, "ada", "approve", first["deployment"], "--yes")
    assert (status, "may not approve" in said) == (1, True), said
    status, said = command(ada, "bob", "audit", "list", "--by", "ada", "--action", "approve")
    assert (status, "forbidden" in said) == (0, True), said  # by the cloud, which writes it down
    status, said = command(ada, "bob", "approve", first["deployment"], answer="y\n")
    assert (status, "+    return len(window)" in said) == (0, True), said
    assert until(lambda: bool(ada.modules()) and ada.modules()[0].states == {"car-1": "ready"})
    assert value(ada) == 10

    second = ada.deploy(SECOND, name="m")
    assert second.awaiting_approval
    status, said = command(ada, "bob", "approve", second.id, answer="n\n")
    assert (status, "-    return len(window)" in said) == (1, True), said
    assert value(ada) == 10  # what was there runs on
    status, said = command(ada, "bob", "reject", second.id, "--reason", "twice is too much")
    assert status == 0, said
    assert until(lambda: second.state.value == "refused")
    with pytest.raises(oodida.ModuleRefused, match="bob has rejected it: twice is too much"):
        second.wait(5)
    status, said = command(ada, "ada", "review", "--mine")
    assert (status, "rejected by bob" in said, "twice is too much" in said) == (0, True, True), said
    told = json.loads(command(ada, "ada", "review", "--mine", "--json")[1])
    assert [d["decision"] for d in told] == ["rejected", "approved"]
    assert [d.by for d in ada.decisions()] == ["bob", "bob"]
    status, said = command(ada, "ada", "review", "--everybody")
    assert (status, "forbidden" in said) == (1, True), said


def test_what_somebody_may_not_is_told_with_what_he_may(ada: oodida.Fleet) -> None:
    status, said = command(ada, "ada", "run", "--signals", "ENGINE_RPM", "--samples", "5")
    assert (status, "forbidden" in said, "VEHICLE_*" in said) == (1, True, True), said
    status, said = command(ada, "ada", "audit", "list")
    assert (status, "read the audit log" in said) == (1, True), said
    status, said = command(ada, "bob", "audit", "list", "--by", "ada")
    assert (status, "forbidden" in said) == (0, True), said
