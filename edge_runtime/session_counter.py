"""The number of a connection, by which the cloud tells old ones from new ones."""

from __future__ import annotations

import time
from typing import Final

from edge_runtime.journal import EdgeJournal

#: How many connections are counted ahead of what the journal holds.
SESSIONS_AHEAD: Final = 16


class SessionCounter:
    """Counts connections over restarts, so that the death of an old session is told apart.

    Numbers are reserved ahead in the journal: one that was used is never used again, though nobody
    waits for the disk. None is lower than the time: where the journal was lost, and where another
    runtime with a journal of its own had the name meanwhile, the newest still has the highest.
    """

    def __init__(self, journal: EdgeJournal) -> None:
        self._journal = journal
        self.current = self._reserved = 0

    def recall(self) -> None:
        """Begin after what an earlier life has reserved. Raises JournalFull."""
        self.current = max(self.current, self._journal.sessions())

    def next(self) -> int:
        """The number of the next connection."""
        # A number that is lower than one the cloud has seen would make every birth look like the
        # past, and the goodbye too.
        self.current = max(self.current + 1, int(time.time()))
        if self.current >= self._reserved:
            self._reserved = self.current + SESSIONS_AHEAD
            self._journal.reserve_sessions(self._reserved)
        return self.current
