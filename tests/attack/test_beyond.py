"""Hostile values on their way to the analyst: the other half of cases 22, 23 and 30."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oodida

VEHICLES = ("car-1", "car-2")
#: One vehicle means harm, the other does as it is told.
MODULE = """
import os

def custom_code(window):
    print({printed!r})
    return {value!r} if window[0] else "honest"
"""
#: A terminal's sequences (one of them in C1), a text that turns around, a bell.
ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b31mred\x7f\u202egnp.exe\u2066"
MARKUP = "<script>alert(1)</script>[red]not red[/red][link=https://example.org]here[/link]"
FORMULA = "=cmd|'/c calc'!A1"


@pytest.fixture(scope="module")
def fleet(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[oodida.Fleet]:  # noqa: ARG001
    """Broker, orchestrator, worker and two vehicles: the first one has ones, the other zeros."""
    folder = tmp_path_factory.mktemp("recordings")
    paths: dict[str, str | Path | None] = {}
    for name, sample in zip(VEHICLES, (1, 0), strict=True):
        paths[name] = folder / f"{name}.csv"
        (folder / f"{name}.csv").write_text("TIME,SPEED\n" + f"0,{sample}\n" * 8, encoding="ascii")
    with oodida.local(paths, user="mallory", limits={"time_s": 10, "memory_mb": 96}) as fleet:
        yield fleet


def iterations(fleet: oodida.Fleet, value: Any, printed: str = "") -> list[oodida.Iteration]:
    """Two rounds of an assignment in which one of two vehicles answers with this value."""
    fleet.deploy(MODULE.format(value=value, printed=printed), name="evil")
    run = fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("custom", module="evil", signals="SPEED", samples=4),
            offboard=oodida.Offboard("collect"),
            iterations=2,
        )
    )
    run.result(timeout_s=60)
    return run.iterations


def command(fleet: oodida.Fleet, *words: str) -> str:
    """What the command line prints."""
    environ = os.environ | {"OODIDA_URL": fleet.url, "OODIDA_USER": fleet.user, "COLUMNS": "150"}
    environ["OODIDA_IDENTITY"] = str(fleet.identity)
    program = "from oodida.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def controls(text: str) -> set[str]:
    """The characters in it that a terminal acts upon, line ends apart."""
    turning = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return {c for c in text if (ord(c) < 32 or 127 <= ord(c) < 160 or c in turning) and c != "\n"}


def test_22_nul_bytes_are_kept_whole_and_harm_nobody_else(fleet: oodida.Fleet) -> None:
    value = ["\0", {"\0key": "a\0b"}, b"\0"]
    for iteration in iterations(fleet, value, printed="\0"):
        assert [(r.vehicle, r.value) for r in iteration.results] == [
            ("car-1", value), ("car-2", "honest"),
        ]  # fmt: skip
        assert {p.status for p in iteration.participation.values()} == {"included"}


def test_22_nul_bytes_in_a_reason_cost_at_most_that_deployment(fleet: oodida.Fleet) -> None:
    source = "import os\nif os.uname().nodename == 'sandbox': raise ValueError('a\\0b')\n"
    source += "def custom_code(window): return 1\n"  # on the analyst's own machine it behaves
    with pytest.raises(oodida.ModuleRefused, match="ValueError: ab"):
        fleet.deploy(source, name="evil")
    assert fleet.deploy("def custom_code(window): return 1", name="good").states == dict.fromkeys(
        VEHICLES, "ready"
    )


@pytest.mark.parametrize("text", [ESCAPES, MARKUP, FORMULA], ids=["escapes", "markup", "formula"])
def test_23_what_a_person_sees_is_only_text(fleet: oodida.Fleet, text: str) -> None:
    last = iterations(fleet, {"text": text, text[:50]: 1}, printed=text)[-1]
    assert last.results[0].value == {"text": text, text[:50]: 1}
    listed = command(fleet, "watch", "--json")
    id_ = json.loads(listed.splitlines()[0])[0]["id"]
    shown = command(fleet, "watch", id_)
    assert controls(shown) == set()
    documents = command(fleet, "watch", id_, "--json")
    assert controls(documents) == set()
    told = [json.loads(line) for line in documents.splitlines()]
    assert told[-1]["results"][0]["value"]["text"] == text, "as data it is whole"
    if text == MARKUP:
        assert "[red]not" in "".join(shown.split())


def test_30_another_vehicles_name_in_a_value_changes_nothing(fleet: oodida.Fleet) -> None:
    claim = {
        "vehicle": "car-2", "digest": "0" * 64, "generation": 99, "task": "t", "outcome": "ok",
        "seconds": -1.0, "user_id": "root", "state": "failed",
    }  # fmt: skip
    deployed = None
    for iteration in iterations(fleet, claim):
        deployed = deployed or next(m for m in fleet.modules() if m.name == "evil")
        assert [(r.vehicle, r.value) for r in iteration.results] == [
            ("car-1", claim), ("car-2", "honest"),
        ]  # fmt: skip
        for result in iteration.results:
            assert (result.digest, result.generation) == (deployed.digest, deployed.generation)
            assert result.seconds > 0
