"""One turn of the loop: a transaction, the time it happens at, and the messages it causes."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestrator.authority import EVERYBODY, Authority
from orchestrator.bundle import Bundle
from orchestrator.store import Session, deployment_queries
from orchestrator.store.tables import EdgeRow, ModuleRow
from orchestrator.vouching import Vouching
from protocol import messages, topics, values
from protocol.audit import Act
from protocol.errors import OodidaError, ValueTooLarge
from protocol.link import Outgoing
from protocol.messages import (
    MAX_MESSAGE,
    ErrorReply,
    Presence,
    ProgressEvent,
)
from protocol.module import Side

log = logging.getLogger(__name__)


@dataclass
class Turn:
    """What handlers work with. ``now`` is wall time in seconds.

    ``outgoing`` is stored with the turn and sent until the broker has it. ``fleeting`` is sent
    after the commit and never again: whoever misses it asks, or tells, once more.

    ``authority`` is who may do what; ``spent`` how many tasks of custom code were ordered for whom.
    Where ``deployments`` stand is told once a turn, however many vehicles spoke of them.
    ``vouching`` is None where nobody has a certificate: on one machine.

    ``away``: there is no connection to the broker, and nobody could say that he is there.

    ``acts`` go into the audit log with the turn. ``seconds`` is what the messages of each topic
    took by themselves, of the processor.
    """

    session: Session
    now: float
    outgoing: list[Outgoing | Bundle] = field(default_factory=list)
    fleeting: list[Outgoing] = field(default_factory=list)
    progressed: set[str] = field(default_factory=set)
    deployments: set[str] = field(default_factory=set)
    acts: list[Act] = field(default_factory=list)
    last_try: bool = False
    away: bool = False
    vouching: Vouching | None = None
    authority: Authority = EVERYBODY
    spent: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    _current: dict[Side, Sequence[ModuleRow]] = field(default_factory=dict)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of this turn that is done whole, or leaves no trace if it raises."""
        sending, telling, acting = len(self.outgoing), len(self.fleeting), len(self.acts)
        progressed, deployments = set(self.progressed), set(self.deployments)
        spent = self.spent.copy()
        try:
            with self.session.begin_nested():
                yield
        except BaseException:
            del self.outgoing[sending:]
            del self.fleeting[telling:]
            del self.acts[acting:]
            self.progressed, self.deployments = progressed, deployments
            self.spent = spent
            self._current.clear()
            raise

    def current_modules(self, side: Side) -> Sequence[ModuleRow]:
        """The newest generation of each module of a side; asked once, as a whole fleet may come."""
        if side not in self._current:
            self._current[side] = deployment_queries.current_modules(self.session, side=side)
        return self._current[side]

    def module_added(self) -> None:
        """There is a newer generation of one."""
        self._current.clear()

    def send(self, topic: str, message: BaseModel, **options: Any) -> None:
        """Publish a message once this turn is committed. Raises ValueTooLarge if it is."""
        self.outgoing.append(_written(topic, message, **options))

    def tell(self, topic: str, message: BaseModel, **options: Any) -> None:
        """As `send`, but it may be lost: a receipt, a reply, how far something is."""
        self.fleeting.append(_written(topic, message, **options))

    def receipt(self, role: topics.Role, edge: str, report: str) -> None:
        """Acknowledge a report once this turn is committed."""
        self.fleeting.append(
            Outgoing(topics.receipts(role, edge), messages.receipt(report), expiry_s=60)
        )

    def order(self, topic: str, order: BaseModel, timeout_s: float) -> None:
        """Publish an order that is of no use after its time."""
        self.send(topic, order, expiry_s=max(1, math.ceil(timeout_s)))

    def order_all(
        self,
        vehicles: Sequence[tuple[str, str]],
        make: Callable[[str], BaseModel],
        timeout_s: float,
    ) -> None:
        """Publish one order to many vehicles, each named with the id that is its own.

        ``make`` gives the order with an id in it.
        """
        pattern, expiry_s = topics.all_of("vehicles", "orders"), max(1, math.ceil(timeout_s))
        while vehicles:
            mark = messages.new_id()
            one = _written(pattern, make(mark))
            bundle = Bundle(pattern, one.payload, one.content_type, mark, vehicles, expiry_s)
            if bundle.fits:
                self.outgoing.append(bundle)
                return

    def event_written(self, user: str, about: str, payload: bytes, content_type: str) -> None:
        """Tell an analyst what happened, by an event that is written. Raises ValueTooLarge."""
        _check_size(payload)
        self.outgoing.append(Outgoing(topics.events(user, about), payload, content_type))

    def event(self, user: str, about: str, event: BaseModel) -> None:
        """Tell an analyst what happened."""
        if isinstance(event, ProgressEvent):
            self.tell(topics.events(user, about), event)
        else:
            self.send(topics.events(user, about), event)


def _written(topic: str, message: BaseModel, **options: Any) -> Outgoing:
    payload, content_type = messages.encode(message)
    _check_size(payload)
    return Outgoing(topic, payload, content_type, **options)


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_MESSAGE:
        raise ValueTooLarge(
            f"this needs a message of {len(payload)} bytes; at most {MAX_MESSAGE} may travel: "
            "take fewer vehicles, or return less from each"
        )


def presence(row: EdgeRow) -> Presence:
    """A stored presence; whether it is online is the row's own word."""
    stored = Presence.model_validate(load(row.presence))
    return stored.model_copy(update={"online": row.online})


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
