"""The tables. Values, specifications and lists that no query looks into are encoded blobs."""

from __future__ import annotations

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
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAME = String(64)
#: SQLite numbers rows by itself only in a column of its own INTEGER type.
SERIAL = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The schema."""


class EdgeRow(Base):
    """A vehicle or worker that has been seen, and its newest presence."""

    __tablename__ = "edges"

    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    online: Mapped[bool] = mapped_column(Boolean)
    session: Mapped[int] = mapped_column(BigInteger)
    presence: Mapped[bytes] = mapped_column(LargeBinary)


class ModuleRow(Base):
    """One generation of a module that was verified and shipped."""

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


class ModuleStateRow(Base):
    """What one vehicle or worker said of one generation of a module."""

    __tablename__ = "module_states"

    deployment: Mapped[str] = mapped_column(NAME, primary_key=True)
    edge: Mapped[str] = mapped_column(NAME, primary_key=True, index=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)


class DeploymentRow(Base):
    """A request to ship a module; ``number`` is the order in which they were made."""

    __tablename__ = "deployments"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    user_id: Mapped[str] = mapped_column(NAME)
    side: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(NAME)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    digest: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    generation: Mapped[int] = mapped_column(Integer)
    verdict: Mapped[bytes | None] = mapped_column(LargeBinary)
    deadline_at: Mapped[float | None] = mapped_column(Float, index=True)


class AssignmentRow(Base):
    """An assignment, and where it stands."""

    __tablename__ = "assignments"

    id: Mapped[str] = mapped_column(NAME, primary_key=True)
    user_id: Mapped[str] = mapped_column(NAME, index=True)
    spec: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(16))
    iteration: Mapped[int] = mapped_column(Integer)
    onboard_generation: Mapped[int] = mapped_column(Integer)
    offboard_generation: Mapped[int] = mapped_column(Integer)
    pinned: Mapped[str | None] = mapped_column(String(64))
    targets: Mapped[bytes] = mapped_column(LargeBinary)
    deadline_at: Mapped[float | None] = mapped_column(Float, index=True)
    started_at: Mapped[float] = mapped_column(Float)
    error: Mapped[bytes | None] = mapped_column(LargeBinary)


class IterationRow(Base):
    """A finished iteration, and while it is combined, its participation."""

    __tablename__ = "iterations"

    assignment: Mapped[str] = mapped_column(NAME, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    done: Mapped[bool] = mapped_column(Boolean)
    participation: Mapped[bytes] = mapped_column(LargeBinary)
    value: Mapped[bytes | None] = mapped_column(LargeBinary)


class TaskRow(Base):
    """What one vehicle or worker was asked for in one iteration, and what it answered."""

    __tablename__ = "tasks"
    __table_args__ = (
        ForeignKeyConstraint(["assignment"], ["assignments.id"]),
        Index("tasks_of_iteration", "assignment", "iteration"),
        Index("tasks_of_edge", "edge", "state"),
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


class OutboxRow(Base):
    """A message that a committed change causes, until the broker has it."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(SERIAL, primary_key=True, autoincrement=True)
    topic: Mapped[str] = mapped_column(String(512))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    content_type: Mapped[str] = mapped_column(String(64))
    retain: Mapped[bool] = mapped_column(Boolean)
    expiry_s: Mapped[int | None] = mapped_column(Integer)
    response_topic: Mapped[str | None] = mapped_column(String(512))
    correlation: Mapped[bytes | None] = mapped_column(LargeBinary)
