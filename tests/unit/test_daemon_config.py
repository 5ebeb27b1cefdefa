"""gVisor's runtime in the engine's settings: added or told, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images import daemon_config

OTHERS = {"log-level": "warn", "runtimes": {"other": {"path": "/usr/bin/other"}}}


def test_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "docker" / "daemon.json"
    assert daemon_config.main(str(path)) == 0
    assert json.loads(path.read_text()) == {"runtimes": {"runsc": daemon_config.RUNTIME}}
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("text", ["", "  \n", "{}"])
def test_an_empty_file(text: str) -> None:
    after = daemon_config.with_runtime(text)
    assert after is not None
    assert json.loads(after) == {"runtimes": {"runsc": daemon_config.RUNTIME}}


def test_other_settings_stay(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps(OTHERS))
    path.chmod(0o600)
    assert daemon_config.main(str(path)) == 0
    runtimes = OTHERS["runtimes"] | {"runsc": daemon_config.RUNTIME}  # type: ignore[operator]
    assert json.loads(path.read_text()) == OTHERS | {"runtimes": runtimes}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_runtime_of_this_name_stays(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    text = '{"runtimes": {"runsc": {"path": "/opt/runsc"}}}'
    path.write_text(text)
    assert daemon_config.main(str(path)) == 0
    assert path.read_text() == text


@pytest.mark.parametrize(
    "text", ["{", "[]", "1", '{"runtimes": []}', '{"runtimes": null}', "\xff", '{"a": 1} // no']
)
def test_what_is_unclear_stays_as_it_is(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "daemon.json"
    path.write_bytes(text.encode("latin-1"))
    assert daemon_config.main(str(path)) == 1
    assert path.read_bytes() == text.encode("latin-1")
    assert list(tmp_path.iterdir()) == [path]
    said = capsys.readouterr().err
    assert str(path) in said
    assert '"runsc"' in said  # what a person would have to add


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("{}")
    path = tmp_path / "daemon.json"
    path.symlink_to(target)
    assert daemon_config.main(str(path)) == 1
    assert target.read_text() == "{}"
    assert path.is_symlink()
