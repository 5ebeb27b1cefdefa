"""A simulated driver: an EPA drive cycle, driven by somebody with habits of his own."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from importlib import resources
from typing import ClassVar, Final, Literal, Self, get_args

from edge_runtime.signals import powertrain
from edge_runtime.signals.replay import Replay

Cycle = Literal["udds", "us06", "hwfet"]
SIGNALS: Final = {
    "VEHICLE_SPEED": "km/h",
    "ACCELERATION": "m/s²",
    "ENGINE_RPM": "1/min",
    "GEAR": "",
    "ENGINE_LOAD": "%",
    "THROTTLE": "%",
    "COOLANT_TEMPERATURE": "°C",
}
#: Samples from one random deviation from his speed to the next; between them it is linear.
_KNOT_SAMPLES: Final = 8
_AMBIENT_C, _WARM_C, _WARMING_S = 20.0, 88.0, 300.0
_MASK: Final = 2**64 - 1


@cache
def cycle_speeds(cycle: Cycle) -> tuple[float, ...]:
    """The speeds of a drive cycle in m/s, one a second, beginning and ending at a standstill."""
    file = resources.files("edge_runtime.signals") / "cycles" / f"{cycle}.csv"
    lines = file.read_text(encoding="ascii").splitlines()[1:]
    return tuple(float(line.split(",")[1]) for line in lines)


class SimulatedDriver(Replay):
    """A driver who follows a drive cycle again and again, one sample a second of the cycle.

    Every sample is a function of its number and of the driver's settings alone, so that a window
    is the same whenever, and however often, it is read.

    - ``gain`` multiplies the cycle's speeds: 1.1 is a tenth faster than the cycle.
    - ``noise`` is by how much of his speed he strays from it at most, for some seconds at a time;
      from 0 to below 1.
    - ``shift_rpm`` is the engine speed at which he shifts up, in 1/min.
    - ``seed`` makes his noise his own.

    The signals agree with each other: the acceleration is the change of the speed since the
    sample before, the engine speed is that of the wheels in the gear.
    """

    def __init__(
        self,
        cycle: Cycle,
        *,
        gain: float = 1.0,
        noise: float = 0.03,
        shift_rpm: float = 2500.0,
        seed: int = 0,
        rate_hz: float | None = None,
    ) -> None:
        super().__init__(SIGNALS, rate_hz)
        if not 0 < gain < math.inf or not 0 <= noise < 1 or not 0 < shift_rpm < math.inf:
            raise ValueError("a driver has gain and shift_rpm above 0, and noise from 0 to below 1")
        self.cycle, self.gain, self.noise = cycle, gain, noise
        self.shift_rpm, self.seed = shift_rpm, seed
        #: The knot that was asked for last: its number, and what is at it and at the next.
        self._knots = 0, self._random(0), self._random(1)

    @classmethod
    def named(cls, vehicle: str, *, rate_hz: float | None = None) -> Self:
        """Return the driver of the vehicle of this name: always the same, and another for each."""
        digest = hashlib.sha256(vehicle.encode()).digest()
        habits = [int.from_bytes(digest[i : i + 4]) / 2**32 for i in (0, 4, 8)]  # each 0 to 1
        cycles: tuple[Cycle, ...] = get_args(Cycle)
        return cls(
            cycles[digest[12] % len(cycles)],
            gain=0.85 + 0.3 * habits[0],
            noise=0.01 + 0.04 * habits[1],
            shift_rpm=2000 + 1000 * habits[2],
            seed=int.from_bytes(digest[16:24]),
            rate_hz=rate_hz,
        )

    def samples(self, signal: str, first: int, count: int) -> array[float]:
        """Return samples first to first + count - 1 of a signal in its unit."""
        function = self._functions[signal]
        return array("d", (function(self, i) for i in range(first, first + count)))

    @cached_property
    def _cycle(self) -> tuple[float, ...]:
        """The cycle's speeds in m/s, which all drivers of this cycle share."""
        return cycle_speeds(self.cycle)

    @cached_property
    def _gears(self) -> bytes:
        """The gears of one cycle: those of every other, since it begins at a standstill.

        Made when a signal needs them: of thousands of drivers in a process, most never do.
        """
        speeds = (self.gain * speed for speed in self._cycle)
        return bytes(powertrain.gears(speeds, self.shift_rpm))

    def _speed(self, i: int) -> float:
        """Speed in m/s."""
        speed = self.gain * self._cycle[i % len(self._cycle)]
        return speed * (1 + self.noise * self._straying(i))

    def _speed_kmh(self, i: int) -> float:
        return 3.6 * self._speed(i)

    def _acceleration(self, i: int) -> float:
        """Change of the speed since the sample before in m/s²; a cycle ends at a standstill."""
        return self._speed(i) - self._speed(i - 1)

    def _gear(self, i: int) -> int:
        return self._gears[i % len(self._gears)]

    def _rpm(self, i: int) -> float:
        return powertrain.engine_rpm(self._speed(i), self._gear(i))

    def _throttle(self, i: int) -> float:
        return powertrain.throttle(self._load(i))

    def _coolant(self, i: int) -> float:
        """It does not depend on the driver."""
        return _WARM_C - (_WARM_C - _AMBIENT_C) * math.exp(-i / _WARMING_S)

    def _load(self, i: int) -> float:
        return powertrain.engine_load(self._speed(i), self._acceleration(i), self._gear(i))

    def _straying(self, i: int) -> float:
        """A smooth random function of the sample's number, from -1 to 1: value noise."""
        knot, step = divmod(i, _KNOT_SAMPLES)
        part = step / _KNOT_SAMPLES
        if self._knots[0] != knot:  # the samples of a window follow each other
            self._knots = knot, self._random(knot), self._random(knot + 1)
        _, left, right = self._knots
        return (1 - part) * left + part * right

    def _random(self, knot: int) -> float:
        """A number from -1 to 1 that depends on the seed and the knot alone.

        The output function of SplitMix64: Steele, Lea and Flood, *Fast Splittable Pseudorandom
        Number Generators* (2014). Python's own generator has to be run from its start.
        """
        z = (self.seed + (knot + 1) * 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return (z ^ (z >> 31)) / 2**63 - 1

    #: Signal -> what gives its sample of a number.
    _functions: ClassVar[Mapping[str, Callable[[SimulatedDriver, int], float]]] = {
        "VEHICLE_SPEED": _speed_kmh,
        "ACCELERATION": _acceleration,
        "ENGINE_RPM": _rpm,
        "GEAR": _gear,
        "ENGINE_LOAD": _load,
        "THROTTLE": _throttle,
        "COOLANT_TEMPERATURE": _coolant,
    }
