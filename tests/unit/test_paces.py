"""How fast the broker lets one sender speak: above what an orchestrator lets through, and told."""

from __future__ import annotations

import pytest

from orchestrator import paces
from orchestrator.limits import Limits
from orchestrator.paces import AT_ONCE, PACES, Pace
from protocol import topics
from protocol.access import ANY, RULES
from tests.conftest import ROOT


def test_the_broker_is_given_the_paces_that_are_made_here() -> None:
    shipped = (ROOT / "images" / "broker" / "paces").read_text()
    assert shipped == paces.as_text(), "python -m orchestrator.paces > images/broker/paces"


def test_whatever_an_orchestrator_hears_has_a_pace() -> None:
    heard = {
        rule.topic.removeprefix(f"$share/{topics.ORCHESTRATORS}/")
        for rule in RULES
        if rule.role == "orchestrator" and rule.verb == "subscribe"
    }
    assert heard == {pace.topic for pace in PACES}


@pytest.mark.parametrize("pace", PACES, ids=lambda pace: pace.topic)
def test_the_broker_lets_through_more_than_an_orchestrator(pace: Pace) -> None:
    address = topics.parse(pace.topic.replace(ANY, "name"))
    assert address is not None
    own = Limits().rate(address.family, address.channel)
    assert pace.messages.per_s > own.per_s
    assert pace.messages.burst > own.burst or pace.messages.burst == AT_ONCE
