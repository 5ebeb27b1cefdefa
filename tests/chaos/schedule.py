"""What is asked and what goes wrong: a function of the seed alone. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

AskKind = Literal[
    "built_in", "sample", "custom", "session", "newest", "pinned", "cancelled", "late", "quorum"
]
FaultKind = Literal[
    "kill_broker",
    "kill_orchestrator",
    "kill_worker",
    "kill_vehicle",
    "kill_containers",
    "freeze",
    "cut",
    "half_cut",
    "silence",
    "slow",
    "double",
    "delay",
    "fill_disk",
    "restart_everything",
]
#: How likely each is beside the others.
WEIGHTS: Final[dict[FaultKind, int]] = {
    "kill_broker": 2,
    "kill_orchestrator": 4,
    "kill_worker": 4,
    "kill_vehicle": 8,
    "kill_containers": 3,
    "freeze": 3,
    "cut": 4,
    "half_cut": 3,
    "silence": 3,
    "slow": 3,
    "double": 5,
    "delay": 4,
    "fill_disk": 2,
    "restart_everything": 1,
}
#: What happens to the network, and not to a part itself.
WEATHER: Final = ("cut", "half_cut", "silence", "slow", "double", "delay")
#: All parts, analysts too.
EVERYBODY: Final = "everybody"
#: Samples of a window, and how many come a second: a window is long enough to be interrupted.
SAMPLES: Final = 24
RATE_HZ: Final = 20.0


@dataclass(frozen=True)
class Size:
    """How large the system is, and how much happens to it in so many seconds."""

    vehicles: int = 20
    sandboxed: int = 5
    orchestrators: int = 2
    workers: int = 2
    asks: int = 8
    faults: int = 24
    replacements: int = 4
    seconds: float = 30.0

    @property
    def vehicle_names(self) -> tuple[str, ...]:
        """Every vehicle; the first ones have a sandbox."""
        return tuple(f"car-{n:02}" for n in range(1, self.vehicles + 1))

    @property
    def sandboxed_names(self) -> tuple[str, ...]:
        """The vehicles that run modules."""
        return self.vehicle_names[: self.sandboxed]

    @property
    def orchestrator_names(self) -> tuple[str, ...]:
        """Every orchestrator."""
        return tuple(f"orchestrator-{n}" for n in range(1, self.orchestrators + 1))

    @property
    def worker_names(self) -> tuple[str, ...]:
        """Every worker."""
        return tuple(f"worker-{n}" for n in range(1, self.workers + 1))


FULL: Final = Size()
SHORT: Final = Size(
    orchestrators=1,
    vehicles=6, sandboxed=2, asks=4, faults=9, replacements=1, seconds=15.0
)  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """An assignment that is submitted ``at_s`` seconds after the start."""

    at_s: float
    kind: AskKind
    iterations: int
    deadline_s: float
    seed: int

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s  ask {self.kind}, {self.iterations} iterations"


@dataclass(frozen=True)
class Replacement:
    """The on-board module is replaced by one that says ``tag``, or that crashes on the vehicles."""

    at_s: float
    tag: int
    crashes: bool = False

    def __str__(self) -> str:
        what = "crashes" if self.crashes else f"says {self.tag}"
        return f"{self.at_s:6.2f} s  deploy the module that {what}"


@dataclass(frozen=True)
class Fault:
    """Something goes wrong with one part at ``at_s``, and is mended ``for_s`` seconds later."""

    at_s: float
    kind: FaultKind
    part: str
    for_s: float

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s  {self.kind} {self.part}, for {self.for_s:.2f} s"


@dataclass(frozen=True)
class Schedule:
    """A seed, and what follows from it."""

    seed: int
    size: Size
    asks: tuple[Ask, ...]
    replacements: tuple[Replacement, ...]
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int, size: Size = FULL) -> Schedule:
        """Draw what happens; the same seed draws the same for the same size."""
        draw = random.Random(seed)  # noqa: S311
        return cls(
            seed,
            size,
            _asks(draw, size),
            _replacements(draw, size),
            tuple(sorted(_faults(draw, size), key=lambda fault: fault.at_s)),
        )

    @property
    def small_disks(self) -> frozenset[str]:
        """The parts whose disk will be full, and has to be one that can be filled."""
        return frozenset(fault.part for fault in self.faults if fault.kind == "fill_disk")

    def __str__(self) -> str:
        steps: list[Ask | Replacement | Fault] = [*self.asks, *self.replacements, *self.faults]
        return "\n".join(map(str, sorted(steps, key=lambda step: step.at_s)))


def _asks(draw: random.Random, size: Size) -> tuple[Ask, ...]:
    # Each kind once before any comes again, so that no seed is without modules.
    kinds: list[AskKind] = []
    while len(kinds) < size.asks:
        kinds += draw.sample(get_args(AskKind), len(get_args(AskKind)))
    asks = [
        Ask(
            at_s=draw.uniform(0, 0.85) * size.seconds,
            kind=kind,
            iterations=draw.randint(2, 6),
            # Of a window of a second, some come too late on purpose.
            deadline_s=draw.choice((2.0, 3.0) if kind == "late" else (6.0, 10.0, 15.0)),
            seed=draw.randrange(1000),
        )
        for kind in kinds[: size.asks]
    ]
    return tuple(sorted(asks, key=lambda ask: ask.at_s))


def _replacements(draw: random.Random, size: Size) -> tuple[Replacement, ...]:
    times = sorted(draw.uniform(0.1, 0.8) * size.seconds for _ in range(size.replacements))
    made = [Replacement(at_s, tag, draw.random() < 0.3) for tag, at_s in enumerate(times, 2)]
    # The last one is a repair: whatever has halted can go on.
    return (*made[:-1], *(replace(last, crashes=False) for last in made[-1:]))


def _faults(draw: random.Random, size: Size) -> list[Fault]:
    kinds = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=size.faults)
    faults = [_fault(draw, size, kind) for kind in kinds if kind != "restart_everything"]
    if "restart_everything" in kinds:  # once is enough for a seed
        faults.append(_fault(draw, size, "restart_everything"))
    return faults


def _fault(draw: random.Random, size: Size, kind: FaultKind) -> Fault:
    cloud = (*size.orchestrator_names, *size.worker_names)
    parts = {
        "kill_orchestrator": size.orchestrator_names,
        "kill_worker": size.worker_names,
        "kill_containers": (*size.sandboxed_names, *size.worker_names),
        "fill_disk": size.sandboxed_names,
        "kill_broker": ("broker",),
        "restart_everything": (EVERYBODY,),
        **dict.fromkeys(("freeze", *WEATHER), (*size.vehicle_names, *cloud)),
    }.get(kind, size.vehicle_names)
    part = draw.choice(parts)
    if kind in ("slow", "double", "delay") and draw.random() < 0.5:
        part = EVERYBODY
    # Half of the time it is short: a reboot in the middle of a window is worse than a long absence.
    shortest = 1.0 if kind in WEATHER else 0.2  # in between, nothing may be on its way
    for_s = draw.uniform(shortest, draw.choice((1.5, 8.0)))
    return Fault(draw.uniform(0.05, 1.0) * size.seconds, kind, part, for_s)
