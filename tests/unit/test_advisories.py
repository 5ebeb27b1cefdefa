"""Known weaknesses of locked packages, by advisories as OSV writes them."""

from __future__ import annotations

from typing import Any

import pytest

from images.advisories import found, locked


def advisory(*events: dict[str, str], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}]
    package = {"ecosystem": "PyPI", "name": "My_Lib"}
    affected = {"package": package, "ranges": ranges, "versions": more.pop("versions", [])}
    return {"id": "X-1", "summary": "it falls", "affected": [affected], **more}


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("1.1", advisory({"introduced": "0"}, {"fixed": "1.2"})),
        ("1.10", advisory({"fixed": "1.11"}, {"introduced": "1.9"})),
        ("2.1", advisory({"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"})),
        ("1.2", advisory({"introduced": "0"}, {"last_affected": "1.2"})),
        ("9", advisory(versions=["9"])),
    ],
)
def test_what_is_affected_is_found(version: str, known: dict[str, Any]) -> None:
    assert found([known], [("my-lib", version)]) == [f"my-lib {version}: X-1: it falls"]


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("1.2", advisory({"introduced": "0"}, {"fixed": "1.2"})),
        ("1.10", advisory({"introduced": "0"}, {"fixed": "1.9"})),
        ("1.5", advisory({"introduced": "0"}, {"fixed": "1"}, {"introduced": "2"})),
        ("1.3", advisory({"introduced": "0"}, {"last_affected": "1.2"})),
        ("1", advisory({"introduced": "0"}, withdrawn="2020-01-01T00:00:00Z")),
    ],
)
def test_what_is_not_affected_is_not(version: str, known: dict[str, Any]) -> None:
    assert found([known], [("my-lib", version), ("other", "1")]) == []


def test_every_lock_is_read() -> None:
    names = {name for name, _ in locked()}
    assert {"paho-mqtt", "docker", "sqlalchemy", "scipy", "ruff", "atheris"} <= names
