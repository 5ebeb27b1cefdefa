"""What made the value of an iteration; see `protocol.proof`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from protocol.assignment import Assignment, Select
from protocol.mandate import Mandate
from protocol.messages.orders import ModuleMessage
from protocol.module import Digest, Name
from protocol.outcome import Frozen, Tree
from protocol.participation import Participation
from protocol.result_receipt import ResultReceipt
from protocol.signing import Signature


class Entry(Frozen):
    """A value that was combined, of whom it is, and the vehicle's receipt for it."""

    vehicle: Name
    value: Tree = None
    receipt: ResultReceipt


class Head(Frozen):
    """All but the vehicles' values, sealed by an orchestrator.

    ``entries`` is the hash over their fingerprints, in their order. ``previous`` is the value of
    the iteration before, which the code was given. ``mandate`` is the analyst's word for the
    assignment; ``vehicles`` are those that he asked for, of which the assignment's are the ones
    that he may use.
    """

    form: Literal["oodida/v1"] = "oodida/v1"
    id: Name
    user_id: Name
    assignment: Assignment
    mandate: Mandate
    vehicles: Select
    iteration: Annotated[int, Field(ge=1)]
    participation: dict[str, Participation]
    modules: tuple[ModuleMessage, ...] = ()
    entries: Digest
    worker: Name
    receipt: ResultReceipt
    previous: Tree = None
    value: Tree = None
    seal: Signature
