"""What an analyst is told of assignments and deployments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from orchestrator.store import assignment_queries, deployment_queries, environment_queries, queries
from orchestrator.store.tables import (
    AssignmentRow,
    DeploymentRow,
    EnvironmentRow,
    IterationRow,
    TaskRow,
)
from orchestrator.turn import Turn, error_reply, load
from protocol import values
from protocol.errors import ModuleRefused
from protocol.lifecycle import AssignmentState, DeploymentState, TaskState
from protocol.messages import (
    MAX_MESSAGE,
    Deploy,
    DeploymentEvent,
    EndEvent,
    ErrorReply,
    IterationLedger,
    VehicleModuleState,
    Verdict,
)
from protocol.outcome import Outcome
from protocol.participation import Participation
from protocol.privilege import Privilege, privilege

#: Bytes, and their content type.
Written = tuple[bytes, str]
#: How much is left of a reason where there is no room for more.
SHORT: Final = 80


def outcome_of(task: TaskRow) -> Outcome | None:
    """How a task ended; None while it has not."""
    return Outcome.model_validate(load(task.outcome)) if task.outcome else None


def of_iteration(turn: Turn, iteration: IterationRow) -> dict[str, Any]:
    """The tree of a finished iteration's `IterationEvent`.

    It is made of what is stored, which was checked when it came in: there may be a result of each
    of many thousand vehicles, and a model of each would only be written again.
    """
    told: dict[str, Any] = load(iteration.participation)
    session, number = turn.session, iteration.number
    own = assignment_queries.answered(session, iteration.assignment, number)
    answered = {task.vehicle for task in own if task.state == TaskState.SUCCEEDED}
    # In, without an answer of its own: its answer to the iteration before came late, and is in.
    late = {v for v, p in told.items() if p["status"] == "included" and v not in answered}
    old = assignment_queries.answered(session, iteration.assignment, number - 1) if late else []
    tree: dict[str, Any] = {
        "kind": "iteration",
        "assignment": iteration.assignment,
        "number": number,
        "results": [
            _result(task, number)
            for task in sorted(
                [
                    *(t for t in own if t.late_at is None),
                    *(t for t in old if t.late_at is not None and t.vehicle in late),
                ],
                key=lambda task: task.vehicle,
            )
            # What was left out as made by other code is not handed out: nothing can be mixed by
            # hand.
            if told[task.vehicle]["status"] != "wrong_code"
        ],
        "participation": told,
    }
    if iteration.value is not None:
        tree["value"] = load(iteration.value)
    elif iteration.done:
        tree["removed"] = True
    return tree


def _result(task: assignment_queries.Answered, number: int) -> dict[str, Any]:
    outcome = load(task.outcome)
    tree = {
        "vehicle": task.vehicle, "value": outcome.get("value"), "digest": task.digest,
        "generation": task.generation, "outcome": outcome["kind"], "seconds": task.seconds,
    }  # fmt: skip
    if outcome.get("printed"):
        tree["printed"] = outcome["printed"]
    gaps = load(task.account).get("gaps") if task.account is not None else None
    if gaps is not None:
        tree["gaps"] = gaps
    if task.iteration != number:
        tree["iteration"] = task.iteration
    return tree


def participation_of(told: dict[str, Any]) -> dict[str, Participation]:
    """A stored participation as analysts see it."""
    return {vehicle: Participation.model_validate(tree) for vehicle, tree in told.items()}


def ledger_of(number: int, blob: bytes, most: int) -> IterationLedger:
    """An iteration's stored participation; reasons are cut if it has more bytes than `most`."""
    told: dict[str, Any] = load(blob)
    if len(blob) > most:
        told = {v: {**p, "reason": p.get("reason", "")[:SHORT]} for v, p in told.items()}
    return IterationLedger(iteration=number, participation=participation_of(told))


def fitting(tree: dict[str, Any], most: int = MAX_MESSAGE) -> tuple[dict[str, Any], Written]:
    """The tree of an `IterationEvent`, reduced until it can travel, and how it is written.

    First goes what was printed, then the vehicles' results, then the ends of long reasons; the
    value, which is bounded, and who took part are always in it.
    """
    written = values.encode(tree)
    for smaller in _reductions(tree):
        if len(written[0]) <= most:
            break
        tree = smaller
        written = values.encode(tree)
    return tree, written


def _reductions(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree | {
        "results": [{k: v for k, v in r.items() if k != "printed"} for r in tree["results"]]
    }
    yield tree | {"results": []}
    told = tree["participation"].items()
    short = {v: {**p, "reason": p.get("reason", "")[:SHORT]} for v, p in told}
    yield tree | {"results": [], "participation": short}


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
    asked = privilege_of(deploy)
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
            for s in deployment_queries.module_states(turn.session, row.id)
        },
        error=_refusal(row, deploy, verdict),
        warning=verdict.warning if verdict else "",
        score=asked.score,
        privileges=asked.reasons,
    )


def privilege_of(deploy: Deploy) -> Privilege:
    """How much a deployment asks for."""
    own = not isinstance(deploy.environment, str)
    environment = "own" if own else str(deploy.environment)
    return privilege(deploy.side, environment, deploy.limits, deploy.custom_code, deploy.vehicles)


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
