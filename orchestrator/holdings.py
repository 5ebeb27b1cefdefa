"""What an analyst has here: assignments that have not ended, and bytes. Only so much of each."""

from __future__ import annotations

from typing import Final

from orchestrator.limits import MB, Limits
from orchestrator.store import Session, holding_queries
from orchestrator.turn import Turn
from protocol.errors import QuotaExceeded, TooManyAssignments
from protocol.messages import Deploy, Request, Submit, Upload

#: How long the sum of somebody's bytes is believed, in seconds: to add it up takes a while.
BELIEVED_S: Final = 30.0
#: Analysts whose sum is remembered.
REMEMBERED: Final = 10_000


class Holdings:
    """The limits, and what was found last."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._found: dict[str, tuple[float, int]] = {}

    def require(self, turn: Turn, request: Request) -> None:
        """Raise TooManyAssignments or QuotaExceeded if a request, a new one, would be too much."""
        user = request.user_id
        if isinstance(request, Submit):
            most = self._limits.open_assignments
            if holding_queries.open_assignments(turn.session, user, most) >= most:
                raise TooManyAssignments(
                    f"{user} has {most} assignments that have not ended, and may have no more: "
                    "wait for one, or cancel one; `oodida watch` lists them",
                    most=most,
                )
        if isinstance(request, Deploy | Submit | Upload):
            self._require_bytes(turn, user, _size(request))

    def _require_bytes(self, turn: Turn, user: str, more: int) -> None:
        most = self._limits.stored_bytes
        until, known = self._found.get(user, (0.0, 0))
        if turn.now >= until or known + more > most:
            known, until = self._sum(turn.session, user), turn.now + BELIEVED_S
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        if known + more > most:
            raise QuotaExceeded(
                f"{user} has {known / MB:.1f} MB of modules, wheels and values here, and may have "
                f"{most / MB:.0f} MB: what ended long ago is forgotten in time; until then ask "
                "whoever runs the cloud for more (--stored-mb)",
                used=known, most=most,
            )  # fmt: skip
        self._found[user] = (until, known + more)

    def _sum(self, session: Session, user: str) -> int:
        return holding_queries.stored_bytes(session, user)


def _size(request: Deploy | Submit | Upload) -> int:
    match request:
        case Deploy():
            return 2 * len(request.custom_code)  # as it was asked for, and as it is shipped
        case Upload():
            return request.size
        case Submit():
            return 0
