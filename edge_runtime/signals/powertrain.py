"""A small car: which gear, engine speed and load go with a speed and an acceleration.

Gear ratios, final drive and tyre are those of a hatchback with a 1.5 l engine and five gears. They
give 48 revolutions per minute for each km/h in third gear and 36 in fourth, which is what OBD-II
recordings of such a car show. The other constants were chosen to lie in the range of those
recordings; this is a plausible vehicle, not a model of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

RATIOS: Final = (3.545, 1.904, 1.310, 0.969, 0.815)
FINAL_DRIVE: Final = 4.058
TYRE_RADIUS_M: Final = 0.295
IDLE_RPM: Final = 800.0
_MASS_KG: Final = 1100.0
_MAX_TORQUE_NM: Final = 130.0
_EFFICIENCY: Final = 0.9
_ROLLING: Final = 0.012
_DRAG_KG_PER_M: Final = 0.5 * 1.2 * 0.7  # half the air's density times the drag area
_GRAVITY: Final = 9.81
_IDLE_LOAD: Final = 26.0
_IDLE_THROTTLE: Final = 16.5


def engine_rpm(speed_mps: float, gear: int) -> float:
    """Engine speed in revolutions per minute.

    It follows from the wheels' in gears 1 to 5, but is never below idle, for then the clutch
    slips; in gear 0, neutral, it is idle.
    """
    if gear == 0:
        return IDLE_RPM
    return max(IDLE_RPM, speed_mps * _rpm_per_mps(gear))


def _rpm_per_mps(gear: int) -> float:
    return RATIOS[gear - 1] * FINAL_DRIVE * 60 / (2 * math.pi * TYRE_RADIUS_M)


def engine_load(speed_mps: float, acceleration: float, gear: int) -> float:
    """Engine load in %: the torque asked for as a part of what there is, on top of idling.

    The torque has to overcome inertia, rolling resistance and drag. When the car pushes the
    engine, or stands, the load is that of idling. Acceleration is in m/s².
    """
    if gear == 0:
        return _IDLE_LOAD
    force = _MASS_KG * (acceleration + _ROLLING * _GRAVITY) + _DRAG_KG_PER_M * speed_mps * speed_mps
    torque = force * TYRE_RADIUS_M / (RATIOS[gear - 1] * FINAL_DRIVE * _EFFICIENCY)
    share = min(1.0, max(0.0, torque / _MAX_TORQUE_NM))
    return _IDLE_LOAD + (100.0 - _IDLE_LOAD) * share


def throttle(load: float) -> float:
    """Throttle position in %, between its stop and half open, for a load in %."""
    return _IDLE_THROTTLE + 0.4 * (load - _IDLE_LOAD)


def gears(speeds_mps: Iterable[float], shift_rpm: float) -> list[int]:
    """The gear at each of a row of speeds, one second apart, that begins at a standstill.

    The driver shifts up above ``shift_rpm`` and down below half of it. The highest step between
    two gears divides the engine speed by 1.9, so that a shift up is never undone at once. At a
    standstill the gear is 0, neutral, and the next is 1: the past does not matter then.
    """
    gear, found = 0, []
    for speed in speeds_mps:
        gear = 0 if speed == 0 else max(1, gear)
        while 0 < gear < len(RATIOS) and speed * _rpm_per_mps(gear) > shift_rpm:
            gear += 1
        while gear > 1 and speed * _rpm_per_mps(gear) < shift_rpm / 2:
            gear -= 1
        found.append(gear)
    return found
