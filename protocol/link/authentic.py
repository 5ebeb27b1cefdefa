"""Who has sent a message, vouched for by its sender: a broker that makes one up is found out.

The broker lets everybody send on topics of their own alone; but it is the broker who says so. So
where there are certificates, each message goes with its sender's signature, in a user property,
which every broker passes on as it is (MQTT 5, section 3.3.2.3.7). Who may send what is the same
table that the broker is given (`protocol.access`), and is looked up once more by whoever gets it;
so is that it may be received: what was said to somebody else is not for us, whoever brings it.

Left to a broker are to read, keep, delay and repeat. Repeating does little: tasks, reports and
requests are told apart by their ids, modules by generation, presences by session. What is old is
not taken at all, but of the retained channels.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from protocol import access, topics
from protocol.access import Verb
from protocol.errors import BadSignature, NotSigned
from protocol.link.message import Incoming, Outgoing
from protocol.signing import CLOCKS_DIFFER_S, Signature, Signer, Trust

if TYPE_CHECKING:
    from protocol.identity import Identity

_PURPOSE: Final = "message"
#: Where nothing is taken of whose certificate was revoked, whenever it was signed: a stolen key
#: dates back. Of a report that was on its way, and of the last will that a broker says because of
#: it, the time counts; so it does of what is retained. Modules have signatures of their own, and
#: whoever refuses one says so; what was revoked is said by a list that the authority has signed.
_FROM_NOBODY_REVOKED: Final = frozenset({"requests", "orders", "receipts"})
#: How old a message may be, in seconds. A broker keeps orders for a vehicle that is away, and the
#: longest for as long as its session (`persistent_client_expiration` in images/broker/common.conf);
#: requests wait for nobody. Of what is retained the newest is true, however old.
OLDEST_S: Final = {
    "requests": CLOCKS_DIFFER_S,
    "receipts": CLOCKS_DIFFER_S,
    "orders": 7 * 86_400.0,
    "reports": 7 * 86_400.0,
}


def _statement(message: Incoming | Outgoing) -> dict[str, Any]:
    """All that is ours of a message: the broker may change nothing of it."""
    correlation = message.correlation
    return {
        "topic": message.topic,
        "payload": hashlib.sha256(message.payload).hexdigest(),
        "content_type": message.content_type,
        "response_topic": message.response_topic,
        "correlation": None if correlation is None else correlation.hex(),
    }


def signed(signer: Signer, message: Outgoing, at: float) -> Outgoing:
    """The message with its sender's signature, made at a time in seconds since 1970."""
    signature = signer.sign(_PURPOSE, _statement(message), at)
    return message._replace(signature=signature.model_dump_json())


def check(trust: Trust, message: Incoming, receiver: Identity, now: float) -> Identity:
    """Who has sent a message. ``now`` is in seconds since 1970.

    Raises BadSignature if it is of nobody who may send to this topic, is not for its receiver, is
    too old, or is a request, an order or a receipt of whose certificate was revoked since;
    NotSigned if nobody vouches for it.
    """
    if not _may(receiver, "receive", message.topic):
        raise BadSignature(f"a message to {message.topic:.200} is not for {receiver}")
    if message.signature is None:
        raise NotSigned(f"a message to {message.topic:.200} has no signature of its sender")
    try:
        signature = Signature.model_validate_json(message.signature)
    except ValidationError:
        raise BadSignature(f"a message to {message.topic:.200}: its signature is none") from None
    who = trust.verify(signature, _PURPOSE, _statement(message))
    if not _may(who, "send", message.topic):
        raise BadSignature(f"{who} may send nothing to {message.topic:.200}, and has signed it")
    address = topics.parse(message.topic)
    channel = address.channel if address is not None else ""
    if channel in _FROM_NOBODY_REVOKED:
        trust.check_not_revoked(signature)
    _check_age(message.topic, channel, signature.at, now)
    return who


def check_still(trust: Trust, message: Incoming, now: float) -> None:
    """Raises BadSignature unless the certificate of who signed a message is good at this moment.

    For a message that was checked before, and that is true now only if its sender still counts.
    """
    signature = Signature.model_validate_json(message.signature or "")
    trust.check_not_revoked(signature)
    trust.check_valid(signature, now)


@lru_cache(maxsize=20_000)
def _may(who: Identity, verb: Verb, topic: str) -> bool:
    return access.may(who.role, who.name, verb, topic)


def _check_age(topic: str, channel: str, at: float, now: float) -> None:
    oldest_s = OLDEST_S.get(channel, float("inf"))
    if at > now + CLOCKS_DIFFER_S:
        ahead = f"it was signed {at - now:.0f} s in the future"
        raise BadSignature(f"a message to {topic:.200}: {ahead}; is a clock wrong?")
    if at < now - oldest_s:
        raise BadSignature(
            f"a message to {topic:.200} was signed {now - at:.0f} s ago, and {oldest_s:.0f} s are "
            "the most: it was kept back, or a clock is wrong"
        )
