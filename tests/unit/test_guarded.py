"""What images and deployments allow: nobody is root, and few reach the engine's socket."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
SOCKET = "docker.sock"
#: Who may reach the engine, by file: edge runtimes, on vehicles and as workers.
REACH = {"cloud.yaml": {"worker-1", "worker-2"}, "vehicle.yaml": {"vehicle"}}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_an_image_starts_is_not_root(path: Path) -> None:
    """In its last stage, or, where that says nothing, as in the image that it begins with."""
    last = re.split(r"^FROM ", path.read_text(), flags=re.MULTILINE)[-1]
    users = re.findall(r"^USER (\S+)", last, flags=re.MULTILINE)
    if users:
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]), f"{path} ends as {users[-1]}"
    else:
        assert last.startswith("${PYTHON}"), f"{path} does not say whose it is"
        assert re.search(
            r"^USER 65534:65534$", (ROOT / "images/python/Dockerfile").read_text(), re.MULTILINE
        )


def services(path: Path) -> dict[str, str]:
    """The text of each service of a deployment."""
    text = path.read_text().partition("\nservices:\n")[2]
    text = re.split(r"^\S", text, flags=re.MULTILINE)[0]
    parts = re.split(r"^  ([a-z][a-z0-9-]*):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("path", sorted((ROOT / "compose").glob("*.yaml")), ids=lambda p: p.name)
def test_the_engines_socket_is_reached_by_edge_runtimes_alone(path: Path) -> None:
    found = services(path)
    assert {name for name, text in found.items() if SOCKET in text} == REACH[path.name]
    shared = path.read_text().partition("\nservices:\n")[0]
    assert SOCKET not in shared
    assert "privileged" not in path.read_text()
