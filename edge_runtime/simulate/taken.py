"""Whether a plan's vehicles may have their names: nobody else has, or their certificates say so."""

from __future__ import annotations

import asyncio
from typing import Final

from edge_runtime.simulate.plan import Plan
from protocol import messages, topics
from protocol.errors import BadIdentity, BadRequest, LinkError, NameInUse
from protocol.link import WIDE, Link, Outgoing
from protocol.link.address import parse_url
from protocol.link.option import identified
from protocol.messages import PRESENCE, new_id

#: How many an error names.
TOLD: Final = 3
#: How long the broker may take to tell all that it has kept, in seconds.
PATIENCE_S: Final = 60.0


async def refuse_taken(plan: Plan) -> None:
    """Raise NameInUse if vehicles of a plan are online, LinkError if there is no broker.

    Raises BadIdentity if the broker asks for certificates and not every vehicle has one. Where each
    has, it is not asked who is online: a vehicle is not told of others.
    """
    if plan.identities is not None or parse_url(plan.url).tls:
        _require_identities(plan)
        return
    names = {plan.name(number) for number in plan.numbers}
    try:
        async with asyncio.timeout(PATIENCE_S):
            found = sorted(names & await _online(plan.url))
    except TimeoutError:
        raise LinkError(
            f"the broker at {plan.url} did not tell in {PATIENCE_S:g} s which vehicles are online"
        ) from None
    if found:
        some = ", ".join(found[:TOLD]) + (", ..." if len(found) > TOLD else "")
        raise NameInUse(
            f"{len(found)} of these vehicles are online already: {some}. Does another simulation "
            "run there? End it, or give these other names with --prefix. (After one that was "
            "killed, the broker needs a moment to see that they are gone.)"
        )


def _require_identities(plan: Plan) -> None:
    last = plan.numbers[-1]
    make = (
        f"`oodida enroll vehicle {plan.prefix} --count {last} --pki FOLDER` makes them, with the "
        "folder of the broker's authority (that of `make up` is compose/run/pki)"
    )
    if plan.identities is None:
        raise BadIdentity(
            f"{plan.url} asks each vehicle for a certificate: {make}, and --identities says where "
            "they are: FOLDER/identities/vehicle. Or give --url of a broker on this machine "
            "without, as `oodida up` starts one"
        )
    without = [
        plan.name(number)
        for number in plan.numbers
        if not (plan.identities / plan.name(number) / "cert.pem").is_file()
    ]
    if without:
        raise BadIdentity(
            f"{len(without)} of {plan.count} vehicles have no certificate in {plan.identities}, "
            f"such as {without[0]}: {make}"
        )
    identified(plan.url, plan.identity(last), "vehicle", plan.name(last))


async def _online(url: str) -> set[str]:
    """The vehicles whose presence, as the broker has kept it, says that they are online."""
    id_ = new_id()
    # What is kept comes first, then what is published after the subscription: our own mark.
    mark = topics.replies("simulate", id_)
    filters = [topics.all_of("vehicles", "presence"), mark]
    found: set[str] = set()
    async with Link(url, f"simulate-{id_}", subscriptions=filters, receive_window=WIDE) as link:
        await link.publish(Outgoing(mark, b"{}", ""))
        while (message := await link.receive()).topic != mark:
            message.acknowledge()
            address = topics.parse(message.topic)
            if address is None or not message.payload:
                continue
            try:
                told = messages.decode(PRESENCE, message.payload, message.content_type)
            except BadRequest:
                continue  # whatever it is, it is no vehicle of ours
            (found.add if told.online else found.discard)(address.name)
    return found
