"""Every parser keeps the law: a short part of the fuzzing, the same cases each time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.every import PARSERS
from tests.fuzz.law import held, held_within_bounds
from tests.fuzz.shapes import payloads
from tests.fuzz.targets import KINDS, MESSAGES, TYPES, typed

SHORT = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_made_from_its_type_is_read_or_refused(kind: str) -> None:
    @SHORT
    @given(payloads(KINDS[kind]), st.sampled_from([None, *range(len(TYPES))]))
    def tried(payload: bytes, how: int | None) -> None:
        case = typed(payload) if how is None else bytes((how,)) + payload
        held(MESSAGES[kind], case)

    tried()


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_mangled_is_read_or_refused(name: str) -> None:
    target = PARSERS[name]
    dice = Random(name)
    for seed in target.seeds:
        held_within_bounds(target, seed)
        for _ in range(200 // len(target.seeds)):
            held(target, target.changed(seed, dice))
        for _ in range(4):
            held_within_bounds(target, target.changed(seed, dice))
    for size in (0, 1, 7, 500):
        held_within_bounds(target, dice.randbytes(size))
