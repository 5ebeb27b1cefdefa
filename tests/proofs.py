"""An authority, whom it knows, and a proof that all of them have signed their part of."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from oodida.pki import Pki
from orchestrator.vouching import Vouching
from protocol import identity, mandate
from protocol.assignment import Assignment, Offboard, Onboard
from protocol.limits import Limits, LimitsAsked
from protocol.messages import Deploy, Entry, Head, ModuleMessage
from protocol.module import Module, Side, digest_of
from protocol.outcome import Kind
from protocol.participation import Participation
from protocol.proof import READER, Proof, fingerprint_of, sealed
from protocol.result_receipt import CodeRun, ResultReceipt, WindowRead, of_inputs, signed
from protocol.signing import Signer, Trust, fingerprint

SOURCE: Final = "def custom_code(window):\n    return sum(window)\n"
DIGEST: Final = digest_of(SOURCE, "minimal")
SPEC: Final = Assignment(
    onboard=Onboard("custom", module="total", signals="SPEED", samples=10, params={}),
    offboard=Offboard("mean"),
    iterations=3,
)
#: The module's are lower than those of its profile.
ASKED: Final = LimitsAsked(lower={"memory_mb": 64})
LIMITS: Final = Limits(memory_mb=64)
VALUES: Final = {"car-1": 1.5, "car-2": {"~a": ["<f8", [2], b"\0" * 16]}, "car-3": "\N{SNOWMAN}"}
NAMES: Final = ("analyst:ada", "worker:w-1", "orchestrator:o-1", *(f"vehicle:{v}" for v in VALUES))


class World(NamedTuple):
    """Who signs, and since when they may, in seconds since 1970."""

    pki: Pki
    signers: dict[str, Signer]
    vouching: Vouching
    at: float

    @classmethod
    def make(cls, folder: Path, now: dt.datetime, days: float = 30) -> Self:
        """A new authority in a folder, and all the names enrolled."""
        pki = Pki.init(folder, ["localhost"], now)
        for name in NAMES:
            pki.enroll(identity.parse(name), now, days)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """One that was made before."""
        pki = Pki(folder)
        folders = {name: folder / "identities" / name.replace(":", "/") for name in NAMES}
        signers = {name: Signer(folder) for name, folder in folders.items()}
        vouching = Vouching.load(folders["orchestrator:o-1"])
        return cls(pki, signers, vouching, pki.issued()[0].at.timestamp())

    @property
    def trust(self) -> Trust:
        """The authority, as who checks knows it."""
        return self.vouching.trust


def receipt(world: World, who: str, value: Any, **changes: Any) -> ResultReceipt:
    """What a vehicle or the worker signs of its result."""
    vehicle = who.startswith("vehicle:")
    builtin = CodeRun(method="mean", user_id="ada", digest="b" * 64)
    custom = CodeRun(
        method="custom", user_id="ada", module="total", digest=DIGEST, generation=2,
        environment="minimal", image="sha256:" + "1" * 64, limits=LIMITS,
    )  # fmt: skip
    at = world.at
    window = WindowRead(signals=("SPEED",), first=10, count=10, began=at, ended=at + 1)
    words = {
        "assignment": "a-1", "iteration": 2, "task": f"t-{who[-1]}", "attempt": 1,
        "code": custom if vehicle else builtin, "params": fingerprint({}),
        "previous": fingerprint(0.5), "window": window if vehicle else None,
        "inputs": None if vehicle else of_inputs(VALUES.values()), "outcome": Kind.VALUE,
        "value": fingerprint(value), "seconds": 0.1, "cpu_s": 0.01, "container_starts": 1,
    }  # fmt: skip
    return signed(world.signers[who], at, **{**words, **changes})


def older(world: World) -> ModuleMessage:
    """The generation before, which is signed as well."""
    source = SOURCE.replace("sum", "max")
    return module(world, source, signed_source=source, generation=1)


def module(
    world: World,
    source: str = SOURCE,
    to: str = READER,
    *,
    signed_source: str = SOURCE,
    generation: int = 2,
) -> ModuleMessage:
    """The analyst's module; with another source it is not what she has signed."""
    deploy = Deploy(
        user_id="ada", mode="deploy_onboard", id="d-1", name="total", custom_code=signed_source,
        limits=ASKED,
    ).signed(world.signers["analyst:ada"], world.at)  # fmt: skip
    assert deploy.signature is not None
    made = Module(
        user_id="ada", name="total", side=Side.ONBOARD, generation=generation,
        environment="minimal", source=source, digest=digest_of(source, "minimal"), limits=ASKED,
    )  # fmt: skip
    both = world.vouching.endorsed(
        made, to, deployment="d-1", asked="minimal", analyst=deploy.signature, now=world.at
    )
    return ModuleMessage.of(both)


def entries(world: World) -> list[Entry]:
    """Every vehicle's value with its receipt."""
    return [
        Entry(vehicle=vehicle, value=value, receipt=receipt(world, f"vehicle:{vehicle}", value))
        for vehicle, value in VALUES.items()
    ]


def asked(world: World, spec: Assignment = SPEC, *, by: str = "analyst:ada") -> dict[str, Any]:
    """An assignment that somebody vouches for, as a proof has it."""
    word = mandate.sign(world.signers[by], "a-1", spec, world.at)
    return {"assignment": spec, "mandate": word, "vehicles": spec.vehicles}


def made(world: World, listed: list[Entry] | None = None, **changes: Any) -> Proof:
    """A proof that the cloud has sealed, whatever is in it."""
    listed = entries(world) if listed is None else listed
    told = {v: Participation(status="included") for v in VALUES}
    told["car-9"] = Participation(status="offline", reason="it was not there")
    words = {
        "id": "a-1", "user_id": "ada", **asked(world), "iteration": 2, "participation": told,
        "modules": (module(world),), "entries": fingerprint_of(listed), "worker": "w-1",
        "receipt": receipt(world, "worker:w-1", 4.5), "previous": 0.5, "value": 4.5,
    }  # fmt: skip
    head: Head = sealed(world.signers["orchestrator:o-1"], world.at, **{**words, **changes})
    return Proof(head=head, entries=tuple(listed))
