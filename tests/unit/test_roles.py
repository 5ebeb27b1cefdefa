"""The table of roles is complete, and the page is the one that it makes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest

from protocol.messages import requests
from protocol.roles import TABLE, WORDS, Action, Role, may
from protocol.roles_page import page
from tests.conftest import ROOT


def modes() -> set[str]:
    """Each mode that a request may have."""
    kinds: tuple[Any, ...] = get_args(get_args(requests.Request)[0])
    return {mode for kind in kinds for mode in get_args(kind.model_fields["mode"].annotation)}


def test_each_mode_of_a_request_is_an_action_that_somebody_may_do() -> None:
    assert modes() == {action.value for action in Action if action is not Action.OTHERS}
    assert set(WORDS) == set(Action)
    assert set(TABLE) == set(Role)
    for action in Action:
        assert may(Role.ADMINISTRATOR, action)


def test_who_may_do_more_may_do_all_that_is_less() -> None:
    for less, more in pairwise(Role):
        assert TABLE[less] < TABLE[more] or (less, more) == (Role.OPERATOR, Role.ADMINISTRATOR)
        assert TABLE[less] <= TABLE[more]


@pytest.mark.parametrize(
    "mode", ["deploy_onboard", "deploy_offboard", "submit", "cancel", "resume"]
)
def test_a_viewer_starts_and_ends_nothing(mode: str) -> None:
    assert not may(Role.VIEWER, Action(mode))


def test_the_page_is_not_stale() -> None:
    written = (ROOT / "docs" / "reference" / "roles.md").read_text()
    assert written == page(), "write it again: python -m protocol.roles_page"
