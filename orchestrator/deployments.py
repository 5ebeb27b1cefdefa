"""Shipping modules: verified by a worker first, then told to whom it is for."""

from __future__ import annotations

from typing import Final

from orchestrator import assignments
from orchestrator.store import queries
from orchestrator.store.tables import DeploymentRow, EdgeRow, ModuleRow, ModuleStateRow
from orchestrator.turn import Turn, dump, error_reply, known, load, presence
from protocol import topics
from protocol.assignment import Select
from protocol.errors import (
    BadRequest,
    ModuleRefused,
    NameTaken,
    NoWorker,
    SourceTooLarge,
    UnknownVehicle,
)
from protocol.lifecycle import DEPLOYMENT, DeploymentState, advance
from protocol.messages import (
    Deploy,
    DeploymentEvent,
    ModuleMessage,
    ModuleReport,
    VehicleModuleState,
    Verdict,
    VerifyOrder,
    VerifyReport,
)
from protocol.module import MAX_SOURCE, Environment, Module, Side, digest_of

#: How long a worker may take to try a module, its turn in the queue included.
VERIFY_S: Final = 30.0


def request(turn: Turn, deploy: Deploy) -> DeploymentEvent:
    """Take a deployment: it is verified before anything changes anywhere."""
    row = queries.deployment(turn.session, deploy.id)
    if row is not None:
        if row.user_id != deploy.user_id:
            raise NameTaken
        return event_of(turn, row)
    _check(turn, deploy)
    digest = digest_of(deploy.custom_code, deploy.environment)
    row = DeploymentRow(
        id=deploy.id,
        user_id=deploy.user_id,
        side=deploy.side,
        name=deploy.name,
        number=queries.next_number(turn.session),
        request=dump(deploy),
        digest=digest,
        state=DeploymentState.VERIFYING,
        generation=0,
        verdict=None,
        deadline_at=turn.now + VERIFY_S,
    )
    turn.session.add(row)
    turn.session.flush()
    _order_trial(turn, row)
    return event_of(turn, row)


def _order_trial(turn: Turn, row: DeploymentRow) -> None:
    deploy = Deploy.model_validate(load(row.request))
    left = max(0.0, (row.deadline_at or turn.now) - turn.now)
    order = VerifyOrder(
        id=row.id,
        module=_module(deploy, 1, row.digest),  # the generation is given when it ships
        example=deploy.example,
        timeout_s=left,
    )
    turn.order(topics.offboard_orders(), order, left)


def verify_again(turn: Turn) -> None:
    """Workers have changed: whoever is there now is asked. A second verdict is not heard."""
    for row in queries.verifying(turn.session):
        _order_trial(turn, row)


def _check(turn: Turn, deploy: Deploy) -> None:
    size = len(deploy.custom_code.encode(errors="replace"))
    if size > MAX_SOURCE:
        raise SourceTooLarge(f"the source has {size} bytes; at most {MAX_SOURCE} may be deployed")
    if not deploy.custom_code.strip():
        raise BadRequest("the source is empty")
    if deploy.side is Side.OFFBOARD and deploy.vehicles is not None:
        raise BadRequest("an off-board module goes to the workers; it selects no vehicles")
    if deploy.side is Side.ONBOARD:
        fleet = turn.fleet()
        chosen = (deploy.vehicles or Select.all()).choose(known(fleet))
        if not any(name in fleet for name in chosen):
            raise UnknownVehicle(
                f"none of the selected vehicles is known{': ' if chosen else ''}"
                f"{', '.join(chosen[:5])}; `oodida vehicles` lists those that are"
            )
    if not queries.online(turn.session, "workers"):
        raise NoWorker


def _module(deploy: Deploy, generation: int, digest: str) -> Module:
    return Module(
        user_id=deploy.user_id,
        name=deploy.name,
        side=deploy.side,
        generation=generation,
        environment=deploy.environment,
        source=deploy.custom_code,
        digest=digest,
    )


def verified(turn: Turn, report: VerifyReport) -> None:
    """A worker has tried a module: ship it, or refuse it and change nothing."""
    row = queries.deployment(turn.session, report.order)
    if row is None or row.state != DeploymentState.VERIFYING:
        return  # said twice, or too late
    verdict = report.verdict
    if verdict.ok and queries.shipped_after(turn.session, row):
        # Else the older source would be the newer generation.
        overtaken = "a later deployment of this module has been shipped already"
        verdict = Verdict(ok=False, code="superseded", reason=overtaken)
    _decide(turn, row, verdict)


def overdue(turn: Turn, deployment: str) -> None:
    """No worker has answered in time."""
    row = queries.deployment(turn.session, deployment)
    if row is not None and row.state == DeploymentState.VERIFYING:
        late = f"no worker has verified the module within {VERIFY_S:g} s"
        _decide(turn, row, Verdict(ok=False, code="verification_timeout", reason=late))


def _decide(turn: Turn, row: DeploymentRow, verdict: Verdict) -> None:
    row.verdict = dump(verdict)
    row.deadline_at = None
    new = DeploymentState.SHIPPED if verdict.ok else DeploymentState.REFUSED
    row.state = advance(DEPLOYMENT, DeploymentState(row.state), new)
    if verdict.ok:
        _ship(turn, row)
    turn.event(row.user_id, row.id, event_of(turn, row))


