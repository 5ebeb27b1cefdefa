"""The command `oodida`: for people with tables, for programs with JSON, and errors for both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import oodida
from tests import command
from tests.end_to_end.conftest import VEHICLES, System

COMMANDS = (
    "demo", "up", "vehicles", "methods", "deploy", "run", "watch", "cancel", "modules", "check",
    "environments", "profiles", "simulate",
)  # fmt: skip


def oodida_(
    *words: str,
    user: str = "",
    url: str = "",
    identity: Path | None = None,
    status: int = 0,
    columns: int = 200,
) -> tuple[str, str]:
    """Run the command; (standard output, standard error)."""
    environ = {
        "OODIDA_URL": url, "OODIDA_USER": user, "COLUMNS": str(columns),
        "OODIDA_IDENTITY": "" if identity is None else str(identity),
    }  # fmt: skip
    done = command.run(*words, environ=environ)
    assert done.status == status, done
    return done.out, done.err


def as_json(*words: str, **options: Any) -> list[Any]:
    out, _ = oodida_(*words, "--json", **options)
    return [json.loads(line) for line in out.splitlines()]


def test_help_teaches() -> None:
    out, _ = oodida_("--help")
    for name in COMMANDS:
        assert f" {name} " in out
        text, _ = oodida_(name, "--help")
        assert "--json" in text


def test_methods_are_listed_without_a_broker() -> None:
    (listed,) = as_json("methods")
    names = {(m["side"], m["name"]) for m in listed}
    assert {("onboard", "threshold_exceedance"), ("offboard", "federated_averaging")} <= names
    out, _ = oodida_("methods")
    assert "zscore_outliers" in out


def test_the_way_of_an_analyst(ada: oodida.Fleet, system: System, tmp_path: Path) -> None:
    who: dict[str, Any] = {"user": ada.user, "url": system.fleet.url}
    module = tmp_path / "top.py"
    module.write_text("def custom_code(window):\n    return max(window)\n")
    ((checked,), (found,)) = as_json("check", str(module)), as_json("vehicles", **who)
    assert checked == {"ok": True, "environment": "minimal", "warning": ""}
    assert set(VEHICLES) <= {v["name"] for v in found if v["online"]}
    (deployed,) = as_json("deploy", str(module), **who)
    assert (deployed["name"], deployed["generation"]) == ("top", 1)
    assert {deployed["states"][vehicle] for vehicle in VEHICLES} == {"ready"}
    iterations = as_json(
        "run", "--onboard", "custom:top", "--samples", "40", "--iterations", "2",
        "--offboard", "max", "--ids", "car-1,car-2", **who,
    )  # fmt: skip
    assert [i["number"] for i in iterations] == [1, 2]
    assert set(iterations[0]["participation"]) == {"car-1", "car-2"}
    assert iterations[0]["results"][0]["digest"] == deployed["digest"]
    ((listed,), (modules,)) = as_json("watch", **who), as_json("modules", **who)
    assert [(a["state"], a["onboard"]) for a in listed] == [("succeeded", "custom:top")]
    assert [(m["name"], m["digest"]) for m in modules] == [("top", deployed["digest"])]
    assert as_json("watch", listed[0]["id"], **who) == iterations
    for words in (["vehicles"], ["modules"], ["watch"], ["watch", listed[0]["id"]]):
        out, _ = oodida_(*words, **who)
        assert out.strip()


def test_cancel(ada: oodida.Fleet, system: System) -> None:
    who: dict[str, Any] = {"user": ada.user, "url": system.fleet.url}
    (started,) = as_json("run", "--iterations", "100000", "--detach", **who)
    cancelled = [{"cancelled": started["id"]}]
    assert as_json("cancel", started["id"], **who) == cancelled
    assert as_json("cancel", started["id"], **who) == cancelled
    run = ada.run(started["id"])
    with pytest.raises(oodida.AssignmentCancelled):
        run.result(timeout_s=10)


def test_what_has_ended_is_not_said_to_be_cancelled(ada: oodida.Fleet, system: System) -> None:
    who: dict[str, Any] = {"user": ada.user, "url": system.fleet.url}
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=5),
            offboard=oodida.Offboard("mean"),
        )
    )
    run.result(timeout_s=60)
    assert (
        oodida_("cancel", run.id, **who)[0].strip() == f"{run.id} had ended before: it is succeeded"
    )
    _, shown = oodida_("participation", run.id, "car-9", status=1, **who)
    assert "'car-9' was not selected in the newest iteration" in shown
    assert "closed yet" not in shown


def test_no_iteration_is_closed_yet(ada: oodida.Fleet, system: System) -> None:
    who: dict[str, Any] = {"user": ada.user, "url": system.fleet.url}
    onboard = oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=1000, rate_hz=1)
    run = ada.submit(oodida.Assignment(onboard=onboard, offboard=oodida.Offboard("mean")))
    _, shown = oodida_("participation", run.id, "car-9", status=1, **who)
    run.cancel()
    assert "no iteration of the assignment" in shown
    assert "selected" not in shown


def test_at_eighty_columns_no_word_is_broken(ada: oodida.Fleet, system: System) -> None:
    who: dict[str, Any] = {"user": ada.user, "url": system.fleet.url, "columns": 80}
    ada.deploy("def custom_code(window):\n    return len(window)\n", name="hardest_brakings")
    run = ada.submit(
        oodida.Assignment(
            onboard=oodida.Onboard(
                "custom", module="hardest_brakings", signals="VEHICLE_SPEED", samples=5
            ),
            offboard=oodida.Offboard("collect"),
        )
    )
    assert run.result(timeout_s=60) == [5, 5, 5]
    for words in (["watch"], ["watch", run.id, "--changes"], ["participation", run.id]):
        out, _ = oodida_(*words, **who)
        assert run.id in out or words == ["participation", run.id]
        assert max(map(len, out.splitlines())) <= 80
        for word in ("succeeded", "custom:hardest_brakings", "collect", "included", "collecting"):
            assert word in out or word not in "".join(out.split())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "--onboard", "maen"], "unknown_method"),
        (["run", "--samples", "0"], "bad_request"),
        (["run", "--quorum", "150%"], "bad_request"),
        (["deploy", "nowhere.py", "--ids", ""], "bad_request"),
        (["run", "--ids", "ghost"], "unknown_vehicle"),
        (["run", "--signals", "VEHICLE_SPED"], "unknown_signal"),
        (["run", "--onboard", "custom:none"], "unknown_module"),
        (["watch", "none"], "unknown_assignment"),
        (["cancel", "none"], "unknown_assignment"),
        (["deploy", "nowhere.py"], "bad_request"),
        (["check", "nowhere.py"], "bad_request"),
    ],
)
def test_errors_have_a_code_for_programs_and_a_sentence_for_people(
    ada: oodida.Fleet, system: System, words: list[str], code: str
) -> None:
    who: dict[str, Any] = {"user": ada.user, "url": system.fleet.url}
    out, _ = oodida_(*words, "--json", status=1, **who)
    error = json.loads(out)["error"]
    assert error["code"] == code
    _, shown = oodida_(*words, status=1, **who)
    assert code in shown
    assert "Traceback" not in shown


def test_no_broker_is_one_sentence() -> None:
    _, shown = oodida_("vehicles", url="mqtt://127.0.0.1:9", user="ada", status=1)
    assert "cannot be reached" in shown
    assert "oodida up" in shown
    assert len(shown.splitlines()) <= 2, "it is told once"
    assert "Traceback" not in shown


def test_a_refused_module_is_shown_with_line_and_reason(tmp_path: Path) -> None:
    module = tmp_path / "bad.py"
    module.write_text("def custom_code(window):\n    return undefined\n")
    _, shown = oodida_("check", str(module), status=1)
    assert "line 2" in shown
    assert "NameError" in shown


def test_the_demonstration_runs_to_its_end_and_proves_what_it_tells() -> None:
    (facts,) = as_json("demo")
    numbers = [i["number"] for i in facts["iterations"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(len({r["digest"] for r in i["results"]}) == 1 for i in facts["iterations"])
    assert (
        facts["iterations"][0]["results"][0]["digest"]
        != (facts["iterations"][-1]["results"][0]["digest"])
    )
    assert facts["bobs_iterations"] > 0
