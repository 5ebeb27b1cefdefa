"""One turn decided: what came and what is overdue, in one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from orchestrator import assignments, deployments, inbox, leases, quota, shipped
from orchestrator.audit import Desk, Quiet
from orchestrator.authority import EVERYBODY, Authority
from orchestrator.guard import guarded
from orchestrator.holdings import Holdings
from orchestrator.outbox import Due, Item
from orchestrator.presences import RollCall
from orchestrator.store import Database, problems, queries
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn
from orchestrator.vouching import Vouching
from protocol.audit import Act
from protocol.link import Incoming, Outgoing

log = logging.getLogger(__name__)

#: How often a turn is decided again at once when another orchestrator is in its way.
ATTEMPTS: Final = 6
#: How often to look whether others have left something overdue, in seconds.
POLL_S: Final = 1.0


class Decided(NamedTuple):
    """What a transaction has left to be done: its messages, and when to look again.

    ``stored`` messages are in the store until they are published; ``fleeting`` ones are not.
    ``rolled``: the roll call was over. ``at`` and ``next_deadline`` are wall time in seconds.
    ``seconds`` is what the messages of each topic took, of the processor.
    """

    stored: Sequence[Item]
    fleeting: Sequence[Outgoing]
    next_deadline: float | None
    rolled: bool
    at: float
    seconds: Mapping[str, float]


def decide(
    database: Database,
    batch: Sequence[Incoming],
    due: Due,
    roll: RollCall | None = None,
    vouching: Vouching | None = None,
    desk: Desk | None = None,
    *,
    authority: Authority = EVERYBODY,
    holdings: Holdings | None = None,
    acts: Sequence[Act] = (),
    away: bool = False,
) -> Decided:
    """Handle a batch in one transaction, with what is overdue, and what is due to the outbox.

    What has to be in the audit log, the desk writes there in the same transaction; ``acts`` are
    what was done without one. ``holdings`` is how much everybody may have here. ``away``: there is
    no connection to the broker.

    If another orchestrator is in the way, it is decided again on what is there then. Raises what
    the store raises; then nothing has changed.
    """
    desk = desk or Desk()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            done, desk.senders = _once(
                database, batch, due, roll, vouching, desk, authority=authority,
                holdings=holdings or Holdings(), acts=acts, last=attempt == ATTEMPTS, away=away,
            )  # fmt: skip
            if roll is not None:
                roll.begun = True
            return done
        except Exception as error:
            if attempt == ATTEMPTS or not problems.contended(error):
                raise
            log.info("another was faster, deciding again: %s", error)
    raise AssertionError  # the last attempt returns or raises


def _once(
    database: Database, batch: Sequence[Incoming], due: Due, roll: RollCall | None,
    vouching: Vouching | None, desk: Desk, *, authority: Authority, holdings: Holdings,
    acts: Sequence[Act], last: bool, away: bool,
) -> tuple[Decided, Mapping[str, Quiet]]:  # fmt: skip
    with database.transaction() as session:
        turn = Turn(
            session, time.time(), last_try=last, away=away, vouching=vouching, authority=authority
        )
        turn.acts += acts
        if roll is not None and not roll.begun:
            roll.begin(turn)
        inbox.read(turn, batch, roll, holdings)
        # Asked once: its clock runs on while the turn is decided.
        rolled = roll is not None and not roll.left_s
        if roll is not None and rolled:
            roll.end(turn)
        for id_ in sorted(turn.progressed):
            guarded(turn, id_, assignments.progressed)
        leases.expired(turn)
        _overdue(turn)
        shipped.tell(turn)
        session.flush()
        next_deadline = queries.next_deadline(session)
        stored = due.store(session, turn.outgoing, turn.now)
        quota.store(turn)
        senders = desk.write(turn)  # the last of all: until the commit, no other may write there
    done = Decided(stored, turn.fleeting, next_deadline, rolled, turn.now, turn.seconds)
    return done, senders


def _overdue(turn: Turn) -> None:
    """What has its time now."""
    for what in queries.deadlines(turn.session, turn.now):
        if what.assignment is not None:
            guarded(turn, what.assignment, _assignment_overdue)
        if what.deployment is not None:
            deployments.overdue(turn, what.deployment)
        if what.environment is not None:
            deployments.environment_overdue(turn, what.environment)


def _assignment_overdue(turn: Turn, row: AssignmentRow) -> None:
    """Whatever is decided, it is not due again at once.

    Who hears nothing leaves it to others whether a vehicle is lost, if there are any; not what is
    over its deadline.
    """
    if turn.away and row.deadline_at is not None and row.deadline_at > turn.now:
        return
    assignments.overdue(turn, row)
    if row.wake_at is not None and row.wake_at <= turn.now:
        row.wake_at = turn.now + POLL_S
