"""Vehicles and workers that come and go. Every orchestrator hears of it; the first one acts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from orchestrator import assignments, deployments, leases, orders, shipped
from orchestrator.guard import guarded
from orchestrator.store import queries
from orchestrator.turn import Turn, dump
from protocol import messages
from protocol.errors import BadRequest
from protocol.link import Incoming
from protocol.messages import PRESENCE

#: Largest presence in bytes: some hundred signals take ten thousand.
MAX_PRESENCE: Final = 256 * 1024
#: How long after a connection a vehicle may be silent before it counts as gone, in seconds: more
#: than the longest pause that a link makes before it connects again.
ROLL_CALL_S: Final = 20.0
#: It does not end while presences still come in, and not until so many seconds after the last one.
QUIET_S: Final = 2.0
LONGEST_S: Final = 120.0
#: How close to the end of our connection a loss was told that may be the broker's own, in seconds:
#: it is looked once a second whether there is one. Later ones are what another orchestrator heard.
FAREWELL_S: Final = 3.0


@dataclass
class RollCall:
    """Who has shown a presence since the connection was made, and until when that may be done.

    What the store says of who is online may date from before. ``lost_at`` is when the connection
    before was lost, in seconds since 1970; None if there was none.
    """

    lost_at: float | None = None
    begun: bool = False
    ends_at: float = field(default_factory=lambda: time.monotonic() + ROLL_CALL_S)
    latest: float = field(default_factory=lambda: time.monotonic() + LONGEST_S)
    present: set[tuple[str, str]] = field(default_factory=set)

    def begin(self, turn: Turn) -> None:
        """Who was said to be gone as the connection went is not gone yet.

        A broker that is told to stop tells everybody's last will: it is the broker that went.
        """
        if self.lost_at is None:
            return
        for role in ("vehicles", "workers"):
            when = (self.lost_at - FAREWELL_S, self.lost_at + FAREWELL_S)
            for name in sorted(queries.gone_within(turn.session, role, *when)):
                row = queries.edge(turn.session, role, name, lock=True)
                if row is not None and not row.online:
                    row.online, row.gone_at = True, None
        turn.session.flush()

    def saw(self, role: str, name: str) -> None:
        """One has shown a presence. While others come it goes on, for a while."""
        if (role, name) not in self.present:
            self.present.add((role, name))
            self.ends_at = max(self.ends_at, min(time.monotonic() + QUIET_S, self.latest))

    @property
    def left_s(self) -> float:
        """Seconds until it ends."""
        return max(0.0, self.ends_at - time.monotonic())

    def end(self, turn: Turn) -> None:
        """Who has not shown a presence is not there."""
        for role in ("vehicles", "workers"):
            for name in sorted(queries.online(turn.session, role)):
                if (role, name) in self.present:
                    continue
                row = queries.edge(turn.session, role, name, lock=True)
                if row is not None and row.online:
                    row.online, row.gone_at = False, turn.now
                    turn.session.flush()
                    _gone(turn, role, name)


def seen(turn: Turn, role: str, name: str, message: Incoming) -> None:
    """A presence has come: a birth, a last will, or one that the broker has kept."""
    if len(message.payload) > MAX_PRESENCE:
        raise BadRequest(f"a presence has at most {MAX_PRESENCE} bytes")
    presence = messages.decode(PRESENCE, message.payload, message.content_type)
    if presence.online and turn.vouching is not None:
        turn.vouching.check_birth(message, turn.now)
    row = queries.edge_to_change(turn.session, role, name)
    if presence.session < row.session:
        return  # the death of an old session, told late
    same = row.online and row.session == presence.session
    was_online, is_new = row.online, not row.presence
    row.online, row.session = presence.online, presence.session
    if presence.online or is_new:
        row.presence = dump(presence)  # a last will says nothing of signals and attributes
    if presence.online:
        row.gone_at = None
    elif was_online or is_new:
        row.gone_at = turn.now
    turn.session.flush()
    if presence.online and not same:
        shipped.edge_up(turn, row)
        if role == "vehicles":
            for task in queries.undelivered(turn.session, name):
                guarded(turn, task.assignment, partial(orders.again, task=task))
        if role == "workers":
            deployments.worker_up(turn, name)
            leases.worker_up(turn, name)
            deployments.verify_again(turn)
    if not presence.online and (was_online or is_new):
        _gone(turn, role, name)


def _gone(turn: Turn, role: str, name: str) -> None:
    """A vehicle or worker is lost: nobody waits for it."""
    shipped.edge_gone(turn, role, name)
    if role == "vehicles":
        assignments.vehicle_gone(turn, name)
    else:
        deployments.worker_gone(turn, name)
        leases.worker_gone(turn, name)
        deployments.verify_again(turn)
