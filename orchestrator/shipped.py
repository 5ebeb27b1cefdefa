"""Modules that are verified: told to whom they are for, and who has them."""

from __future__ import annotations

from typing import Any

from orchestrator import assignments, audit, events, seen
from orchestrator.guard import guarded
from orchestrator.seen import Seen
from orchestrator.store import deployment_queries, queries
from orchestrator.store.tables import DeploymentRow, EdgeRow, ModuleRow, ModuleStateRow
from orchestrator.turn import Turn, dump, load
from protocol import endorsement, topics
from protocol.assignment import Select
from protocol.endorsement import OFFBOARD
from protocol.messages import NO_SANDBOX, Deploy, ModuleMessage, ModuleReport
from protocol.module import Module, Side
from protocol.signing import Signature


def ship(turn: Turn, row: DeploymentRow, module: Module, deploy: Deploy) -> None:
    """Make a module the current one, and send it to those that it is for."""
    vehicles, signature = deploy.vehicles, deploy.signature
    asked = {
        "limits": module.limits.model_dump(mode="json"),
        "returns": module.returns,
        "image": module.image,
        "asked": deploy.asked,
        "signature": signature.model_dump(mode="json") if signature else None,
    }
    stored = ModuleRow(
        user_id=module.user_id,
        side=module.side,
        name=module.name,
        generation=module.generation,
        digest=module.digest,
        environment=module.environment,
        source=module.source.encode(),
        vehicles=dump(vehicles) if vehicles else None,
        deployment=row.id,
        shipped_at=turn.now,
        asked=dump(asked),
    )
    turn.session.add(stored)
    turn.module_added()
    if module.side is Side.OFFBOARD:
        topic = topics.offboard_modules(module.user_id, module.name)
        turn.send(topic, message(turn, stored, OFFBOARD), retain=True)
        for worker in queries.online(turn.session, "workers"):
            _remember(turn, row.id, worker, "pending")
    else:
        fleet = seen.fleet(turn.session)
        for vehicle in (vehicles or Select.all()).choose(fleet):
            one = fleet.get(vehicle)
            state = "unknown" if one is None else "pending" if one.online else "offline"
            if one is not None and one.online and not one.sandbox:
                _remember(turn, row.id, vehicle, "refused", NO_SANDBOX)
                continue
            _remember(turn, row.id, vehicle, state)
            if one is not None and one.sandbox:
                topic = topics.modules(vehicle, module.user_id, module.name)
                turn.send(topic, message(turn, stored, endorsement.vehicle(vehicle)), retain=True)
    turn.session.flush()
    for id_ in sorted(row.id for row in queries.collecting(turn.session, user=module.user_id)):
        guarded(turn, id_, assignments.code_changed)


def _remember(turn: Turn, deployment: str, edge: str, state: str, reason: str = "") -> None:
    row = turn.session.get(ModuleStateRow, (deployment, edge))
    if row is None:
        turn.session.add(
            ModuleStateRow(deployment=deployment, edge=edge, state=state, reason=reason)
        )
    else:
        row.state, row.reason = state, reason


def reported(turn: Turn, edge: str, report: ModuleReport) -> None:
    """A vehicle or worker has a module, refuses it, or says how far it is with it."""
    module = deployment_queries.module_generation(
        turn.session, report.user_id, report.side, report.name, report.generation
    )
    if module is None or module.digest != report.digest:
        if report.state == "refused":  # it is not of ours: somebody speaks in our place
            audit.module_refused(turn, edge, report)
        return
    state = turn.session.get(ModuleStateRow, (module.deployment, edge))
    if state is None and report.side is Side.ONBOARD:
        return  # it was never sent to this vehicle
    if report.state == "pending" and state is not None and state.state in ("ready", "refused"):
        return  # it was said before that, and comes late
    if report.state == "refused" and (state is None or state.state != "refused"):
        audit.module_refused(turn, edge, report)
    _remember(turn, module.deployment, edge, report.state, report.reason.replace("\0", ""))
    turn.session.flush()
    turn.deployments.add(module.deployment)


def tell(turn: Turn) -> None:
    """Tell how far deployments are of which vehicles or workers spoke in this turn.

    What is told is whole: the word of each of many vehicles would be told again with each one's.
    """
    turn.session.flush()
    for id_ in sorted(turn.deployments):
        row = deployment_queries.deployment(turn.session, id_)
        if row is not None:
            turn.event(row.user_id, row.id, events.of_deployment(turn, row))


def edge_up(turn: Turn, row: EdgeRow) -> None:
    """A vehicle or worker is there (again): send the current modules that it should have.

    The broker keeps these messages too, but it may have been restarted, or the vehicle be new.
    """
    side = Side.ONBOARD if row.role == "vehicles" else Side.OFFBOARD
    if not Seen(row.name, row.presence, online=row.online).sandbox:
        return  # it would refuse each of them
    for module in turn.current_modules(side):
        state = turn.session.get(ModuleStateRow, (module.deployment, row.name))
        if side is Side.ONBOARD:
            if not _is_for(module, row, drawn=state is not None):
                continue
            to, topic = (
                endorsement.vehicle(row.name),
                topics.modules(row.name, module.user_id, module.name),
            )
        else:
            to, topic = OFFBOARD, topics.offboard_modules(module.user_id, module.name)
        if state is None or state.state not in ("ready", "refused"):
            _remember(turn, module.deployment, row.name, "pending")
        turn.send(topic, message(turn, module, to), retain=True)


def _is_for(module: ModuleRow, row: EdgeRow, *, drawn: bool) -> bool:
    select = Select.model_validate(load(module.vehicles)) if module.vehicles else Select.all()
    if select.size is not None:
        return drawn  # a sample is drawn once, when the module is shipped
    return row.name in select.choose({row.name: Seen(row.name, row.presence, online=row.online)})


def message(turn: Turn, row: ModuleRow, to: str) -> ModuleMessage:
    """A module as it goes to a vehicle, or to all workers: signed where there are certificates.

    ``to`` is who may use it.
    """
    asked = load(row.asked) if row.asked else {}
    wanted, signature = asked.pop("asked", None), asked.pop("signature", None)
    module = _stored(row, asked)
    if turn.vouching is not None and signature is not None:
        module = turn.vouching.endorsed(
            module, to, deployment=row.deployment, asked=wanted,
            analyst=Signature.model_validate(signature), now=turn.now,
        )  # fmt: skip
    return ModuleMessage.of(module)


def _stored(row: ModuleRow, asked: dict[str, Any]) -> Module:
    return Module.model_validate(
        {
            "user_id": row.user_id,
            "name": row.name,
            "side": Side(row.side),
            "generation": row.generation,
            "environment": row.environment,
            "source": row.source.decode(),
            "digest": row.digest,
            **asked,
        }
    )


def edge_gone(turn: Turn, role: str, edge: str) -> None:
    """A vehicle or worker is lost: nobody waits for its word on a module."""
    side = Side.ONBOARD if role == "vehicles" else Side.OFFBOARD
    for state in deployment_queries.pending_modules(turn.session, edge, side):
        state.state, state.reason = "offline", ""
        turn.deployments.add(state.deployment)
    turn.session.flush()
