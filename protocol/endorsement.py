"""Who vouches for a module: its analyst for what it is, the cloud for whom it goes to.

What is signed is listed here alone, so that the two who sign and those who check cannot differ.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from protocol.errors import BadSignature, NotSigned
from protocol.identity import Identity
from protocol.outcome import Frozen
from protocol.signing import CLOCKS_DIFFER_S, Signature, Signer, Trust

if TYPE_CHECKING:
    from protocol.limits import LimitsAsked
    from protocol.module import Module, Side

_ANALYST: Final = "module"
_CLOUD: Final = "module for"
#: To whom an off-board module goes: every worker. And a module that is tried, by any of them.
OFFBOARD: Final = "offboard"
#: Environments that every vehicle has: there is no other image for them.
_NAMED: Final = ("minimal", "science")
TRIAL: Final = "trial"


def vehicle(name: str) -> str:
    """To whom a vehicle's modules go; no vehicle has the name of another receiver."""
    return f"vehicle:{name}"


class Endorsement(Frozen):
    """Both signatures of a module, and what of the analyst's request is not in the module.

    ``asked`` is the environment that was asked for: a name, a digest, or the hash of the request.
    """

    deployment: Annotated[str, Field(max_length=64)]
    asked: Annotated[str, Field(max_length=64)]
    analyst: Signature
    cloud: Signature


def _request(
    user_id: str, name: str, side: Side, source: str, limits: LimitsAsked,
    returns: dict[str, Any] | None, deployment: str, asked: str,
) -> dict[str, Any]:  # fmt: skip
    """What an analyst vouches for."""
    return {
        "user_id": user_id,
        "name": name,
        "side": side.value,
        "source": hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest(),
        "environment": asked,
        "limits": limits.model_dump(mode="json"),
        "returns": returns,
        "deployment": deployment,
    }


def _shipping(module: Module, to: str, analyst: Signature) -> dict[str, Any]:
    """What the cloud vouches for: this generation of this code, in this image, goes to this one."""
    return {
        "digest": module.digest,
        "generation": module.generation,
        "environment": module.environment,
        "image": module.image,
        "to": to,
        "analyst": analyst.signature,
    }


def sign(
    signer: Signer, *, name: str, side: Side, source: str, limits: LimitsAsked,
    returns: dict[str, Any] | None, deployment: str, asked: str, at: float,
) -> Signature:  # fmt: skip
    """An analyst's signature of a module; the arguments are those of the request."""
    user = signer.who.name
    statement = _request(user, name, side, source, limits, returns, deployment, asked)
    return signer.sign(_ANALYST, statement, at)


def check_request(
    trust: Trust, signature: Signature | None, *, user_id: str, name: str, side: Side, source: str,
    limits: LimitsAsked, returns: dict[str, Any] | None, deployment: str, asked: str,
) -> None:  # fmt: skip
    """Raises BadSignature if it is not this analyst's of this request, NotSigned if none is."""
    if signature is None:
        raise NotSigned(
            f"the module {name} is not signed: connect with the identity of {user_id} "
            "(OODIDA_IDENTITY, or --identity), whose key signs it"
        )
    statement = _request(user_id, name, side, source, limits, returns, deployment, asked)
    _expect(trust, signature, _ANALYST, statement, Identity("analyst", user_id))


def counter_sign(
    signer: Signer, module: Module, to: str, *, deployment: str, asked: str,
    analyst: Signature, at: float,
) -> Module:  # fmt: skip
    """The module with both signatures, as it goes to one vehicle, `OFFBOARD` or to a `TRIAL`."""
    cloud = signer.sign(_CLOUD, _shipping(module, to, analyst), at)
    both = Endorsement(deployment=deployment, asked=asked, analyst=analyst, cloud=cloud)
    return module.model_copy(update={"endorsement": both})


def check(trust: Trust, module: Module, to: str, now: float | None = None) -> None:
    """Raises BadSignature unless analyst and cloud vouch for this very module, to this receiver.

    ``now``, in seconds since 1970, is for a module that arrives: the cloud's certificate has to be
    valid then, and not revoked whenever it was signed, so that a stolen key signs nothing more.
    What is here already stays vouched for, if it was signed before the certificate was revoked.
    """
    both = module.endorsement
    if both is None:
        raise NotSigned(f"the module {module.name} is not signed, and here only signed ones run")
    check_request(
        trust, both.analyst, user_id=module.user_id, name=module.name, side=module.side,
        source=module.source, limits=module.limits, returns=module.returns,
        deployment=both.deployment, asked=both.asked,
    )  # fmt: skip
    _expect(trust, both.cloud, _CLOUD, _shipping(module, to, both.analyst), "orchestrator")
    if both.asked in _NAMED and (module.environment, module.image) != (both.asked, None):
        raise BadSignature(f"the module {module.name} is for {both.asked}, and not for this image")
    if both.cloud.at < both.analyst.at - CLOCKS_DIFFER_S:
        raise BadSignature(f"the cloud has signed {module.name} before its analyst did")
    if now is not None:
        if both.cloud.at > now + CLOCKS_DIFFER_S:
            raise BadSignature(
                f"the cloud has signed {module.name} {both.cloud.at - now:.0f} s in the future; is "
                "a clock wrong?"
            )
        trust.check_valid(both.cloud, now)
        check_cloud_not_revoked(trust, module)


def check_cloud_not_revoked(trust: Trust, module: Module) -> None:
    """Raises BadSignature if the certificate that the cloud has signed with is revoked by now."""
    if module.endorsement is not None:
        trust.check_not_revoked(module.endorsement.cloud)


def check_analyst_not_revoked(trust: Trust, module: Module) -> None:
    """The same of the analyst's certificate."""
    if module.endorsement is not None:
        trust.check_not_revoked(module.endorsement.analyst)


def _expect(
    trust: Trust, signature: Signature, purpose: str, statement: dict[str, Any], who: Identity | str
) -> None:
    try:
        signer = trust.verify(signature, purpose, statement)
    except BadSignature as problem:
        raise BadSignature(f"the signature of {_called(who)} does not fit: {problem}") from None
    if who not in (signer, signer.role):
        raise BadSignature(f"it is signed by {signer}, and should be by {_called(who)}")


def _called(who: Identity | str) -> str:
    return f"an {who}" if who == "orchestrator" else str(who)
