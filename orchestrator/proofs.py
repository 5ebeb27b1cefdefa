"""What made the value of an iteration: receipts, values and signed code, sealed for its analyst."""

from __future__ import annotations

from typing import Any, Final

from orchestrator import shipped
from orchestrator.orders import asked_of, spec_of
from orchestrator.store import assignment_queries, deployment_queries, queries
from orchestrator.store.tables import AssignmentRow, IterationRow
from orchestrator.turn import Turn, load
from orchestrator.vouching import Vouching
from protocol.errors import BadRequest, NoProof, ValueRemoved
from protocol.lifecycle import TaskState
from protocol.messages import Entry, Head, ModuleMessage, Prove, Reply
from protocol.module import Side
from protocol.proof import READER, fingerprint_of, sealed
from protocol.result_receipt import ResultReceipt

#: Bytes of entries in one reply, more or less.
PAGE_BYTES: Final = 1024 * 1024


def page(turn: Turn, row: AssignmentRow, request: Prove) -> Reply:
    """A page of a proof. Raises NoProof where nobody signs, ValueRemoved if values are gone."""
    vouching = turn.vouching
    iteration = queries.iteration(turn.session, row.id, request.iteration)
    if iteration is None or not iteration.done:
        raise BadRequest(f"iteration {request.iteration} of the assignment {row.id} is not done")
    if iteration.value is None:
        raise ValueRemoved(
            f"the values of iteration {iteration.number} of {row.id} are older than what this "
            "cloud keeps, and with them what proves them"
        )
    if vouching is None:
        raise NoProof
    entries = _entries(turn, row, iteration)
    head = None if request.after else _head(turn, vouching, row, iteration, entries)
    left = [entry for entry in entries if entry.vehicle > request.after]
    told: list[Entry] = []
    size = 0
    for entry in left:
        size += len(entry.model_dump_json())
        if told and size > PAGE_BYTES:
            break
        told.append(entry)
    return Reply(proof=head, entries=told, more=len(told) < len(left))


def _entries(turn: Turn, row: AssignmentRow, iteration: IterationRow) -> list[Entry]:
    """What was combined, in the order of the vehicles' names."""
    told = load(iteration.participation)
    included = {vehicle for vehicle, p in told.items() if p["status"] == "included"}
    found: dict[str, assignment_queries.Answered] = {}
    for number, late in ((iteration.number - 1, True), (iteration.number, False)):
        for task in assignment_queries.answered(turn.session, row.id, number):
            usable = task.late_at is not None if late else task.state == TaskState.SUCCEEDED
            if usable and task.vehicle in included:
                found[task.vehicle] = task
    return [
        Entry(
            vehicle=vehicle,
            value=load(task.outcome).get("value"),
            receipt=_receipt(task.account),
        )
        for vehicle, task in sorted(found.items())
    ]


def _receipt(account: bytes | None) -> ResultReceipt:
    receipt = load(account).get("receipt") if account is not None else None
    if receipt is None:
        raise NoProof("a result of this iteration has no receipt: it was made without certificates")
    return ResultReceipt.model_validate(receipt)


def _head(
    turn: Turn,
    vouching: Vouching,
    row: AssignmentRow,
    iteration: IterationRow,
    entries: list[Entry],
) -> Head:
    spec = spec_of(row)
    tasks = queries.tasks(turn.session, row.id, iteration.number, Side.OFFBOARD)
    worker = max(tasks, key=lambda task: task.attempt)
    receipt = _receipt(worker.account)
    before = queries.iteration(turn.session, row.id, iteration.number - 1)
    ran = [(Side.ONBOARD, spec.onboard.module, entry.receipt) for entry in entries]
    ran.append((Side.OFFBOARD, spec.offboard.module, receipt))
    asked = asked_of(row)
    if asked is None:
        raise NoProof("its analyst has not signed this assignment: it is from before they did")
    words: dict[str, Any] = {
        "id": row.id,
        "user_id": row.user_id,
        "assignment": spec,
        "mandate": asked.mandate,
        "vehicles": asked.vehicles or spec.vehicles,
        "iteration": iteration.number,
        "participation": load(iteration.participation),
        "modules": _modules(turn, row.user_id, ran),
        "entries": fingerprint_of(entries),
        "worker": worker.edge,
        "receipt": receipt,
        "previous": load(before.value) if before is not None and before.value else None,
        "value": load(iteration.value) if iteration.value else None,
    }
    return sealed(vouching.signer, turn.now, **words)


def _modules(
    turn: Turn, user: str, ran: list[tuple[Side, str | None, ResultReceipt]]
) -> list[ModuleMessage]:
    """Each generation that was run, signed."""
    wanted = {(side, name, r.code.generation) for side, name, r in ran if name is not None}
    found = []
    for side, name, generation in sorted(wanted):
        stored = deployment_queries.module_generation(turn.session, user, side, name, generation)
        if stored is not None:
            found.append(shipped.message(turn, stored, READER))
    return found
