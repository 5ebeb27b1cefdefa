"""An authority that stays the same from run to run: a case that failed fails again."""

from __future__ import annotations

import datetime as dt
import fcntl
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from protocol import proof
from protocol.errors import OodidaError
from protocol.link import credentials
from tests.proofs import World, made

FOLDER: Final = Path(__file__).parents[2] / ".cache" / "fuzz"
#: How long it is kept, in days, which is as long as its certificates are valid.
DAYS: Final = 800.0


@cache
def world() -> World:
    """It is made where there is none, or none that fits what is read now."""
    folder = FOLDER / "authority"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "authority.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run beside each other share it
        with suppress(OodidaError, OSError, IndexError):
            found = World.load(folder)
            proof.verify(made(found), found.trust)
            credentials.load(folder / "identities" / "vehicle" / "car-1")
            return found
        shutil.rmtree(folder, ignore_errors=True)
        return World.make(folder, dt.datetime.now(dt.UTC).replace(microsecond=0), DAYS)
