"""The tables. Values, specifications and lists that no query looks into are encoded blobs."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from protocol.lifecycle import OPEN

NAME = String(64)
STATE = String(32)
#: SQLite numbers rows by itself only in a column of its own INTEGER type.
SERIAL = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The schema."""


class EdgeRow(Base):
    """A vehicle or worker that has been seen, and its newest presence.

    ``gone_at`` is when it was lost, NULL while it is online.
    """

    __tablename__ = "edges"

    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    online: Mapped[bool] = mapped_column(Boolean)
    session: Mapped[int] = mapped_column(BigInteger)
    presence: Mapped[bytes] = mapped_column(LargeBinary)
    gone_at: Mapped[float | None] = mapped_column(Float)


class ModuleRow(Base):
    """One generation of a module that was verified and shipped.

    ``asked`` is what travels with it: limits, the schema of its result, and the image; NULL in rows
    that were written before there was any of that.
    """

    __tablename__ = "modules"

    user_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    side: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    generation: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    environment: Mapped[str] = mapped_column(String(64))
    source: Mapped[bytes] = mapped_column(LargeBinary)
    vehicles: Mapped[bytes | None] = mapped_column(LargeBinary)
    deployment: Mapped[str] = mapped_column(NAME)
    shipped_at: Mapped[float] = mapped_column(Float)
    asked: Mapped[bytes | None] = mapped_column(LargeBinary)


class ModuleStateRow(Base):
    """What one vehicle or worker said of one generation of a module."""

    __tablename__ = "module_states"

    deployment: Mapped[str] = mapped_column(NAME, primary_key=True)
    edge: Mapped[str] = mapped_column(NAME, primary_key=True, index=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)


class DeploymentRow(Base):
    """A request to ship a module; ``number`` is the order in which they were made.

    ``environment`` is the key of the environment that it asks for, NULL for one that has a name.
    ``error`` is why it was refused, where that is not the verdict.
    """

    __tablename__ = "deployments"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    user_id: Mapped[str] = mapped_column(NAME)
    side: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(NAME)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(STATE)
    generation: Mapped[int] = mapped_column(Integer)
    verdict: Mapped[bytes | None] = mapped_column(LargeBinary)
    deadline_at: Mapped[float | None] = mapped_column(Float, index=True)
    environment: Mapped[str | None] = mapped_column(String(64), index=True)
    error: Mapped[bytes | None] = mapped_column(LargeBinary)


class EnvironmentRow(Base):
    """A request for an environment, and what became of it.

    ``user_id`` is who asked first: it is this user's wheels that the builder gets. ``builder`` is
    the worker that was asked, "" while there is none; ``builders`` how many had their full time.
    """

    __tablename__ = "environments"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(NAME)
    spec: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(16))
    builder: Mapped[str] = mapped_column(NAME)
    builders: Mapped[int] = mapped_column(Integer)
    deadline_at: Mapped[float | None] = mapped_column(Float, index=True)
    progress: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    lock: Mapped[str] = mapped_column(Text)
    image: Mapped[str] = mapped_column(String(400))
    size: Mapped[int] = mapped_column(BigInteger)
    built_at: Mapped[float | None] = mapped_column(Float)
    error: Mapped[bytes | None] = mapped_column(LargeBinary)


class WheelPartRow(Base):
    """A part of a wheel that a user has sent, until the environment with it is built.

    ``size`` is that of the whole wheel in bytes. Users' parts are kept apart, so that nobody can
    spoil another's wheel.
    """

    __tablename__ = "wheel_parts"

    user_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sent_at: Mapped[float] = mapped_column(Float)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class AssignmentRow(Base):
    """An assignment, and where it stands.

    ``deadline_at`` is when the running iteration's side ends; ``wake_at`` when to look at it next,
    which is no later. ``began_at`` is when the iteration began, ``quorum_at`` when its quorum was
    reached. ``ended_at`` is when the assignment ended. ``asked`` is what its analyst
    signed, `orchestrator.orders.Asked`; None where nobody signs.
    """

    __tablename__ = "assignments"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    user_id: Mapped[str] = mapped_column(NAME, index=True)
    spec: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(16), index=True)
    iteration: Mapped[int] = mapped_column(Integer)
    onboard_generation: Mapped[int] = mapped_column(Integer)
    offboard_generation: Mapped[int] = mapped_column(Integer)
    pinned: Mapped[str | None] = mapped_column(String(64))
    targets: Mapped[bytes] = mapped_column(LargeBinary)
    deadline_at: Mapped[float | None] = mapped_column(Float)
    wake_at: Mapped[float | None] = mapped_column(Float, index=True)
    started_at: Mapped[float] = mapped_column(Float)
    began_at: Mapped[float | None] = mapped_column(Float)
    quorum_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float, index=True)
    error: Mapped[bytes | None] = mapped_column(LargeBinary)
    asked: Mapped[bytes | None] = mapped_column(LargeBinary)


