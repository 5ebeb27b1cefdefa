"""Work on one assignment, apart from all others."""

from __future__ import annotations

import logging
from collections.abc import Callable

from orchestrator import endings
from orchestrator.store import problems, queries
from orchestrator.store.tables import AssignmentRow
from orchestrator.turn import Turn
from protocol.errors import OodidaError
from protocol.lifecycle import ASSIGNMENT, AssignmentState, terminal
from protocol.logs import about

log = logging.getLogger(__name__)


def guarded(turn: Turn, id_: str, work: Callable[[Turn, AssignmentRow], None]) -> None:
    """Work on one assignment; what goes wrong ends that assignment and nothing else.

    What the store says against it is the whole turn's: it is decided again.
    """
    try:
        with about(assignment=id_), turn.savepoint():
            row = queries.assignment(turn.session, id_)
            if row is not None:
                work(turn, row)
        return
    except OodidaError as error:
        failure = error
    except Exception as error:
        if problems.contended(error) or problems.away(error):
            raise
        log.exception("the assignment %s could not go on", id_)
        failure = OodidaError("the orchestrator failed on this assignment; its log says why")
    with turn.savepoint():
        row = queries.assignment(turn.session, id_)
        if row is not None and not terminal(ASSIGNMENT, AssignmentState(row.state)):
            endings.fail(turn, row, failure)
