"""The doctor on the real engine: every limit is tried, and one that is missing is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from edge_runtime.doctor import trials
from edge_runtime.sandbox import Sandbox
from images.build import ensure
from protocol.finding import Level
from tests.attack import harness
from tests.conftest import ROOT

pytestmark = pytest.mark.alone


def doctor(*words: str, status: int, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime.doctor", *words],
        env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout


def found(out: str) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(out)["findings"]}


@pytest.fixture(scope="module")
def image(engine: None) -> str:  # noqa: ARG001
    return ensure("sandbox-minimal", progress=print)


def test_here_every_limit_holds_and_nothing_is_left(image: str) -> None:
    findings = found(doctor("--json", "--image", f"minimal={image}", status=0))
    tried = {name: f["level"] for name, f in findings.items() if name.startswith("tried: ")}
    assert tried == {f"tried: {trial.name}": "ok" for trial in trials.TRIALS}
    assert {f["level"] for f in findings.values()} <= {"ok", "warning"}
    assert all(f["todo"] for f in findings.values() if f["level"] == "warning")
    assert image in findings["images"]["seen"]
    assert harness.containers("doctor") == []


def test_an_image_that_is_not_there_is_a_problem_and_nothing_is_tried(image: str) -> None:
    out = doctor("--image", f"minimal={image}x", status=1)
    assert f"problem  images: the engine has no image for minimal ({image}x)" in out
    assert "         -> build them" in out
    assert "limits, tried: not tried" in out
    assert "limit of memory" not in out
    assert "problems: 1, warnings: " in out


def test_a_runtime_that_is_not_there_is_a_problem(image: str) -> None:
    out = doctor("--json", "--image", f"minimal={image}", "--runtime", "nothing", status=1)
    findings = found(out)
    assert "there is no nothing" in findings["runtimes"]["seen"]
    assert findings["tried: a call"]["level"] == "problem"
    assert "tried: limit of memory" not in findings  # nothing more can be said


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"])
def test_an_engine_that_is_dead_is_a_problem_with_what_to_do(host: str) -> None:
    findings = found(doctor("--json", status=1, DOCKER_HOST=host))
    assert findings["engine"]["level"] == "problem"
    assert "DOCKER_HOST" in findings["engine"]["todo"]
    assert findings["address of the engine"]["level"] != "ok"


@pytest.fixture
def sandbox(image: str) -> Iterator[Sandbox]:
    with Sandbox({"minimal": image}, owner="doctor-test") as made:
        yield made


#: What is widened so far that the trial stays within it, as if it did not hold.
WIDER: dict[str, dict[str, Any]] = {
    "limit of memory": {"memory_mb": 512},
    "limit of processes": {"processes": 100},
    "limit of time": {"time_s": 60.0},
    "limit of output": {"output_kb": 1024},
    "disk": {"scratch_mb": 32, "scratch_files": 1000},
}


@pytest.mark.parametrize("name", WIDER)
def test_a_limit_that_does_not_hold_is_noticed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (trial,) = (t for t in trials.TRIALS if t.name == name)
    wider = trial._replace(limits=trial.limits.model_copy(update=WIDER[name]))
    monkeypatch.setattr(trials, "TRIALS", (trials.TRIALS[0], wider))
    plain, judged = trials.run(sandbox, "minimal")
    assert plain.level is Level.OK
    assert judged.level is Level.PROBLEM
    assert judged.todo == trial.todo
