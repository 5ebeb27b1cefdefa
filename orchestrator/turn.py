"""One turn of the loop: a transaction, the time it happens at, and the messages it causes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestrator.store import Session, queries
from orchestrator.store.tables import EdgeRow
from protocol import messages, topics, values
from protocol.assignment import Known
from protocol.errors import OodidaError
from protocol.link import Outgoing
from protocol.messages import ErrorReply, Presence


@dataclass
class Turn:
    """What handlers work with. ``now`` is wall time in seconds; ``outgoing`` is sent on commit."""

    session: Session
    now: float
    outgoing: list[Outgoing] = field(default_factory=list)
    progressed: set[str] = field(default_factory=set)

    def send(self, topic: str, message: BaseModel, **options: Any) -> None:
        """Publish a message once this turn is committed."""
        payload, content_type = messages.encode(message)
        self.outgoing.append(Outgoing(topic, payload, content_type, **options))

    def order(self, topic: str, order: BaseModel, timeout_s: float) -> None:
        """Publish an order that is of no use after its time."""
        self.send(topic, order, expiry_s=max(1, math.ceil(timeout_s)))

    def event(self, user: str, about: str, event: BaseModel) -> None:
        """Tell an analyst what happened."""
        self.send(topics.events(user, about), event)

    def fleet(self) -> Mapping[str, Presence]:
        """Every vehicle ever seen, with its newest presence."""
        return {row.name: presence(row) for row in queries.edges(self.session, "vehicles")}


def presence(row: EdgeRow) -> Presence:
    """A stored presence; whether it is online is the row's own word."""
    stored = Presence.model_validate(load(row.presence))
    return stored.model_copy(update={"online": row.online})


def known(fleet: Mapping[str, Presence]) -> dict[str, Known]:
    """What selecting needs of a fleet."""
    return {name: Known(p.attributes, p.online) for name, p in fleet.items()}


def dump(thing: Any) -> bytes:
    """Write a model or a tree for the store."""
    tree = thing.model_dump(mode="python") if isinstance(thing, BaseModel) else thing
    return values.to_text(tree)


def load(blob: bytes) -> Any:
    """Read what `dump` wrote."""
    return values.from_text(blob)


def error_reply(error: OodidaError) -> ErrorReply:
    """An error as it travels."""
    return ErrorReply(code=error.code, message=error.message, details=error.details)
