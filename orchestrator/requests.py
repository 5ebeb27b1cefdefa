"""What analysts ask for. A request is done whole, or gives one error and changes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from orchestrator import (
    assignments,
    deployments,
    endings,
    environments,
    events,
    orders,
    seen,
    wheels,
)
from orchestrator.seen import Seen
from orchestrator.store import assignment_queries, changes, environment_queries, queries
from orchestrator.store.tables import AssignmentRow, ModuleRow
from orchestrator.turn import Turn, dump, presence
from protocol.assignment import CUSTOM, Assignment
from protocol.errors import (
    BadRequest,
    NameTaken,
    NoWorker,
    UnknownAssignment,
    UnknownModule,
    UnknownSignal,
    UnknownVehicle,
)
from protocol.lifecycle import ASSIGNMENT, AssignmentState, terminal
from protocol.messages import (
    AssignmentInfo,
    Cancel,
    Change,
    Deploy,
    DeploymentStatus,
    EnvironmentInfo,
    Event,
    History,
    IterationEvent,
    IterationLedger,
    ListAssignments,
    ListChanges,
    ListEnvironments,
    ListModules,
    ListParticipation,
    ListVehicles,
    ModuleInfo,
    Reply,
    Request,
    Resume,
    Submit,
    Upload,
    VehicleInfo,
)
from protocol.module import Side
from protocol.participation import Participation

#: One page of history, in iterations and in bytes.
PAGE: Final = 100
PAGE_BYTES: Final = 2 * 1024 * 1024
#: One page of changes of state.
CHANGES: Final = 2000
#: How many environments are listed at most, the newest ones; with their locks, by digest, fewer.
LISTED: Final = 200
LISTED_IN_FULL: Final = 20


def answer(turn: Turn, request: Request) -> Reply:
    """Do what is asked and say so. Raises OodidaError; the caller undoes the turn's changes."""
    match request:
        case Deploy():
            return Reply(deployment=deployments.request(turn, request))
        case Submit():
            _submit(turn, request)
            return Reply()
        case Cancel():
            endings.cancel(turn, _own(turn, request.user_id, request.assignment))
            return Reply()
        case ListVehicles():
            return Reply(vehicles=_vehicles(turn))
        case ListModules():
            return Reply(modules=_modules(turn, request.user_id))
        case ListAssignments():
            return Reply(assignments=_assignments(turn, request.user_id))
        case ListEnvironments():
            return Reply(environments=_environments(turn, request))
        case Upload():
            return wheels.upload(turn, request)
        case History():
            return _history(turn, request)
        case Resume():
            assignments.resume(turn, _own(turn, request.user_id, request.assignment))
            return Reply()
        case ListParticipation():
            return _ledger(turn, request)
        case ListChanges():
            return _changes(turn, request)
        case DeploymentStatus():
            row = queries.deployment(turn.session, request.deployment)
            if row is None or row.user_id != request.user_id:
                raise UnknownAssignment(f"{request.user_id} has no deployment {request.deployment}")
            return Reply(deployment=events.of_deployment(turn, row))


def _own(turn: Turn, user: str, assignment: str) -> AssignmentRow:
    row = queries.assignment(turn.session, assignment)
    if row is None or row.user_id != user:
        raise UnknownAssignment(f"{user} has no assignment {assignment}")
    return row


def _submit(turn: Turn, request: Submit) -> None:
    row = queries.assignment(turn.session, request.id)
    if row is not None:
        if row.user_id != request.user_id or orders.spec_of(row) != request.assignment:
            raise NameTaken
        return  # asked twice, started once
    spec, user = request.assignment, request.user_id
    onboard = _module(turn, user, Side.ONBOARD, spec.onboard.module)
    offboard = _module(turn, user, Side.OFFBOARD, spec.offboard.module)
    fleet = seen.fleet(turn.session)
    targets = _targets(spec, fleet)
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
    )
    turn.session.add(row)
    turn.session.flush()
    changes.first(turn.session, row, now=turn.now, cause="it was submitted")
    assignments.begin(turn, row)


def _module(turn: Turn, user: str, side: Side, name: str | None) -> ModuleRow | None:
    if name is None:
        return None
    row = queries.current_module(turn.session, user, side, name)
    if row is None:
        there = [m.name for m in queries.current_modules(turn.session, user=user, side=side)]
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
    row = queries.module_by_digest(turn.session, user, Side.ONBOARD, name, spec.digest)
    if row is None:
        raise UnknownModule(f"no generation of {name} has the digest {spec.digest}")
    return row


