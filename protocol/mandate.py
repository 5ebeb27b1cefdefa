"""What an analyst asks for, vouched for: whoever works on it sees that he asked for it.

    assignment ─┬─ on-board part and budget ──hash──┐
                ├─ off-board part ────────────hash──┤
                ├─ vehicles ──────────────────hash──┼─ signed with the assignment's id
                ├─ how many iterations ─────────────┤
                └─ all else ──────────────────hash──┘

It goes along with each order. A vehicle knows its own part from the order and needs of the others
the hashes alone: so an order is no longer for it, however many vehicles an assignment names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from protocol.assignment import MAX_ITERATIONS, Assignment, Offboard, Onboard, first_sample
from protocol.errors import BadSignature, NotSigned
from protocol.identity import Identity
from protocol.module import Digest
from protocol.outcome import Frozen
from protocol.signing import Signature, Signer, Trust, fingerprint

if TYPE_CHECKING:
    from protocol.messages.orders import OffboardOrder, OnboardOrder

_PURPOSE: Final = "assignment"
#: What an order tells of its side's part, by the names that the assignment has for it.
_ONBOARD: Final = {*Onboard.model_fields, "budget"}
_OFFBOARD: Final = set(Offboard.model_fields)
_APART: Final = {"onboard", "offboard", "vehicles", "iterations", "budget"}
_REST: Final = set(Assignment.model_fields) - _APART


class Parts(Frozen):
    """An assignment by its parts: of each the hash (`protocol.signing.fingerprint`)."""

    onboard: Digest
    offboard: Digest
    vehicles: Digest
    rest: Digest
    iterations: Annotated[int, Field(ge=1, le=MAX_ITERATIONS)]


class Mandate(Frozen):
    """An analyst's word that an assignment is his."""

    parts: Parts
    signature: Signature


def sign(signer: Signer, id_: str, asked: Assignment, at: float) -> Mandate:
    """An analyst's word for an assignment, given at a time in seconds since 1970."""
    parts = _parts(asked)
    statement = _statement(parts, id_, signer.who.name)
    return Mandate(parts=parts, signature=signer.sign(_PURPOSE, statement, at))


def check(
    trust: Trust, mandate: Mandate | None, id_: str, user_id: str, asked: Assignment
) -> Mandate:
    """The mandate, if this analyst vouches for this assignment.

    It is as good as its signature was when it was made: see `Trust.verify`. Raises BadSignature if
    it does not fit, NotSigned if there is none.
    """
    found = _vouched(trust, mandate, id_, user_id)
    if found.parts != _parts(asked):
        raise BadSignature(f"the assignment {id_} is not what {user_id} has signed")
    return found


def check_order(trust: Trust, order: OnboardOrder | OffboardOrder) -> None:
    """Raises BadSignature unless its analyst vouches for what an order is a part of.

    And while his certificate is not taken back, whenever he did: a stolen key can date it back, and
    who is out of the fleet has nothing done there. NotSigned if nobody vouches for it.
    """
    found = _vouched(trust, order.mandate, order.assignment, order.user_id)
    trust.check_not_revoked(found.signature)
    onboard = order.kind == "onboard"
    names = _ONBOARD if onboard else _OFFBOARD
    part = _hash(order.model_dump(include=names), names)
    signed = found.parts.onboard if onboard else found.parts.offboard
    window = order.kind == "offboard" or order.first == first_sample(order.iteration, order.samples)
    if part != signed or not window or order.iteration > found.parts.iterations:
        raise BadSignature(
            f"the order of iteration {order.iteration} of {order.assignment} is not what "
            f"{order.user_id} has signed"
        )


def _parts(asked: Assignment) -> Parts:
    told = asked.model_dump()
    return Parts(
        onboard=_hash({**told["onboard"], "budget": told["budget"]}, _ONBOARD),
        offboard=_hash(told["offboard"], _OFFBOARD),
        vehicles=_hash(told["vehicles"], set(told["vehicles"])),
        rest=_hash(told, _REST),
        iterations=asked.iterations,
    )


def _hash(told: Mapping[str, Any], names: Collection[str]) -> str:
    """The hash over some fields, whatever their order."""
    return fingerprint({name: told[name] for name in sorted(names)})


def _statement(parts: Parts, id_: str, user_id: str) -> dict[str, Any]:
    return {**parts.model_dump(mode="json"), "assignment": id_, "user_id": user_id}


def _vouched(trust: Trust, mandate: Mandate | None, id_: str, user_id: str) -> Mandate:
    """The mandate, if it is this analyst's of the assignment with this id."""
    if mandate is None:
        raise NotSigned(
            f"the assignment {id_} is not signed: connect with the identity of {user_id} "
            "(OODIDA_IDENTITY, or --identity), whose key signs it"
        )
    statement = _statement(mandate.parts, id_, user_id)
    who = trust.verify(mandate.signature, _PURPOSE, statement)
    if who != Identity("analyst", user_id):
        raise BadSignature(f"the assignment {id_} of {user_id} is signed by {who}")
    return mandate
