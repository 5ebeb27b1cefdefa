"""Metrics and health of real programs, over HTTP."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from oodida import connect
from tests.conftest import until

SHORT_S = 10


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=SHORT_S) as answer:  # noqa: S310 - our own
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


@contextmanager
def program(log: Path, *command: str, where: Sequence[str] = ("--metrics=0",)) -> Iterator[str]:
    """A program of ours with metrics at a free port; gives the address of its monitor."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *where, "--log-format=json", "--stop-on-eof"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )

    def place() -> re.Match[str] | None:
        return re.search(r"http://(127\.0\.0\.1|0\.0\.0\.0):\d+", log.read_text())

    try:
        assert until(lambda: place() is not None), log.read_text()
        found = place()
        assert found is not None
        yield found.group()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SHORT_S) == 0, log.read_text()


@pytest.fixture
def orchestrator(tmp_path: Path, broker: str) -> Iterator[str]:
    store = f"--store=sqlite:///{tmp_path}/store.db"
    with program(tmp_path / "log", "orchestrator", f"--broker={broker}", store) as url:
        yield url


def test_an_orchestrator_tells_how_it_is(orchestrator: str, broker: str, tmp_path: Path) -> None:
    assert until(lambda: get(f"{orchestrator}/health/ready")[0] == 200)
    assert json.loads(get(f"{orchestrator}/health/live")[1]) == {"ok": True, "loop": True}
    with connect(broker, "ada") as fleet:
        fleet.vehicles()
    status, told = get(f"{orchestrator}/metrics")
    assert status == 200
    assert "oodida_orchestrator_connected 1.0" in told
    assert 'oodida_orchestrator_requests_total{mode="' in told
    assert 'oodida_orchestrator_assignments_open{state="collecting"} 0.0' in told
    assert "oodida_orchestrator_turn_seconds_count" in told
    for line in (tmp_path / "log").read_text().splitlines():
        assert json.loads(line)["orchestrator"]


@pytest.mark.parametrize("part", [["orchestrator"], ["edge_runtime", "--name=m", "--pool=0"]])
def test_beyond_this_machine_there_are_no_metrics_unless_that_is_said(
    tmp_path: Path,
    engine: None,  # noqa: ARG001
    part: list[str],
) -> None:
    asked = [sys.executable, "-m", *part, "--metrics=0.0.0.0:0", "--broker=mqtt://127.0.0.1:1"]
    ended = subprocess.run(
        asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "setup_error" in ended.stderr
    assert "--metrics-in-the-clear" in ended.stderr


def test_on_a_network_of_ones_own_there_are(tmp_path: Path, engine: None) -> None:  # noqa: ARG001
    clear = ["--metrics-in-the-clear", "--metrics=0.0.0.0:0"]
    options = ["--name=m", "--broker=mqtt://127.0.0.1:1", f"--state={tmp_path}/state", "--pool=0"]
    with program(tmp_path / "log", "edge_runtime", *options, where=clear) as url:
        assert get(f"{url}/health/live")[0] == 200


def test_a_vehicle_without_a_broker_lives_and_is_not_ready(tmp_path: Path, engine: None) -> None:  # noqa: ARG001
    nobody = "--broker=mqtt://127.0.0.1:1"
    options = ["--name=monitored", nobody, f"--state={tmp_path}/state", "--pool=0"]
    with program(tmp_path / "log", "edge_runtime", *options) as url:
        assert get(f"{url}/health/live")[0] == 200
        status, told = get(f"{url}/health/ready")
        assert status == 503
        assert json.loads(told) == {"ok": False, "broker": False, "journal": True}
        assert "oodida_edge_connected 0.0" in get(f"{url}/metrics")[1]
        assert get(f"{url}/etc/passwd")[0] == 404
    assert "without --image ENVIRONMENT=IMAGE modules are refused" in (tmp_path / "log").read_text()


def test_clients_that_say_nothing_are_bounded_and_keep_nobody_out(orchestrator: str) -> None:
    host, _, port = orchestrator.removeprefix("http://").partition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(40)]
    try:
        # Each is let go after a few seconds, and those beyond the bound at once.
        assert until(lambda: _answers(f"{orchestrator}/health/live"))
    finally:
        for client in silent:
            client.close()


def _answers(url: str) -> bool:
    try:
        return get(url)[0] == 200
    except OSError:
        return False
