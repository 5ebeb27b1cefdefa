"""Which environments were used when, and so which images may go."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from edge_runtime.environments.image import LABEL
from edge_runtime.sandbox.image_store import ImageStore
from protocol.values import JSON, decode

log = logging.getLogger(__name__)

DAY_S: Final = 86_400.0
_MAX_FILE: Final = 4 * 2**20


def unused(
    there: Iterable[str],
    used: Mapping[str, float],
    in_use: Collection[str],
    now: float,
    keep_s: float,
) -> list[str]:
    """Return the environments, by lock digest, that nobody used for `keep_s` seconds: pure.

    One that is in use now is never among them, nor one of which nothing is known: its time counts
    from when it is first seen. A use in the future, by a clock that was wrong, counts as now.
    """
    return sorted(
        digest
        for digest in set(there)
        if digest not in in_use and now - min(used.get(digest, now), now) > keep_s
    )


class Usage:
    """When each environment was last used, in seconds since 1970, kept in a file.

    The file can be lost without harm: images then stay a while longer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._used = self._read()

    def touch(self, lock_digest: str, now: float) -> None:
        """Note that an environment is used now. Written at most once an hour for each."""
        with self._lock:
            before = self._used.get(lock_digest)
            if before is not None and 0 <= now - before < 3600:
                return
            self._used[lock_digest] = now
            self._write()

    def used(self) -> dict[str, float]:
        """Return when each was last used."""
        with self._lock:
            return dict(self._used)

    def keep_only(self, there: Collection[str], now: float) -> None:
        """Forget those that are not there any more, and begin to count for those that are new."""
        with self._lock:
            kept = {digest: min(self._used.get(digest, now), now) for digest in there}
            if kept != self._used:
                self._used = kept
                self._write()

    def _read(self) -> dict[str, float]:
        try:
            if self._path.stat().st_size > _MAX_FILE:
                return {}
            told = decode(self._path.read_bytes(), JSON)
            return {str(digest): float(when) for digest, when in told.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError) as problem:
            log.warning("%s is not read, and written anew: %s", self._path, problem)
            return {}

    def _write(self) -> None:
        """Replace the file as a whole: a power cut leaves the old one or the new one."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._path.parent, prefix=f".{self._path.name}-", delete=False
            ) as file:
                json.dump(self._used, file, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._path)
        except OSError as problem:
            log.warning("%s could not be written: %s", self._path, problem)


def remove_unused(
    store: ImageStore, usage: Usage, in_use: Collection[str], now: float, keep_s: float
) -> list[str]:
    """Remove the images of environments that nobody used for long; return their lock digests.

    Args:
        store: the engine's images.
        usage: when each was last used.
        in_use: lock digests of which a module is deployed here; these stay.
        now: in seconds since 1970.
        keep_s: how long an unused one stays, in seconds.

    Raises EngineFailure.
    """
    images = [(i.labels[LABEL], i) for i in store.labelled(LABEL)]
    going = set(unused((d for d, _ in images), usage.used(), in_use, now, keep_s))
    # What a container still uses stays, and is tried again the next time.
    stayed = {digest for digest, i in images if digest in going and not store.remove(i)}
    removed = going - stayed
    usage.keep_only({digest for digest, _ in images} - removed, now)
    return sorted(removed)
