"""The tables of legal transitions."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import IllegalTransition
from protocol.lifecycle import ASSIGNMENT, DEPLOYMENT, ENVIRONMENT, TASK, advance, terminal

TABLES: list[Any] = [TASK, ASSIGNMENT, DEPLOYMENT, ENVIRONMENT]


@pytest.mark.parametrize("table", TABLES)
def test_every_state_is_in_its_table_and_has_a_way_to_an_end(table: Any) -> None:
    kind: Any = type(next(iter(table)))
    assert set(table) == set(kind)
    for state in table:
        seen, edge = {state}, [state]
        while edge:
            edge = [new for old in edge for new in table[old] if new not in seen]
            seen.update(edge)
        assert any(terminal(table, s) for s in seen)


@given(st.data())
def test_an_illegal_change_raises_and_a_legal_one_gives_the_new_state(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(TABLES))
    states: list[StrEnum] = sorted(table)
    old, new = data.draw(st.sampled_from(states)), data.draw(st.sampled_from(states))
    if new in table[old]:
        assert advance(table, old, new) is new
    else:
        with pytest.raises(IllegalTransition):
            advance(table, old, new)
