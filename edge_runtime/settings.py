"""Who an edge runtime is, and what holds for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge_runtime.admission import Rules
from edge_runtime.outbox import Bounds
from edge_runtime.policy import Policy, read
from protocol.assignment import Attribute
from protocol.followed import Followed
from protocol.limits import Profiles
from protocol.topics import Role

#: A vehicle's orders wait at the broker while it is away. A worker's must not: a member of a share
#: that is away with a living session keeps its part of the messages from the other members.
SESSION_EXPIRY_S: Final = {"vehicles": 24 * 3600, "workers": 0}


def _no_policy() -> Followed[Policy]:
    """What holds in a vehicle whose keeper has written no file."""
    return Followed(None, lambda path: read(path, Profiles.read()), Policy())


@dataclass(frozen=True)
class Settings:
    """Who an edge runtime is.

    ``calls``: containers at a time; ``rules``: what holds here; ``session_expiry_s``: for how long
    the broker keeps messages for it while it is away, None for what its role needs;
    ``identity``: the folder of its certificate, None for a system on one machine;
    ``policy``: what a vehicle allows;
    ``passing``: once it has said goodbye, the broker keeps no presence of it.
    """

    url: str
    name: str
    role: Role
    folder: Path
    attributes: dict[str, Attribute] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules.shipped)
    calls: int = 4
    session_expiry_s: int | None = None
    outbox: Bounds = field(default_factory=Bounds)
    identity: Path | None = None
    policy: Followed[Policy] = field(default_factory=_no_policy)
    passing: bool = False

    @property
    def kept_s(self) -> int:
        """For how long the broker keeps messages for it while it is away, in seconds."""
        asked = self.session_expiry_s
        return SESSION_EXPIRY_S[self.role] if asked is None else asked
