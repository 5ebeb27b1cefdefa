"""A store of an older version goes on in the newest, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, select

from orchestrator.store import Database, deployment_queries, outbox, queries
from orchestrator.store.database import MIGRATIONS
from orchestrator.store.tables import (
    Base,
    EdgeRow,
    OutboxRow,
)
from protocol.link import Outgoing
from protocol.module import Side


@contextmanager
def older(url: str, version: str) -> Iterator[tuple[Connection, str]]:
    """An empty store as a version left it; and how a byte is written in its language."""
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        yield connection, "x'78'" if url.startswith("sqlite") else "decode('78', 'hex')"
    engine.dispose()


def test_the_migrations_add_up_to_the_schema(database: Database) -> None:
    with database._engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []


def test_rows_of_the_first_schema_are_there_in_the_newest(url: str) -> None:
    with older(url, "0001") as (connection, blob):
        connection.exec_driver_sql(
            "INSERT INTO modules VALUES "  # noqa: S608
            f"('ada', 'onboard', 'm', 2, 'd', 'minimal', {blob}, NULL, 'd1', 1.0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO deployments VALUES "  # noqa: S608
            f"('d1', 'ada', 'onboard', 'm', 1, {blob}, 'd', 'shipped', 2, NULL, NULL)"
        )
    opened = Database(url)
    with opened.transaction() as session:
        found = deployment_queries.current_module(session, "ada", Side.ONBOARD, "m")
        assert found is not None
        assert (found.generation, found.source, found.asked) == (2, b"x", None)
        row = deployment_queries.deployment(session, "d1")
        assert row is not None
        assert (row.state, row.environment, row.error) == ("shipped", None, None)
        assert deployment_queries.next_number(session) == 2
    opened.close()


def test_what_ran_before_an_upgrade_goes_on_after_it(url: str) -> None:
    with older(url, "0002") as (connection, blob):
        for id_, state, deadline in (("a", "combining", "50.0"), ("b", "succeeded", "NULL")):
            connection.exec_driver_sql(
                "INSERT INTO assignments VALUES "  # noqa: S608
                f"('{id_}', 'ada', {blob}, '{state}', 1, 0, 0, NULL, {blob}, {deadline}, 1.0, NULL)"
            )
        for id_, side, state in (
            ("t1", "onboard", "offline"), ("t2", "onboard", "succeeded"),
            ("t3", "offboard", "queued"),
        ):  # fmt: skip
            connection.exec_driver_sql(
                "INSERT INTO tasks VALUES "  # noqa: S608
                f"('{id_}', 1, 'a', 1, '{side}', 'car', '{state}', NULL, 0, 0.0, NULL)"
            )
        connection.exec_driver_sql(
            "INSERT INTO outbox (topic, payload, content_type, retain) "  # noqa: S608
            f"VALUES ('oodida/v1/offboard/orders', {blob}, '', false)"
        )
    opened = Database(url)
    with opened.transaction() as session:
        row = queries.assignment(session, "a")
        assert row is not None
        assert (row.wake_at, row.ended_at) == (50.0, None)
        ended = queries.assignment(session, "b")
        assert ended is not None
        assert ended.ended_at == 1.0
        found = {
            id_: task.state for id_ in ("t1", "t2", "t3") if (task := queries.task(session, id_, 1))
        }
        assert found == {"t1": "expired", "t2": "succeeded", "t3": "queued"}
        asked = queries.task(session, "t3", 1)
        assert asked is not None
        assert asked.lease_until == 0.0  # it is asked for again at once
        (waiting,) = session.scalars(select(OutboxRow))
        assert waiting.claimed_until == 0.0  # whoever comes first sends it
    opened.close()


def test_an_order_that_waits_is_sent_after_an_upgrade(url: str) -> None:
    with older(url, "0003") as (connection, blob):
        connection.exec_driver_sql(
            "INSERT INTO outbox (topic, payload, content_type, retain, owner, claimed_until) "  # noqa: S608
            f"VALUES ('oodida/v1/vehicles/car-1/orders', {blob}, 'c', false, 'dead', 1.0)"
        )
    opened = Database(url)
    with opened.transaction() as session:
        ((_, waiting),) = outbox.take(session, owner="one", now=2.0, until=9.0)
        assert waiting == Outgoing("oodida/v1/vehicles/car-1/orders", b"x", "c")
    opened.close()


def test_opening_again_keeps_what_is_there(url: str) -> None:
    first = Database(url)
    with first.transaction() as session:
        session.add(EdgeRow(role="vehicles", name="car-1", online=True, session=3, presence=b"{}"))
    first.close()
    second = Database(url)
    with second.transaction() as session:
        row = queries.edge(session, "vehicles", "car-1")
        assert row is not None
        assert row.session == 3
    second.close()
