"""What an analyst is told of assignments and deployments."""

from __future__ import annotations

from typing import Any, Final

from orchestrator.store import assignment_queries, environment_queries, queries
from orchestrator.store.tables import (
    AssignmentRow,
    DeploymentRow,
    EnvironmentRow,
    IterationRow,
    TaskRow,
)
from orchestrator.turn import Turn, error_reply, load
from protocol import messages
from protocol.errors import ModuleRefused
from protocol.lifecycle import AssignmentState, DeploymentState, TaskState
from protocol.messages import (
    MAX_MESSAGE,
    Deploy,
    DeploymentEvent,
    EndEvent,
    ErrorReply,
    IterationEvent,
    IterationLedger,
    Result,
    VehicleModuleState,
    Verdict,
)
from protocol.module import Side
from protocol.outcome import Outcome
from protocol.participation import Participation

#: How much is left of a reason where there is no room for more.
SHORT: Final = 80


def outcome_of(task: TaskRow) -> Outcome | None:
    """How a task ended; None while it has not."""
    return Outcome.model_validate(load(task.outcome)) if task.outcome else None


def of_iteration(turn: Turn, iteration: IterationRow) -> IterationEvent:
    """A finished iteration as analysts see it."""
    told: dict[str, Any] = load(iteration.participation)
    results = []
    session, number = turn.session, iteration.number
    own = queries.tasks(session, iteration.assignment, number, Side.ONBOARD)
    answered = {task.edge for task in own if task.state == TaskState.SUCCEEDED}
    # In, without an answer of its own: its answer to the iteration before came late, and is in.
    late = {v for v, p in told.items() if p["status"] == "included" and v not in answered}
    old = assignment_queries.late_tasks(session, iteration.assignment, number - 1) if late else ()
    for task in [*(t for t in own if t.late_at is None), *(t for t in old if t.edge in late)]:
        outcome = outcome_of(task)
        # What was left out as made by other code is not handed out: nothing can be mixed by hand.
        if outcome is None or told[task.edge]["status"] == "wrong_code":
            continue
        results.append(
            Result(
                vehicle=task.edge,
                value=outcome.value,
                digest=task.digest,
                generation=task.generation,
                outcome=outcome.kind,
                seconds=task.seconds,
                printed=outcome.printed,
                gaps=load(task.account).get("gaps") if task.account is not None else None,
                iteration=None if task.iteration == number else task.iteration,
            )
        )
    participation = participation_of(told)
    return IterationEvent(
        assignment=iteration.assignment,
        number=iteration.number,
        value=load(iteration.value) if iteration.value is not None else None,
        results=sorted(results, key=lambda result: result.vehicle),
        participation=participation,
        removed=iteration.done and iteration.value is None,
    )


def participation_of(told: dict[str, Any]) -> dict[str, Participation]:
    """A stored participation as analysts see it."""
    return {vehicle: Participation.model_validate(tree) for vehicle, tree in told.items()}


def ledger_of(number: int, blob: bytes, most: int) -> IterationLedger:
    """An iteration's stored participation; reasons are cut if it has more bytes than `most`."""
    told: dict[str, Any] = load(blob)
    if len(blob) > most:
        told = {v: {**p, "reason": p["reason"][:SHORT]} for v, p in told.items()}
    return IterationLedger(iteration=number, participation=participation_of(told))


def fitting(event: IterationEvent) -> IterationEvent:
    """The event, reduced until it can travel.

    First goes what was printed, then the vehicles' results, then the ends of long reasons; the
    value, which is bounded, and who took part are always in it.
    """
    reduced: tuple[dict[str, Any], ...] = (
        {},
        {"results": [r.model_copy(update={"printed": ""}) for r in event.results]},
        {"results": []},
        {
            "results": [],
            "participation": {
                vehicle: p.model_copy(update={"reason": p.reason[:SHORT]})
                for vehicle, p in event.participation.items()
            },
        },
    )
    for changes in reduced:
        smaller = event.model_copy(update=changes)
        if len(messages.encode(smaller)[0]) <= MAX_MESSAGE:
            return smaller
    return event


def of_end(turn: Turn, row: AssignmentRow) -> EndEvent:
    """An assignment's end as its analyst sees it."""
    iteration = queries.iteration(turn.session, row.id, row.iteration)
    done = row.iteration if iteration is not None and iteration.done else row.iteration - 1
    return EndEvent(
        assignment=row.id,
        state=AssignmentState(row.state),
        iterations=done,
        error=load(row.error) if row.error else None,
    )


def of_deployment(turn: Turn, row: DeploymentRow) -> DeploymentEvent:
    """Where a deployment stands."""
    deploy = Deploy.model_validate(load(row.request))
    verdict = Verdict.model_validate(load(row.verdict)) if row.verdict else None
    environment = None
    if row.environment is not None:
        environment = environment_queries.environment(turn.session, row.environment)
    building = row.state == DeploymentState.BUILDING and environment is not None
    return DeploymentEvent(
        id=row.id,
        name=deploy.name,
        side=deploy.side,
        state=DeploymentState(row.state),
        digest=row.digest,
        generation=row.generation,
        environment=_environment_name(deploy, environment),
        progress=environment.progress if environment is not None and building else "",
        states={
            s.edge: VehicleModuleState.model_validate({"state": s.state, "reason": s.reason})
            for s in queries.module_states(turn.session, row.id)
        },
        error=_refusal(row, deploy, verdict),
        warning=verdict.warning if verdict else "",
    )


def _environment_name(deploy: Deploy, built: EnvironmentRow | None) -> str:
    """The name or digest; "" as long as there is none."""
    if isinstance(deploy.environment, str):
        return deploy.environment
    return built.digest if built is not None else ""


def _refusal(row: DeploymentRow, deploy: Deploy, verdict: Verdict | None) -> ErrorReply | None:
    if row.error is not None:
        return ErrorReply.model_validate(load(row.error))
    if verdict is None or verdict.ok:
        return None
    return error_reply(
        ModuleRefused(
            f"{deploy.name} was refused: {verdict.place}{verdict.reason}",
            reason_code=verdict.code,
            line=verdict.line,
            column=verdict.column,
            reason=verdict.reason,
        )
    )
