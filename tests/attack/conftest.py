"""Each attack ends in one outcome, and the runtime is as before: it serves the next call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack import harness
from tests.attack.harness import Rig

_NEXT = """
def custom_code(window):
    return sum(window)
"""


@pytest.fixture(scope="session")
def shared_rig(engine: None) -> Iterator[Rig]:  # noqa: ARG001
    """One sandbox for all attacks: what one of them broke, the next would find."""
    with harness.rig() as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Iterator[Rig]:
    """The sandbox under attack. After the test the next call has to succeed."""
    yield shared_rig
    assert shared_rig.value(_NEXT, [1, 2, 3]) == 6