def _targets(spec: Assignment, fleet: Mapping[str, Seen]) -> list[str]:
    targets = spec.vehicles.choose(fleet)
    if any(name in fleet for name in targets):
        return targets
    missing = {
        name: Participation(status="unknown", reason="no vehicle of this name was ever seen")
        for name in targets
    }
    if spec.vehicles.names is not None:
        near = difflib.get_close_matches(targets[0], fleet, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; `oodida vehicles` lists them"
        message = f"no vehicle is known by the name {', '.join(targets[:5])}{hint}"
    else:
        message = "no known vehicle is selected; `oodida vehicles` lists them"
    raise UnknownVehicle(message, participation={v: p.model_dump() for v, p in missing.items()})


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


def _vehicles(turn: Turn) -> list[VehicleInfo]:
    found = []
    for role, word in (("vehicles", "vehicle"), ("workers", "worker")):
        for row in queries.edges(turn.session, role):
            told = presence(row)
            found.append(
                VehicleInfo.model_validate(
                    {
                        "name": row.name,
                        "role": word,
                        "online": row.online,
                        "attributes": told.attributes,
                        "signals": told.signals,
                        "environments": told.environments,
                        "builds": told.builds,
                        "version": told.version,
                    }
                )
            )
    return found


def _modules(turn: Turn, user: str) -> list[ModuleInfo]:
    return [
        ModuleInfo(
            name=row.name,
            side=Side(row.side),
            generation=row.generation,
            digest=row.digest,
            environment=row.environment,
            size=len(row.source),
            states={s.edge: s.state for s in queries.module_states(turn.session, row.deployment)},
        )
        for row in queries.current_modules(turn.session, user=user)
    ]


def _environments(turn: Turn, request: ListEnvironments) -> list[EnvironmentInfo]:
    modules = queries.current_modules(turn.session, user=request.user_id)
    most = LISTED_IN_FULL if request.digest else LISTED
    found = []
    for row in environment_queries.built(turn.session, request.digest, most):
        spec = environments.spec_of(row)
        found.append(
            EnvironmentInfo(
                digest=row.digest,
                requirements=spec.requirements,
                wheels=tuple(wheel.name for wheel in spec.wheels),
                lock=row.lock if request.digest else "",
                image=row.image,
                size=row.size,
                built=_iso(row.built_at or 0.0),
                modules=tuple(m.name for m in modules if m.environment == row.digest),
            )
        )
    return found


def _iso(time: float, exact: str = "seconds") -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec=exact)


def _assignments(turn: Turn, user: str) -> list[AssignmentInfo]:
    found = []
    for row in queries.assignments(turn.session, user):
        spec = orders.spec_of(row)
        found.append(
            AssignmentInfo(
                id=row.id,
                state=AssignmentState(row.state),
                iteration=row.iteration,
                iterations=spec.iterations,
                onboard=_task_name(spec.onboard.method, spec.onboard.module),
                offboard=_task_name(spec.offboard.method, spec.offboard.module),
                started=_iso(row.started_at),
            )
        )
    return found


def _task_name(method: str, module: str | None) -> str:
    return f"{CUSTOM}:{module}" if module else method


def _history(turn: Turn, request: History) -> Reply:
    row = _own(turn, request.user_id, request.assignment)
    told: list[Event] = []
    size = 0
    rows = queries.finished_iterations(turn.session, row.id, request.after, PAGE + 1)
    for iteration in rows[:PAGE]:
        tree, (written, _) = events.fitting(events.of_iteration(turn, iteration))
        size += len(written)
        if told and size > PAGE_BYTES:
            break
        told.append(IterationEvent.model_validate(tree))
    more = len(told) < len(rows)
    state = AssignmentState(row.state)
    if not more and (terminal(ASSIGNMENT, state) or state is AssignmentState.HALTED):
        told.append(events.of_end(turn, row))
    return Reply(history=told, more=more)


def _ledger(turn: Turn, request: ListParticipation) -> Reply:
    row = _own(turn, request.user_id, request.assignment)
    told: list[IterationLedger] = []
    size = 0
    rows = assignment_queries.told_iterations(turn.session, row.id, request.after, PAGE + 1)
    for number, blob in rows[:PAGE]:
        entry = events.ledger_of(number, blob, PAGE_BYTES)
        size += len(blob)
        if told and size > PAGE_BYTES:
            break
        told.append(entry)
    return Reply(ledger=told, more=len(told) < len(rows))


def _changes(turn: Turn, request: ListChanges) -> Reply:
    row = _own(turn, request.user_id, request.assignment)
    told: list[Change] = []
    size = 0
    rows = assignment_queries.transitions(turn.session, row.id, request.after, CHANGES + 1)
    for change in rows[:CHANGES]:
        size += 300 + len(change.cause)  # the rest of it is short
        if told and size > PAGE_BYTES:
            break
        told.append(
            Change.model_validate(
                {
                    "number": change.number,
                    "at": _iso(change.at, "milliseconds"),
                    "kind": change.kind,
                    "subject": change.subject,
                    "attempt": change.attempt,
                    "iteration": change.iteration,
                    "edge": change.edge,
                    "old": change.old,
                    "new": change.new,
                    "cause": change.cause,
                }
            )
        )
    return Reply(changes=told, more=len(told) < len(rows))
