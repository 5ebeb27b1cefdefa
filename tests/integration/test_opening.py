"""Opening the store: several at once, the password's file, and what is said when it fails."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import make_url

from orchestrator.store import database, figures
from orchestrator.store.opening import open_store
from protocol.errors import SetupError


def once(url: str) -> bool:
    """Open a store; True if it answers."""
    store = open_store(url)
    try:
        return figures.answers(store)
    finally:
        store.close()


def test_several_that_open_an_empty_store_at_once_migrate_it_once(postgres_database: str) -> None:
    with ThreadPoolExecutor(4) as together:
        assert list(together.map(once, [postgres_database] * 4)) == [True] * 4


@pytest.mark.parametrize(
    "rest",
    [
        "db.example/x", "10.0.0.7:5432/x", "[2001:db8::7]/x", "db.example/x?sslmode=prefer",
        "/x?host=db.example", "127.0.0.1/x?hostaddr=10.0.0.7", "localhost,db.example/x",
        "/x?host=localhost:5432&host=db.example:5432",
    ],
)  # fmt: skip
def test_a_store_on_another_machine_is_not_spoken_with_in_the_clear(rest: str) -> None:
    with pytest.raises(SetupError, match=r"another machine.*sslmode=verify-full") as told:
        open_store(f"postgresql+psycopg://u:secret@{rest}")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "rest",
    [
        "127.0.0.1:1/x", "[::1]:1/x", "localhost:1/x", "nowhere:1/x", "/x?host=/nowhere.d",
        "/x?host=localhost:1",
        "store.invalid:1/x?sslmode=verify-full", "store.invalid/x?sslmode=require",
    ],
)  # fmt: skip
def test_a_store_that_is_here_or_has_tls_is_tried(rest: str) -> None:
    with pytest.raises(SetupError, match="cannot be opened"):
        open_store(f"postgresql+psycopg://u@{rest}")


def test_several_that_open_an_empty_file_at_once_migrate_it_once(tmp_path: Path) -> None:
    for number in range(12):  # it takes a few rounds for two to meet in the first statement
        with ThreadPoolExecutor(4) as together:
            url = f"sqlite:///{tmp_path}/store-{number}.db"
            assert list(together.map(once, [url] * 4)) == [True] * 4


def test_a_file_that_others_write_to_for_longer_than_a_transaction_waits_is_opened_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    assert once(url)
    monkeypatch.setattr(database, "BUSY_MS", 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as beside:
            opened = beside.submit(once, url)
            with pytest.raises(TimeoutError):
                opened.result(0.5)
            other.execute("COMMIT")
            assert opened.result(10)


def test_the_password_comes_from_a_file(postgres_database: str, tmp_path: Path) -> None:
    url = make_url(postgres_database)
    file = tmp_path / "password"
    file.write_text(f"{url.password}\n")
    bare = url.set(password=None).render_as_string(hide_password=False)
    store = open_store(bare, file)
    assert figures.answers(store)
    store.close()

    file.write_text("something-else\n")
    with pytest.raises(SetupError, match="authentication failed") as problem:
        open_store(bare, file)
    assert "something-else" not in str(problem.value)
    with pytest.raises(SetupError, match="cannot be read"):
        open_store(bare, tmp_path / "missing")


def test_a_store_that_is_not_there_is_one_clear_line() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "orchestrator",
            "--store=postgresql+psycopg://x:secret@127.0.0.1:1/x",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("setup_error: the store at postgresql+psycopg://x:***@127.0.0.1")
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
