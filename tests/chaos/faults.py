"""What can go wrong, one function each: it begins, and later it is mended."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from tests.chaos.network import FAIR, Weather
from tests.chaos.schedule import EVERYBODY, Fault, FaultKind
from tests.chaos.world import ANALYST, World

#: Begins a fault; False where there was nothing to be broken, such as a part that is dead already.
Begin = Callable[[World, str, random.Random], bool]
Mend = Callable[[World, str], None]


def _kill(world: World, part: str, _draw: random.Random) -> bool:
    return world.parts[part].kill()


def _start(world: World, part: str) -> None:
    world.parts[part].start()


def _kill_broker(world: World, _part: str, _draw: random.Random) -> bool:
    return world.broker.kill()


def _start_broker(world: World, _part: str) -> None:
    world.broker.start()


def _kill_containers(world: World, part: str, draw: random.Random) -> bool:
    return world.kill_containers(part, draw) > 0


def _freeze(world: World, part: str, _draw: random.Random) -> bool:
    return world.parts[part].freeze()


def _thaw(world: World, part: str) -> None:
    world.parts[part].thaw()


def _fill(world: World, part: str, _draw: random.Random) -> bool:
    disk = world.disks.get(part)
    if disk is not None:
        disk.fill()
    return disk is not None


def _free(world: World, part: str) -> None:
    if part in world.disks:
        world.disks[part].free()


def _half_cut(world: World, part: str, _draw: random.Random) -> bool:
    world.network.half_cut(part)
    return True


def _lanes(world: World, part: str) -> tuple[str, ...]:
    return (*world.parts, ANALYST) if part == EVERYBODY else (part,)


def _weather(make: Callable[[random.Random], Weather]) -> Begin:
    def begin(world: World, part: str, draw: random.Random) -> bool:
        weather = make(draw)
        for lane in _lanes(world, part):
            world.network.set(lane, weather)
        return True

    return begin


def _clear(world: World, part: str) -> None:
    for lane in _lanes(world, part):
        world.network.set(lane, FAIR)


def _kill_everything(world: World, _part: str, _draw: random.Random) -> bool:
    world.broker.kill()
    for part in world.parts.values():
        part.kill()
    if world.database is not None:
        world.database.kill()
    return True


def _start_everything(world: World, _part: str) -> None:
    if world.database is not None:
        world.database.start()
    world.broker.start()
    for part in world.parts.values():
        part.start()


def _nothing(_world: World, _part: str) -> None:
    pass


_FAULTS: Final[dict[FaultKind, tuple[Begin, Mend]]] = {
    "kill_broker": (_kill_broker, _start_broker),
    "kill_orchestrator": (_kill, _start),
    "kill_worker": (_kill, _start),
    "kill_vehicle": (_kill, _start),
    "kill_containers": (_kill_containers, _nothing),
    "freeze": (_freeze, _thaw),
    "cut": (_weather(lambda _: Weather(up=False)), _clear),
    "half_cut": (_half_cut, _nothing),
    "silence": (_weather(lambda _: Weather(silent=True)), _clear),
    "slow": (
        _weather(
            lambda draw: Weather(
                latency_s=draw.uniform(0.05, 0.6), bytes_s=draw.choice((None, 2_000.0, 20_000.0))
            )
        ),
        _clear,
    ),
    "double": (
        _weather(
            lambda draw: Weather(doubled=draw.choice((0.3, 1.0)), spread_s=draw.uniform(0, 4))
        ),
        _clear,
    ),
    "delay": (
        _weather(
            lambda draw: Weather(delayed=draw.choice((0.3, 0.7)), spread_s=draw.uniform(0, 4))
        ),
        _clear,
    ),
    "fill_disk": (_fill, _free),
    "restart_everything": (_kill_everything, _start_everything),
}


def begin(world: World, fault: Fault, draw: random.Random) -> bool:
    """Let it go wrong; False where there was nothing to be broken."""
    return _FAULTS[fault.kind][0](world, fault.part, draw)


def mend(world: World, fault: Fault) -> None:
    """Mend it; no harm where it is mended already, or was never broken."""
    _FAULTS[fault.kind][1](world, fault.part)
