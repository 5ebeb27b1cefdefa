"""A new assignment: whether it can be done, by which vehicles, with which code."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from orchestrator import assignments, orders, seen, selection
from orchestrator.seen import Seen
from orchestrator.store import changes, deployment_queries, queries
from orchestrator.store.tables import AssignmentRow, ModuleRow
from orchestrator.turn import Turn, dump
from protocol.assignment import Assignment
from protocol.errors import (
    BadRequest,
    NameTaken,
    NoWorker,
    UnknownModule,
    UnknownSignal,
)
from protocol.lifecycle import AssignmentState
from protocol.messages import Request, Submit
from protocol.module import Side


def submit(turn: Turn, request: Submit, came: Request) -> None:
    """Begin an assignment. Raises OodidaError if it cannot be done as it is asked for.

    ``came`` is the request as it came: its analyst may use fewer vehicles than it says.
    """
    row = queries.assignment(turn.session, request.id)
    if row is not None:
        if row.user_id != request.user_id or orders.spec_of(row) != request.assignment:
            raise NameTaken
        return  # asked twice, started once
    asked = _signed(turn, request, came)
    spec, user = request.assignment, request.user_id
    onboard = _module(turn, user, Side.ONBOARD, spec.onboard.module)
    offboard = _module(turn, user, Side.OFFBOARD, spec.offboard.module)
    fleet = seen.fleet(turn.session)
    targets = selection.chosen(user, turn.authority.grant(user), spec.vehicles, fleet)
    _check_signals(spec, [fleet[name] for name in targets if name in fleet])
    if not queries.online(turn.session, "workers"):
        raise NoWorker
    pinned = _pinned(turn, user, spec, onboard)
    row = AssignmentRow(
        id=request.id,
        user_id=user,
        spec=dump(spec),
        state=AssignmentState.COLLECTING,
        iteration=1,
        onboard_generation=pinned.generation if pinned else onboard.generation if onboard else 0,
        offboard_generation=offboard.generation if offboard else 0,
        pinned=pinned.digest if pinned else None,
        targets=dump(targets),
        deadline_at=None,
        wake_at=None,
        started_at=turn.now,
        began_at=None,
        quorum_at=None,
        ended_at=None,
        error=None,
        asked=asked,
    )
    turn.session.add(row)
    turn.session.flush()
    changes.first(turn.session, row, now=turn.now, cause="it was submitted")
    assignments.begin(turn, row)


def _signed(turn: Turn, request: Submit, came: Request) -> bytes | None:
    """What is kept of an analyst's signature. Raises BadSignature if it does not fit."""
    if turn.vouching is None or not isinstance(came, Submit):
        return None
    mandate = came.check_signature(turn.vouching.trust)
    more = came.assignment.vehicles
    fewer = more != request.assignment.vehicles
    return dump(orders.Asked(mandate=mandate, vehicles=more if fewer else None))


def _module(turn: Turn, user: str, side: Side, name: str | None) -> ModuleRow | None:
    if name is None:
        return None
    row = deployment_queries.current_module(turn.session, user, side, name)
    if row is None:
        there = [
            m.name for m in deployment_queries.current_modules(turn.session, user=user, side=side)
        ]
        have = f"; deployed are {', '.join(there[:5])}" if there else ""
        where = "vehicles" if side is Side.ONBOARD else "cloud"
        raise UnknownModule(f'{user} has deployed no module {name} to "{where}"{have}')
    return row


def _pinned(turn: Turn, user: str, spec: Assignment, current: ModuleRow | None) -> ModuleRow | None:
    if spec.consistency != "pinned":
        return None
    if current is None:
        raise BadRequest('consistency="pinned" is for a custom on-board module')
    if spec.digest is None:
        return current
    name = spec.onboard.module or ""
    row = deployment_queries.module_by_digest(turn.session, user, Side.ONBOARD, name, spec.digest)
    if row is None:
        raise UnknownModule(f"no generation of {name} has the digest {spec.digest}")
    return row


def _check_signals(spec: Assignment, chosen: Sequence[Seen]) -> None:
    """Refuse only what no vehicle can do; one that lacks a signal refuses its own task."""
    have: set[str] = set()
    for one in chosen:
        have.update(one.signals)
        if have.issuperset(spec.onboard.signal_names):
            return  # mostly the first one has them all, and the others need not be read
    for signal in spec.onboard.signal_names:
        if signal not in have:
            same = [name for name in have if name.lower() == signal.lower()]
            near = same or difflib.get_close_matches(signal, have, n=3, cutoff=0.5)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise UnknownSignal(f"no selected vehicle has the signal {signal}{hint}")
