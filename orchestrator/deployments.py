"""Deployments: environment built if need be, verified by a worker, then shipped or refused."""

from __future__ import annotations

from typing import Final

from orchestrator import audit, environments, events, quota, seen, selection, shipped
from orchestrator.environments import Known
from orchestrator.events import privilege_of
from orchestrator.store import changes, deployment_queries, environment_queries, queries
from orchestrator.store.tables import DeploymentRow, EnvironmentRow
from orchestrator.turn import Turn, dump, error_reply, load
from protocol import topics
from protocol.assignment import Select
from protocol.endorsement import TRIAL
from protocol.environment import EnvironmentSpec
from protocol.errors import (
    BadRequest,
    BadSignature,
    NameTaken,
    NoWorker,
    OodidaError,
    SourceTooLarge,
)
from protocol.lifecycle import DeploymentState, EnvironmentState
from protocol.messages import (
    BuildReport,
    Deploy,
    DeploymentEvent,
    ErrorReply,
    Verdict,
    VerifyOrder,
    VerifyReport,
)
from protocol.module import MAX_SOURCE, Module, Side, digest_of

#: How long a worker may take to try a module, its turn in the queue included; and if it may have
#: to fetch the module's environment first.
VERIFY_S: Final = 30.0
FETCH_AND_VERIFY_S: Final = 300.0
_OVERTAKEN: Final = "a later deployment of this module has been shipped already"


def request(turn: Turn, deploy: Deploy) -> DeploymentEvent:
    """Take a deployment: it is verified before anything changes anywhere."""
    row = deployment_queries.deployment(turn.session, deploy.id)
    if row is not None:
        if row.user_id != deploy.user_id:
            raise NameTaken
        return events.of_deployment(turn, row)
    if turn.vouching is not None:
        turn.vouching.check(deploy, turn.now)
    _check(turn, deploy)
    asked = deploy.environment
    environment = environments.ask(turn, deploy.user_id, asked)
    row = DeploymentRow(
        id=deploy.id,
        user_id=deploy.user_id,
        side=deploy.side,
        name=deploy.name,
        number=deployment_queries.next_number(turn.session),
        request=dump(deploy),
        digest="",
        state=DeploymentState.BUILDING,
        generation=0,
        verdict=None,
        deadline_at=None,  # its environment has one
        environment=asked.key if isinstance(asked, EnvironmentSpec) else None,
        error=None,
    )
    turn.session.add(row)
    turn.session.flush()
    changes.first(turn.session, row, now=turn.now, cause="it was asked for")
    if environment is not None:
        _try(turn, row, environment)
    return events.of_deployment(turn, row)


def _try(turn: Turn, row: DeploymentRow, environment: Known) -> None:
    """Have a worker try a module whose environment is known."""
    deploy = Deploy.model_validate(load(row.request))
    row.digest = digest_of(deploy.custom_code, environment.name)
    changes.move_deployment(
        turn.session, row, DeploymentState.VERIFYING, now=turn.now, cause="its environment is there"
    )
    row.deadline_at = turn.now + _patience(environment)
    turn.session.flush()
    quota.spend(turn, row.user_id, 1)
    _order_trial(turn, row, deploy, environment)


def _patience(environment: Known) -> float:
    return VERIFY_S if environment.image is None else FETCH_AND_VERIFY_S


def _order_trial(turn: Turn, row: DeploymentRow, deploy: Deploy, environment: Known) -> None:
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    module = _module(deploy, 1, row.digest, environment)  # its generation comes when it ships
    if turn.vouching is not None and deploy.signature is not None:
        module = turn.vouching.endorsed(
            module, TRIAL, deployment=row.id, asked=deploy.asked, analyst=deploy.signature,
            now=turn.now,
        )  # fmt: skip
    order = VerifyOrder(
        id=row.id,
        module=module,
        example=deploy.example,
        timeout_s=left,
    )
    turn.order(topics.offboard_orders(), order, left)


def verify_again(turn: Turn) -> None:
    """Workers have changed: whoever is there now is asked. A second verdict is not heard."""
    for row in deployment_queries.verifying(turn.session):
        deploy = Deploy.model_validate(load(row.request))
        _order_trial(turn, row, deploy, _environment(turn, row, deploy))


def _environment(turn: Turn, row: DeploymentRow, deploy: Deploy) -> Known:
    """The environment of a deployment that has got beyond it: it does not change any more."""
    if isinstance(deploy.environment, str):
        return environments.by_name(turn, deploy.environment)
    found = environments.by_key(turn, row.environment or "")
    if found is None:
        raise RuntimeError(f"the environment of deployment {row.id} is not there")
    return found


def _check(turn: Turn, deploy: Deploy) -> None:
    size = len(deploy.custom_code.encode(errors="replace"))
    if size > MAX_SOURCE:
        raise SourceTooLarge(f"the source has {size} bytes; at most {MAX_SOURCE} may be deployed")
    if not deploy.custom_code.strip():
        raise BadRequest("the source is empty")
    if deploy.side is Side.OFFBOARD and deploy.vehicles is not None:
        raise BadRequest("an off-board module goes to the workers; it selects no vehicles")
    if deploy.side is Side.ONBOARD:
        user, grant = deploy.user_id, turn.authority.grant(deploy.user_id)
        select = deploy.vehicles or Select.all()
        selection.chosen(user, grant, select, seen.fleet(turn.session))
    if not queries.online(turn.session, "workers"):
        raise NoWorker


def _module(deploy: Deploy, generation: int, digest: str, environment: Known) -> Module:
    return Module(
        user_id=deploy.user_id,
        name=deploy.name,
        side=deploy.side,
        generation=generation,
        environment=environment.name,
        source=deploy.custom_code,
        digest=digest,
        limits=deploy.limits,
        returns=deploy.returns,
        image=environment.image,
    )


