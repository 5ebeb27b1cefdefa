"""Names of a plan that somebody else has at the broker already: two would fight for each."""

from __future__ import annotations

import asyncio
from typing import Final

from edge_runtime.simulate.plan import Plan
from protocol import messages, topics
from protocol.errors import BadIdentity, BadRequest, LinkError, NameInUse
from protocol.link import WIDE, Link, Outgoing
from protocol.link.address import parse_url
from protocol.messages import PRESENCE, new_id

#: How many an error names.
TOLD: Final = 3
#: How long the broker may take to tell all that it has kept, in seconds.
PATIENCE_S: Final = 60.0


async def refuse_taken(plan: Plan) -> None:
    """Raise NameInUse if vehicles of a plan are online, LinkError if there is no broker.

    Raises BadIdentity for a broker with TLS: simulated vehicles have no certificates.
    """
    if parse_url(plan.url).tls:
        raise BadIdentity(
            f"{plan.url} asks each vehicle for a certificate, and simulated ones have none: give "
            "--url of a broker on this machine without, as `oodida up` starts one"
        )
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
