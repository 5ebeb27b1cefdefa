"""The audit log of a running system, by library and command: asked for, taken along, verified."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

import oodida
from tests.end_to_end.conftest import System
from tests.end_to_end.test_commands import as_json, oodida_


def test_what_an_analyst_did_is_in_the_log(ada: oodida.Fleet, bob: oodida.Fleet) -> None:
    began = dt.datetime.now(dt.UTC)
    ada.deploy("def custom_code(window):\n    return max(window)\n", name="top")
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("custom", module="top", signals="VEHICLE_SPEED", samples=5),
            offboard=oodida.Offboard("mean"),
        )
    )
    run.result(60)
    with pytest.raises(oodida.OodidaError):
        bob.cancel(run.id)
    told = [(entry.action, entry.subject, entry.allowed) for entry in ada.audit(ada.user)]
    assert [what for what, _, _ in told] == ["deploy_onboard", "submit"]
    assert told[-1] == ("submit", run.id, True)
    (refused,) = ada.audit(bob.user, since=began)
    assert (refused.action, refused.subject, refused.allowed) == ("cancel", run.id, False)
    assert refused.code == "unknown_assignment"
    shipped = [e for e in ada.audit("orchestrator", "ship_module") if e.details["user"] == ada.user]
    assert [entry.details["generation"] for entry in shipped] == [1]


def test_the_log_is_listed_taken_along_and_found_whole_or_not(
    ada: oodida.Fleet, system: System, tmp_path: Path
) -> None:
    who: dict[str, Any] = {"user": ada.user, "url": system.fleet.url}
    with pytest.raises(oodida.OodidaError):
        ada.cancel("nobody-knows-it")
    (listed,) = as_json("audit", "list", "--by", ada.user, "--since", "1h", **who)
    assert (listed["action"], listed["code"]) == ("cancel", "unknown_assignment")
    out, _ = oodida_("audit", "list", "--action", "cancel", **who)
    assert "nobody-knows-it" in out

    file = tmp_path / "audit.jsonl"
    (exported,) = as_json("audit", "export", str(file), **who)
    lines = file.read_text().splitlines()
    assert exported["entries"] == len(lines) > 0
    head = exported["head"]

    # Offline: without a broker.
    nowhere: dict[str, Any] = {"url": "mqtt://127.0.0.1:1"}
    out, _ = oodida_("audit", "verify", str(file), "--head", head, **nowhere)
    assert "no entry was changed" in out
    # The cloud's own, which may have grown.
    (verdict,) = as_json("audit", "verify", "--head", head, **who)
    assert verdict["ok"]

    file.write_text("\n".join([*lines[:-1], lines[-1].replace("nobody-knows", "somebody-kno")]))
    (verdict,) = as_json("audit", "verify", str(file), status=1, **nowhere)
    assert not verdict["ok"]
    assert verdict["problems"][0]["number"] == len(lines)
    (told,) = as_json("audit", "verify", __file__, status=1, **nowhere)
    assert told["error"]["code"] == "bad_audit_log"
    file.write_text("".join(f"{line}\n" for line in lines[:-1]))
    _, err = oodida_("audit", "verify", str(file), "--head", head, status=1, **nowhere)
    assert "cut off" in err


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "/nowhere"), ("list", "--by", "bob:ada"),
        ("list", "--action", "deploi"), ("verify", "--head", "abc"),
        ("list", "--since", "yesterday"), ("list", "--by", "a b"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(words: tuple[str, ...], system: System) -> None:
    (told,) = as_json("audit", *words, status=1, user="ada", url=system.fleet.url)
    assert told["error"]["code"] == "bad_request"
