"""Who a program is: a role and a name, as its certificate says it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

from protocol.errors import BadRequest
from protocol.roles import Role
from protocol.topics import is_name

IdentityRole = Literal["vehicle", "worker", "orchestrator", "analyst"]
ROLES: Final[tuple[IdentityRole, ...]] = get_args(IdentityRole)
#: What an analyst is to a fleet (`protocol.roles`) is no part of who it is.
_OF_ANALYSTS: Final = frozenset(Role)


class Identity(NamedTuple):
    """A role and a name, written ``vehicle:car-1``. Made by `of` and `parse`, it is valid."""

    role: IdentityRole
    name: str

    def __str__(self) -> str:
        return f"{self.role}:{self.name}"

    def client_id(self, part: str | None = None) -> str:
        """What it is called at the broker; with `part` for one of several programs of one name.

        A broker lets one program in under a client id. So it begins with who it is, and nobody can
        end a connection of somebody else.
        """
        return str(self) if part is None else f"{self}/{part}"


def of(role: str, name: str) -> Identity:
    """An identity. Raises BadRequest for a role that is none, or a name."""
    if role not in ROLES:
        said = f"{role!r:.40} is no role; there are {', '.join(ROLES)}"
        if role in _OF_ANALYSTS:
            said += f". Each {role} is enrolled as an analyst; the role is in the authority file"
        raise BadRequest(said)
    if not is_name(name):
        raise BadRequest(
            f"{name!r:.80} is no name: letters, digits, and . _ - after the first, at most 64"
        )
    return Identity(role, name)


def parse(text: str) -> Identity:
    """Read ``role:name``. Raises BadRequest for whatever else it is."""
    role, colon, name = text.partition(":")
    if not colon:
        raise BadRequest(f"{text!r:.120} is no identity; write ROLE:NAME, such as vehicle:car-1")
    return of(role, name)