def _ship(turn: Turn, row: DeploymentRow) -> None:
    deploy = Deploy.model_validate(load(row.request))
    newest = queries.current_module(turn.session, deploy.user_id, deploy.side, deploy.name)
    row.generation = newest.generation + 1 if newest else 1
    module = _module(deploy, row.generation, row.digest)
    turn.session.add(
        ModuleRow(
            user_id=module.user_id,
            side=module.side,
            name=module.name,
            generation=module.generation,
            digest=module.digest,
            environment=module.environment,
            source=module.source.encode(),
            vehicles=dump(deploy.vehicles) if deploy.vehicles else None,
            deployment=row.id,
            shipped_at=turn.now,
        )
    )
    message = ModuleMessage.of(module)
    if module.side is Side.OFFBOARD:
        turn.send(topics.offboard_modules(module.user_id, module.name), message, retain=True)
        for worker in queries.online(turn.session, "workers"):
            _remember(turn, row.id, worker, "pending")
    else:
        fleet = turn.fleet()
        for vehicle in (deploy.vehicles or Select.all()).choose(known(fleet)):
            seen = fleet.get(vehicle)
            state = "unknown" if seen is None else "pending" if seen.online else "offline"
            _remember(turn, row.id, vehicle, state)
            if seen is not None:
                topic = topics.modules(vehicle, module.user_id, module.name)
                turn.send(topic, message, retain=True)
    turn.session.flush()
    assignments.code_changed(turn, module.user_id)


def _remember(turn: Turn, deployment: str, edge: str, state: str, reason: str = "") -> None:
    row = turn.session.get(ModuleStateRow, (deployment, edge))
    if row is None:
        turn.session.add(
            ModuleStateRow(deployment=deployment, edge=edge, state=state, reason=reason)
        )
    else:
        row.state, row.reason = state, reason


def reported(turn: Turn, edge: str, report: ModuleReport) -> None:
    """A vehicle or worker has a module, or refuses it."""
    module = queries.module_generation(
        turn.session, report.user_id, report.side, report.name, report.generation
    )
    if module is None or module.digest != report.digest:
        return
    targeted = turn.session.get(ModuleStateRow, (module.deployment, edge)) is not None
    if not targeted and report.side is Side.ONBOARD:
        return  # it was never sent to this vehicle
    _remember(turn, module.deployment, edge, report.state, report.reason)
    turn.session.flush()
    row = queries.deployment(turn.session, module.deployment)
    if row is not None:
        turn.event(row.user_id, row.id, event_of(turn, row))


def edge_up(turn: Turn, row: EdgeRow) -> None:
    """A vehicle or worker is there (again): send the current modules that it should have.

    The broker keeps these messages too, but it may have been restarted, or the vehicle be new.
    """
    side = Side.ONBOARD if row.role == "vehicles" else Side.OFFBOARD
    for module in queries.current_modules(turn.session, side=side):
        state = turn.session.get(ModuleStateRow, (module.deployment, row.name))
        if side is Side.ONBOARD:
            if not _is_for(module, row, drawn=state is not None):
                continue
            topic = topics.modules(row.name, module.user_id, module.name)
        else:
            topic = topics.offboard_modules(module.user_id, module.name)
        if state is None or state.state not in ("ready", "refused"):
            _remember(turn, module.deployment, row.name, "pending")
        turn.send(topic, ModuleMessage.of(_stored(module)), retain=True)


def _is_for(module: ModuleRow, row: EdgeRow, *, drawn: bool) -> bool:
    select = Select.model_validate(load(module.vehicles)) if module.vehicles else Select.all()
    if select.size is not None:
        return drawn  # a sample is drawn once, when the module is shipped
    return row.name in select.choose(known({row.name: presence(row)}))


def _stored(module: ModuleRow) -> Module:
    return Module(
        user_id=module.user_id,
        name=module.name,
        side=Side(module.side),
        generation=module.generation,
        environment=Environment(module.environment),
        source=module.source.decode(),
        digest=module.digest,
    )


def edge_gone(turn: Turn, role: str, edge: str) -> None:
    """A vehicle or worker is lost: nobody waits for its word on a module."""
    side = Side.ONBOARD if role == "vehicles" else Side.OFFBOARD
    for state in queries.pending_modules(turn.session, edge, side):
        state.state = "offline"
        turn.session.flush()
        row = queries.deployment(turn.session, state.deployment)
        if row is not None:
            turn.event(row.user_id, row.id, event_of(turn, row))


def event_of(turn: Turn, row: DeploymentRow) -> DeploymentEvent:
    """Where a deployment stands."""
    deploy = Deploy.model_validate(load(row.request))
    verdict = Verdict.model_validate(load(row.verdict)) if row.verdict else None
    error = None
    if verdict is not None and not verdict.ok:
        where = f"line {verdict.line}: " if verdict.line else ""
        error = error_reply(
            ModuleRefused(
                f"{deploy.name} was refused: {where}{verdict.reason}",
                reason_code=verdict.code,
                line=verdict.line,
                reason=verdict.reason,
            )
        )
    return DeploymentEvent(
        id=row.id,
        name=deploy.name,
        side=deploy.side,
        state=DeploymentState(row.state),
        digest=row.digest,
        generation=row.generation,
        environment=deploy.environment,
        states={
            s.edge: VehicleModuleState.model_validate({"state": s.state, "reason": s.reason})
            for s in queries.module_states(turn.session, row.id)
        },
        error=error,
        warning=verdict.warning if verdict else "",
    )
