"""A vehicle as the store has it: what it says of itself is read when it is asked for.

For most questions to a fleet, names are enough; to read every presence takes longer than all else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from orchestrator.store import Session, assignment_queries
from protocol import values
from protocol.assignment import Attribute

log = logging.getLogger(__name__)


class Seen:
    """One vehicle that was ever seen. ``online``: it is connected now."""

    def __init__(self, name: str, presence: bytes, *, online: bool) -> None:
        self.name, self.online = name, online
        self._presence = presence

    @cached_property
    def _told(self) -> dict[str, Any]:
        """Checked when it came in. What another version stored costs this vehicle alone."""
        try:
            told = values.from_text(self._presence)
        except values.ValueProblem:
            log.exception("the presence of %s cannot be read", self.name)
            return {}
        return told if isinstance(told, dict) else {}

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """What analysts select by."""
        found: Mapping[str, Attribute] = self._told.get("attributes", {})
        return found

    @property
    def signals(self) -> Mapping[str, str]:
        """The unit of each of its signals."""
        found: Mapping[str, str] = self._told.get("signals", {})
        return found

    @property
    def sandbox(self) -> bool:
        """True if it runs custom modules."""
        return bool(self._told.get("sandbox", True))


def fleet(session: Session) -> dict[str, Seen]:
    """Every vehicle ever seen."""
    return {
        name: Seen(name, presence, online=online)
        for name, online, presence in assignment_queries.presences(session)
    }
