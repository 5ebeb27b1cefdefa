"""The image of PostgreSQL that is shipped."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError


@pytest.fixture
def database(postgres_database: str) -> Engine:
    return create_engine(postgres_database)


def test_what_is_committed_is_on_the_disk_and_checked(database: Engine) -> None:
    with database.connect() as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert connection.execute(text(f"SHOW {name}")).scalar_one() == "on", name
    database.dispose()


def test_texts_are_in_the_order_of_their_bytes(database: Engine) -> None:
    with database.connect() as connection:
        found = connection.execute(
            text("SELECT x FROM (VALUES ('b'), ('B'), ('ä')) t(x) ORDER BY x")
        )
        assert found.scalars().all() == ["B", "b", "ä"]
    database.dispose()


def test_its_user_is_no_superuser(database: Engine) -> None:
    with database.connect() as connection:
        found = connection.execute(text("SELECT usesuper FROM pg_user WHERE usename = user"))
        assert found.scalar_one() is False
    database.dispose()


def test_nobody_comes_in_without_the_password(postgres: str) -> None:
    for name in ("oodida", "postgres"):
        url = make_url(postgres).set(username=name, password=name)
        stranger = create_engine(url)
        with pytest.raises(OperationalError, match="authentication failed"):
            stranger.connect()
        stranger.dispose()
