"""Arrows run one way, and side effects live at the edge of each part."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PARTS = {"protocol", "orchestrator", "edge_runtime", "oodida", "images"}
MAY_IMPORT = {
    "protocol": set[str](),
    "orchestrator": {"protocol"},
    "edge_runtime": {"protocol"},
    "frontend/oodida": {"protocol"},
    "images": set[str](),
}
#: The one place that knows all the parts, and the guest program, which is baked in with `protocol`.
EXCEPTIONS = {
    "frontend/oodida/local.py": {"images", "edge_runtime", "orchestrator"},
    "images/sandbox/module_side.py": {"protocol"},
}
#: Library -> the only places that may import it.
OUTSIDE = {
    "paho": ("protocol/link/",),
    "docker": ("edge_runtime/sandbox/", "images/", "frontend/oodida/containers.py"),
    "sqlalchemy": ("orchestrator/store/",),
    "alembic": ("orchestrator/store/",),
    "cryptography": (
        "frontend/oodida/pki/",
        "protocol/certificate.py",
        "protocol/revocation.py",
        "protocol/signing.py",
        "protocol/link/enrolment.py",
        "protocol/link/credentials.py",
    ),
    "cbor2": ("protocol/values.py",),
    "prometheus_client": ("protocol/metrics.py",),
    "pythonjsonlogger": ("protocol/logs.py",),
    "jsonschema_rs": ("protocol/contract/schema.py",),
    "typer": ("frontend/oodida/cli/",),
    "rich": ("frontend/oodida/cli/",),
}


def sources(part: str) -> Iterator[Path]:
    return (p for p in (ROOT / part).rglob("*.py") if "__pycache__" not in p.parts)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_protocol_and_no_other_part(part: str) -> None:
    own = part.rpartition("/")[2]
    for path in sources(part):
        name = str(path.relative_to(ROOT))
        allowed = MAY_IMPORT[part] | {own} | EXCEPTIONS.get(name, set())
        assert imported(path) & PARTS <= allowed, name


@pytest.mark.parametrize("library", OUTSIDE)
def test_side_effects_have_one_room_each(library: str) -> None:
    for part in MAY_IMPORT:
        for path in sources(part):
            name = str(path.relative_to(ROOT))
            if not name.startswith(OUTSIDE[library]):
                assert library not in imported(path), name


def test_the_planner_is_pure() -> None:
    for name in ("planner.py", "consistency.py"):
        found = imported(ROOT / "orchestrator" / name)
        impure = {"time", "datetime", "asyncio", "os", "logging", "random"}
        assert not found & (impure | set(OUTSIDE)), name


def test_the_version_is_said_once() -> None:
    import tomllib

    from protocol.version import VERSION

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
