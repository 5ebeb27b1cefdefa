"""`oodida up` with roles, attributes and a second person, as its help shows it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import oodida
from tests.end_to_end.test_commands import as_json

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.timeout(180)]
ROLES = """
[users.ada]
role = "analyst"
vehicles = { region = "eu" }
[users.bob]
role = "operator"
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_roles_are_tried_on_one_machine(tmp_path: Path) -> None:
    roles = tmp_path / "roles.toml"
    roles.write_text(ROLES)
    words = [
        "up", "--json", "--trust", "--port", str(free_port()), "--user", "ada", "--other", "bob",
        "--authority", str(roles), "--vehicle", "car-1", "--vehicle", "car-2",
        "--attribute", "car-1:region=eu", "--attribute", "car-2:region=us",
    ]  # fmt: skip
    program = [sys.executable, "-c", "from oodida.cli import main; main()", *words]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            told = json.loads(process.stdout.readline())
            identity = Path(told["identity"])
            with oodida.connect(told["url"], identity=identity) as ada:
                assert ada.user == "ada"
                assert [v.name for v in ada.vehicles()] == ["car-1"]
            with oodida.connect(told["url"], identity=identity.with_name("bob")) as bob:
                found = {v.name: v.attributes for v in bob.vehicles()}
                assert found == {"car-1": {"region": "eu"}, "car-2": {"region": "us"}}
            roles.write_text(ROLES.replace("operator", "operater"))
            told = iter(process.stderr)
            assert any("users.bob.role" in line for line in told)
            roles.write_text(ROLES.replace("operator", "analyst"))
            assert any("holds from now on" in line for line in told)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_what_cannot_be_is_told_before_anything_starts() -> None:
    for words in (
        ("--other", "bob"),
        ("--trust", "--other", "../../../escaped"),
        ("--trust", "--user", "../../../escaped"),
        ("--trust", "--vehicle", "../../../escaped"),
        ("--attribute", "region=eu"),
        ("--attribute", "lorry:region=eu"),
        ("--authority", os.devnull),
    ):
        (told,) = as_json("up", *words, status=1)
        assert told["error"]["code"] in {"bad_request", "bad_authority_file"}
