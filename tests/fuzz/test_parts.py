"""Whole parts are sent hostile bytes: nothing falls, and whoever is honest is served afterwards."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.every import PARTS
from tests.fuzz.law import held

#: How many cases of each: a vehicle begins its life with a journal on the disk.
CASES = {"orchestrator": 150, "vehicle": 40, "library": 80, "link": 12, "keeper": 60}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_serves_whoever_comes_after_hostile_bytes(name: str) -> None:
    target, dice = PARTS[name], Random(name)
    for number in range(CASES[name]):
        seed = target.seeds[number % len(target.seeds)]
        held(target, target.changed(seed, dice) if dice.random() < 0.9 else seed)
