"""How long a cloud that was asked has said nothing: told once, borne for a while."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from protocol.errors import CloudAway

log = logging.getLogger(__name__)

#: For how long whoever waits bears that nothing is heard, in seconds.
PATIENCE_S: Final = 60.0


class Silence:
    """Whether a cloud answers. It is asked from several threads."""

    def __init__(self, url: str, patience_s: float | None) -> None:
        self._url, self._patience_s = url, patience_s
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._told = False

    def asked(self) -> None:
        """Something is asked."""
        with self._lock:
            self._asked_at = self._asked_at or time.monotonic()

    def heard(self) -> None:
        """It has answered, or told something unasked."""
        with self._lock:
            told, self._asked_at, self._told = self._told, None, False
        if told:
            log.warning("the cloud at %s answers again", self._url)

    def what(self, *, connected: bool) -> str:
        """What is wrong, if it does not answer."""
        if not connected:
            return f"there is no connection to the broker at {self._url}"
        return f"no orchestrator answers at the broker at {self._url}"

    def bear(self, about: str, *, connected: bool) -> None:
        """It has not answered whoever waits for news of an assignment.

        The first time is logged as a warning. Raises CloudAway when it has lasted for too long.
        """
        with self._lock:
            if self._asked_at is None:
                return  # it has answered somebody else meanwhile
            first, self._told = connected and not self._told, self._told or connected
            lasts = time.monotonic() - self._asked_at
        what = self.what(connected=connected)
        if first:  # that there is no connection has been told by the link
            log.warning("%s: waiting for it", what)
        if self._patience_s is not None and lasts >= self._patience_s:
            with self._lock:
                self._asked_at = None  # who waits once more waits as long again
            raise CloudAway(
                f"{what}, and nothing was heard for {lasts:.0f} s. The assignment {about} goes on "
                f"without us: `oodida watch {about}`, or `fleet.run({about!r})`, shows it later"
            )
