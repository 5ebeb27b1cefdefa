"""An empty store, on each database that there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store can be made."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An empty store."""
    opened = Database(url)
    yield opened
    opened.close()
