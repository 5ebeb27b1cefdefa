"""What the authority has taken back, as it was heard here: it holds from then on."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from edge_runtime import metrics
from protocol.errors import BadRequest, BadSignature
from protocol.link import private
from protocol.revocation import FILE, MAX_BYTES, NOTHING, RevocationList
from protocol.signing import Trust

log = logging.getLogger(__name__)


class Revoked:
    """The newest list that came, in force for all that ``trust`` looks at, and kept in ``folder``.

    Nobody who brings a list is believed, but the authority that has signed it; and no older one
    replaces it, so that a broker that repeats one frees nobody.
    """

    def __init__(self, trust: Trust, folder: Path) -> None:
        self._trust, self._path = trust, folder / FILE
        self._refused, self._why = b"", ""
        self._kept = True
        self._now = self._recall()
        trust.take_back(self._now)

    def take(self, content: bytes) -> None:
        """A list has come. One that is refused changes nothing, and is told once."""
        if content in (b"", self._now.signed):  # what was taken back stays so
            self._keep()
            return
        which = hashlib.sha256(content).digest()
        if which == self._refused:
            metrics.REFUSED.add(self._why)
            return
        try:
            listed = self._read(content)
        except (BadRequest, BadSignature) as problem:
            self._refused, self._why = which, problem.code
            metrics.REFUSED.add(problem.code)
            log.warning("the list of what was revoked is refused: %s", problem)
            return
        if listed.newer_than(self._now):
            self._now, self._kept = listed, False
            self._trust.take_back(listed)
            log.info("list %s: %s certificates are revoked", listed.number, len(listed.taken))
            self._keep()

    def _read(self, content: bytes) -> RevocationList:
        listed = self._trust.read_received(content)
        if self._now.newer_than(listed):
            raise BadSignature(
                f"it is number {listed.number}, made before number {self._now.number}, which is "
                "here: somebody repeats an older one"
            )
        return listed

    def _keep(self) -> None:
        if self._kept:
            return
        try:
            private.write(self._path, self._now.signed)
            self._kept = True
        except OSError as problem:  # a full disk: it holds as long as we live, and is tried again
            log.warning("the list of what was revoked cannot be kept: %s", problem)

    def _recall(self) -> RevocationList:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
            return self._trust.read_received(content)
        except FileNotFoundError:
            return NOTHING
        except (OSError, BadRequest, BadSignature) as problem:
            log.warning("%s is not taken over: %s", self._path.name, problem)
            return NOTHING
