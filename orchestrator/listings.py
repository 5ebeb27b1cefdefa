"""What analysts ask for: vehicles, modules, environments, assignments and their history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from orchestrator import environments, events, orders
from orchestrator.store import (
    assignment_queries,
    audit_queries,
    deployment_queries,
    environment_queries,
    queries,
)
from orchestrator.store.tables import AssignmentRow, ModuleRow
from orchestrator.turn import Turn, load, presence
from protocol.assignment import CUSTOM, Select
from protocol.lifecycle import ASSIGNMENT, AssignmentState, terminal
from protocol.limits import LimitsAsked
from protocol.messages import (
    AssignmentInfo,
    Change,
    EnvironmentInfo,
    Event,
    IterationEvent,
    IterationLedger,
    ListAudit,
    ListEnvironments,
    ModuleInfo,
    Reply,
    VehicleInfo,
)
from protocol.module import Side
from protocol.privilege import privilege

#: One page of history, in iterations and in bytes.
PAGE: Final = 100
PAGE_BYTES: Final = 2 * 1024 * 1024
#: One page of changes of state.
CHANGES: Final = 2000
#: One page of the audit log.
ENTRIES: Final = 1000
#: How many environments are listed at most, the newest ones; with their locks, by digest, fewer.
LISTED: Final = 200
LISTED_IN_FULL: Final = 20


def vehicles(turn: Turn, user: str) -> list[VehicleInfo]:
    """Every vehicle ever seen that a user may use, and every worker."""
    grant = turn.authority.grant(user)
    found = []
    for role, word in (("vehicles", "vehicle"), ("workers", "worker")):
        for row in queries.edges(turn.session, role):
            told = presence(row)
            if role == "vehicles" and not grant.sees(told.attributes):
                continue
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


def modules(turn: Turn, user: str) -> list[ModuleInfo]:
    """A user's modules, each in its newest generation, and where it is."""
    return [
        ModuleInfo(
            name=row.name,
            side=Side(row.side),
            generation=row.generation,
            digest=row.digest,
            environment=row.environment,
            size=len(row.source),
            states={
                s.edge: s.state
                for s in deployment_queries.module_states(turn.session, row.deployment)
            },
            score=_score(row),
        )
        for row in deployment_queries.current_modules(turn.session, user=user)
    ]


def _score(row: ModuleRow) -> int:
    limits = load(row.asked).get("limits", {}) if row.asked else {}
    vehicles = Select.model_validate(load(row.vehicles)) if row.vehicles else None
    asked = LimitsAsked.model_validate(limits)
    return privilege(Side(row.side), row.environment, asked, row.source.decode(), vehicles).score


def built(turn: Turn, request: ListEnvironments) -> list[EnvironmentInfo]:
    """The newest environments; with their locks if they are asked for by digest."""
    shipped = deployment_queries.current_modules(turn.session, user=request.user_id)
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
                modules=tuple(m.name for m in shipped if m.environment == row.digest),
            )
        )
    return found


def _iso(time: float, exact: str = "seconds") -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec=exact)


def assignments(turn: Turn, user: str | None) -> list[AssignmentInfo]:
    """The newest assignments of a user, or of all, newest first."""
    found = []
    for row in queries.assignments(turn.session, user):
        spec = orders.spec_of(row)
        found.append(
            AssignmentInfo(
                id=row.id,
                user_id=row.user_id,
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


def history(turn: Turn, row: AssignmentRow, after: int) -> Reply:
    """A page of an assignment's finished iterations."""
    told: list[Event] = []
    size = 0
    rows = queries.finished_iterations(turn.session, row.id, after, PAGE + 1)
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


def participation(turn: Turn, row: AssignmentRow, after: int) -> Reply:
    """A page of who was in and who was out, of each closed iteration."""
    told: list[IterationLedger] = []
    size = 0
    rows = assignment_queries.told_iterations(turn.session, row.id, after, PAGE + 1)
    for number, blob in rows[:PAGE]:
        entry = events.ledger_of(number, blob, PAGE_BYTES)
        size += len(blob)
        if told and size > PAGE_BYTES:
            break
        told.append(entry)
    return Reply(ledger=told, more=len(told) < len(rows))


def changes(turn: Turn, row: AssignmentRow, after: int) -> Reply:
    """A page of the changes of state of an assignment and its tasks."""
    told: list[Change] = []
    size = 0
    rows = assignment_queries.transitions(turn.session, row.id, after, CHANGES + 1)
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


def audit(turn: Turn, request: ListAudit) -> Reply:
    """A page of the audit log, everybody's."""
    told: list[str] = []
    size = 0
    found = audit_queries.page(
        turn.session, request.after, ENTRIES + 1,
        actor=request.actor, action=request.action, since=request.since,
    )  # fmt: skip
    for line in found[:ENTRIES]:
        size += len(line)
        if told and size > PAGE_BYTES:
            break
        told.append(line)
    return Reply(audit=told, more=len(told) < len(found))
