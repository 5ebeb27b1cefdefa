"""`oodida doctor`: is this machine fit, and does the cloud answer?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.conftest import System
from tests.end_to_end.test_commands import oodida_

pytestmark = pytest.mark.alone


def found(*words: str, **options: Any) -> dict[str, dict[str, str]]:
    out, _ = oodida_("doctor", "--json", *words, **options)
    said = json.loads(out)
    assert said["ok"] == (options.get("status", 0) == 0)
    return {finding["name"]: finding for finding in said["findings"]}


def test_a_vehicles_machine_is_looked_at_with_the_images_of_this_checkout(system: System) -> None:
    findings = found("--vehicle", url=system.fleet.url)
    assert "minimal (oodida/sandbox-minimal:" in findings["images"]["seen"]
    assert findings["tried: limit of memory"]["level"] == "ok"
    assert "broker" not in findings


def test_in_the_cloud_the_parts_are_asked_too(system: System) -> None:
    findings = found("--cloud", url=system.fleet.url, user="ada")
    parts = {name: findings[name] for name in ("broker", "orchestrator", "workers", "vehicles")}
    assert {finding["level"] for finding in parts.values()} == {"ok"}
    assert "worker-1" in parts["workers"]["seen"]
    assert findings["tried: a call"]["level"] == "ok"


def test_for_people_it_says_what_to_do() -> None:
    out, _ = oodida_("doctor", "--cloud", url="mqtt://127.0.0.1:1", user="ada", status=1)
    assert "broker: the broker at 127.0.0.1:1 cannot be reached" in out
    assert "→ start the broker" in out
    assert "orchestrator" not in out
    assert "tried: limit of time" in out


def test_help_teaches_and_one_question_is_asked_at_a_time() -> None:
    out, _ = oodida_("doctor", "--help")
    assert "--cloud" in out
    assert "each limit holds" in " ".join(out.split())
    _, err = oodida_("doctor", "--cloud", "--vehicle", status=1)
    assert "bad_request" in err
