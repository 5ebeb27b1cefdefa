"""How large an environment may be, and how long finding it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Bounds:
    """What holds for all the wheels of one environment together.

    Attributes:
        wheels: bytes of the files as they are downloaded.
        unpacked: bytes of what is in them.
        members: how many files are in them.
        seconds: how long a look-up with its downloads may take.
    """

    wheels: int = 250 * 2**20
    unpacked: int = 500 * 2**20
    members: int = 50_000
    seconds: float = 300.0


BOUNDS: Final = Bounds()