class IterationRow(Base):
    """A finished iteration, and while it is combined, its participation.

    The participation is kept for ever, the value as long as values are kept.
    """

    __tablename__ = "iterations"

    assignment: Mapped[str] = mapped_column(NAME, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    done: Mapped[bool] = mapped_column(Boolean)
    participation: Mapped[bytes] = mapped_column(LargeBinary)
    value: Mapped[bytes | None] = mapped_column(LargeBinary)


#: What a task is that somebody may still answer. A question with these very words finds its rows by
#: an index that has no others: what ends leaves it, and is not written to it once more.
IS_OPEN: Final = text("state IN ({})".format(", ".join(f"'{state}'" for state in OPEN)))


class TaskRow(Base):
    """What one vehicle or worker was asked for in one iteration, and what it answered.

    ``lease_until`` is when an off-board task is given to another worker if nothing is heard.
    ``account`` is what the task used and where its window was interrupted. ``late_at`` is when its
    answer came, where that was after its iteration had been closed.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        ForeignKeyConstraint(["assignment"], ["assignments.id"]),
        # How far an iteration is, is counted from the index alone.
        Index("tasks_of_iteration", "assignment", "iteration", "side", "state"),
        Index("tasks_open_of_edge", "edge", sqlite_where=IS_OPEN, postgresql_where=IS_OPEN),
    )

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    assignment: Mapped[str] = mapped_column(NAME)
    iteration: Mapped[int] = mapped_column(Integer)
    side: Mapped[str] = mapped_column(String(16))
    edge: Mapped[str] = mapped_column(NAME)
    state: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str | None] = mapped_column(String(64))
    generation: Mapped[int] = mapped_column(Integer)
    seconds: Mapped[float] = mapped_column(Float)
    outcome: Mapped[bytes | None] = mapped_column(LargeBinary)
    account: Mapped[bytes | None] = mapped_column(LargeBinary)
    lease_until: Mapped[float | None] = mapped_column(Float)
    late_at: Mapped[float | None] = mapped_column(Float)


class TransitionRow(Base):
    """One change of state: what changed, from what to what, when and why.

    ``old`` is "" for a first state. ``assignment`` is NULL for a deployment's.
    """

    __tablename__ = "transitions"
    __table_args__ = (Index("transitions_of_assignment", "assignment", "number"),)

    number: Mapped[int] = mapped_column(SERIAL, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float)
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(NAME)
    attempt: Mapped[int] = mapped_column(Integer)
    assignment: Mapped[str | None] = mapped_column(NAME)
    iteration: Mapped[int] = mapped_column(Integer)
    edge: Mapped[str] = mapped_column(NAME)
    old: Mapped[str] = mapped_column(STATE)
    new: Mapped[str] = mapped_column(STATE)
    cause: Mapped[str] = mapped_column(Text)


class UsageRow(Base):
    """How many tasks of custom code were ordered for a user on a day, numbered from 1970-01-01."""

    __tablename__ = "usage"

    user_id: Mapped[str] = mapped_column(NAME, primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tasks: Mapped[int] = mapped_column(BigInteger)


class OutboxRow(Base):
    """A message that a committed change causes, until the broker has it.

    ``owner`` is the orchestrator that publishes it; others may take over at ``claimed_until``.
    ``bundle`` is NULL for one message; for a bundle it is the mark in the payload and whom it goes
    to, and ``topic`` is the filter of all their topics.
    """

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(SERIAL, primary_key=True, autoincrement=True)
    topic: Mapped[str] = mapped_column(String(512))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    content_type: Mapped[str] = mapped_column(String(64))
    retain: Mapped[bool] = mapped_column(Boolean)
    expiry_s: Mapped[int | None] = mapped_column(Integer)
    response_topic: Mapped[str | None] = mapped_column(String(512))
    correlation: Mapped[bytes | None] = mapped_column(LargeBinary)
    owner: Mapped[str] = mapped_column(NAME)
    claimed_until: Mapped[float] = mapped_column(Float, index=True)
    bundle: Mapped[bytes | None] = mapped_column(LargeBinary)


class AuditRow(Base):
    """An entry of the audit log. The database refuses to change one, or to remove one.

    ``details`` is JSON. What the columns hold is what the hash is of: `protocol.audit`.
    """

    __tablename__ = "audit"
    __table_args__ = (Index("audit_of_actor", "actor", "number"),)

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(64))
    allowed: Mapped[bool] = mapped_column(Boolean)
    subject: Mapped[str] = mapped_column(String(200))
    code: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)
    topic: Mapped[str] = mapped_column(String(300))
    client: Mapped[str] = mapped_column(NAME)
    details: Mapped[str] = mapped_column(Text)
    orchestrator: Mapped[str] = mapped_column(NAME)
    before: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