def built(turn: Turn, worker: str, report: BuildReport) -> None:
    """A worker has said how far an environment is: those who wait for it go on, or are refused."""
    _environment_changed(turn, environments.reported(turn, worker, report))


def worker_up(turn: Turn, worker: str) -> None:
    """A worker is there (again): it builds what nobody builds, and what it may have forgotten."""
    for environment in environments.worker_up(turn, worker):
        _environment_changed(turn, environment)


def worker_gone(turn: Turn, worker: str) -> None:
    """A worker is lost: another one builds."""
    for environment in environments.worker_gone(turn, worker):
        _environment_changed(turn, environment)


def environment_overdue(turn: Turn, key: str) -> None:
    """A worker has not built an environment in time."""
    _environment_changed(turn, environments.overdue(turn, key))


def _environment_changed(turn: Turn, environment: EnvironmentRow | None) -> None:
    if environment is None:
        return
    ready = environments.by_key(turn, environment.key)
    for row in environment_queries.waiting(turn.session, environment.key):
        if ready is not None:
            try:
                with turn.savepoint():
                    _try(turn, row, ready)
            except OodidaError as problem:  # it is this deployment's own; the others go on
                turn.session.refresh(row)
                _refuse(turn, row, dump(error_reply(problem)))
        elif environment.state == EnvironmentState.REFUSED:
            _refuse(turn, row, environment.error)
        turn.event(row.user_id, row.id, events.of_deployment(turn, row))


def _refuse(turn: Turn, row: DeploymentRow, error: bytes | None) -> None:
    why = "its environment cannot be had"
    changes.move_deployment(turn.session, row, DeploymentState.REFUSED, now=turn.now, cause=why)
    row.error = error
    turn.session.flush()
    told = ErrorReply.model_validate(load(error)) if error else ErrorReply(code="", message="")
    audit.decided(turn, row, told.code or "environment_refused", told.message)


def verified(turn: Turn, report: VerifyReport) -> None:
    """A worker has tried a module: ship it, or refuse it and change nothing."""
    row = deployment_queries.deployment(turn.session, report.order)
    if row is None or row.state != DeploymentState.VERIFYING:
        return  # said twice, or too late
    _decide(turn, row, report.verdict)


def overdue(turn: Turn, deployment: str) -> None:
    """No worker has answered in time, or nobody has approved."""
    row = deployment_queries.deployment(turn.session, deployment)
    if row is None:
        return
    if row.state == DeploymentState.VERIFYING:
        deploy = Deploy.model_validate(load(row.request))
        within = _patience(_environment(turn, row, deploy))
        late = f"no worker has verified the module within {within:g} s"
        _decide(turn, row, Verdict(ok=False, code="verification_timeout", reason=late))
    elif row.state == DeploymentState.AWAITING_APPROVAL:
        refuse(turn, row, "not_approved", "nobody has approved it in time")


def _decide(turn: Turn, row: DeploymentRow, verdict: Verdict) -> None:
    """A module is tried: it is refused, held until somebody has looked at it, or shipped."""
    if not verdict.ok:
        refuse(turn, row, verdict.code, verdict.reason, verdict)
        return
    deploy = Deploy.model_validate(load(row.request))
    if turn.vouching is not None:
        try:
            turn.vouching.check_still(deploy)
        except BadSignature as problem:
            refuse(turn, row, problem.code, str(problem))
            return
    row.verdict, row.deadline_at = dump(verdict), None
    review = turn.authority.review
    if review is None or privilege_of(deploy).score < review.min_score:
        ship(turn, row, "it was verified")
        return
    row.deadline_at = turn.now + review.days * 86_400
    held = "it was verified, and waits for approval by a second person"
    changes.move_deployment(
        turn.session, row, DeploymentState.AWAITING_APPROVAL, now=turn.now, cause=held
    )
    audit.held(turn, row)
    for older in deployment_queries.awaiting_before(turn.session, row):
        refuse(turn, older, "superseded", "a later deployment of this module waits for approval")
    turn.event(row.user_id, row.id, events.of_deployment(turn, row))


def refuse(
    turn: Turn, row: DeploymentRow, code: str, reason: str, verdict: Verdict | None = None
) -> None:
    """A module is not shipped, and nothing has changed anywhere."""
    row.verdict = dump(verdict or Verdict(ok=False, code=code, reason=reason))
    row.deadline_at = None
    why = f"{code}: {reason}"
    changes.move_deployment(turn.session, row, DeploymentState.REFUSED, now=turn.now, cause=why)
    audit.decided(turn, row, code or "refused", reason)
    turn.event(row.user_id, row.id, events.of_deployment(turn, row))


def ship(turn: Turn, row: DeploymentRow, cause: str) -> None:
    """A module becomes the newest generation of its name, unless a later one has been shipped."""
    if deployment_queries.shipped_after(turn.session, row):
        # Else the older source would be the newer generation.
        refuse(turn, row, "superseded", _OVERTAKEN)
        return
    row.deadline_at = None
    changes.move_deployment(turn.session, row, DeploymentState.SHIPPED, now=turn.now, cause=cause)
    deploy = Deploy.model_validate(load(row.request))
    newest = deployment_queries.current_module(
        turn.session, deploy.user_id, deploy.side, deploy.name
    )
    row.generation = newest.generation + 1 if newest else 1
    environment = _environment(turn, row, deploy)
    module = _module(deploy, row.generation, row.digest, environment)
    shipped.ship(turn, row, module, deploy)
    audit.decided(turn, row)
    for older in deployment_queries.awaiting_before(turn.session, row):
        refuse(turn, older, "superseded", _OVERTAKEN)
    turn.event(row.user_id, row.id, events.of_deployment(turn, row))
