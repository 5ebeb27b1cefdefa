"""Who may do what: a file that whoever runs the cloud writes, read again when it changes."""

from __future__ import annotations

import argparse
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Field, ValidationError, model_validator

from protocol.assignment import Attribute, AttributeName, explain
from protocol.errors import BadAuthorityFile, Forbidden
from protocol.module import Name
from protocol.outcome import Frozen
from protocol.roles import WORDS, Action, Role, may

_MAX_FILE: Final = 4 * 2**20
#: Libraries of one's own, whichever they are.
OWN: Final = "own"
#: Where a permission can be changed: the end of every sentence that refuses something.
WHO: Final = "an administrator can change that in the cloud's authority file"

Pattern = Annotated[str, Field(min_length=1, max_length=100)]
EnvironmentWord = Annotated[str, Field(pattern=r"^(minimal|science|own|[0-9a-f]{64})$")]


class Grant(Frozen):
    """What one user may do: a role, and limits. None, or no attributes, is without a limit.

    ``vehicles`` are those whose attributes have these values. ``signals`` are names, or patterns
    with ``*`` and ``?``. ``environments`` are names, digests, and "own" for libraries of one's own.
    ``daily_tasks`` is how many tasks of custom code are ordered in a day of UTC.
    """

    role: Role
    vehicles: dict[AttributeName, Attribute] = Field(default_factory=dict, max_length=32)
    signals: tuple[Pattern, ...] | None = None
    profiles: tuple[Name, ...] | None = None
    environments: tuple[EnvironmentWord, ...] | None = None
    daily_tasks: Annotated[int, Field(ge=0, strict=True)] | None = None

    @property
    def only(self) -> str:
        """What the vehicles have that it may use, in words."""
        return ", ".join(f"{name}={value}" for name, value in self.vehicles.items())

    def sees(self, attributes: Any) -> bool:
        """True for the attributes of a vehicle that it may use."""
        return all(k in attributes and attributes[k] == v for k, v in self.vehicles.items())

    def reads(self, signal: str) -> bool:
        """True for a signal that it may use."""
        return self.signals is None or any(fnmatchcase(signal, p) for p in self.signals)

    def has_profile(self, profile: str) -> bool:
        """True for a profile of limits that it may ask for."""
        return self.profiles is None or profile in self.profiles

    def has_environment(self, name: str) -> bool:
        """True for an environment that its modules may have: a name, a digest, or `OWN`."""
        if self.environments is None or name in self.environments:
            return True
        return name not in ("minimal", "science") and OWN in self.environments


class Review(Frozen):
    """Deployments with this privilege score or more wait until a second person approves.

    ``days`` is how long one waits before it is refused.
    """

    min_score: Annotated[int, Field(ge=1, le=8, strict=True)] = 1
    days: Annotated[float, Field(gt=0, le=365)] = 7.0


class Authority(Frozen):
    """The whole file. ``default`` is for users that it does not name, who else may do nothing.
    ``review`` is which deployments wait for approval, None for none.

    A user who is named has what stands there, and nothing of the default.
    """

    default: Grant | None = None
    users: dict[Name, Grant] = Field(default_factory=dict)
    review: Review | None = None

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.default is None and not self.users:
            raise ValueError("it gives nobody a role: [users.NAME] and role = ..., or [default]")
        return self

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a file's text. Raises BadAuthorityFile, naming the line or the field."""
        try:
            return cls.model_validate(tomllib.loads(text))
        except ValidationError as problem:
            raise BadAuthorityFile(explain(problem)) from None
        except (ValueError, RecursionError) as problem:
            raise BadAuthorityFile(str(problem)) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file. Raises BadAuthorityFile that names it."""
        try:
            size = path.stat().st_size
            text = path.read_bytes() if size <= _MAX_FILE else b""
        except OSError as problem:
            raise BadAuthorityFile(f"{path} cannot be read: {problem.strerror}") from None
        if size > _MAX_FILE:
            raise BadAuthorityFile(f"{path} has more than {_MAX_FILE} bytes")
        try:
            return cls.parse(text.decode())
        except UnicodeDecodeError:
            raise BadAuthorityFile(f"{path} is not text in UTF-8") from None
        except BadAuthorityFile as problem:
            raise BadAuthorityFile(f"{path}: {problem}") from None

    def grant(self, user: str) -> Grant:
        """What a user may do. Raises Forbidden for one who has no role."""
        found = self.users.get(user, self.default)
        if found is None:
            raise Forbidden(f"{user} has no role here, and may do nothing; {WHO}", user=user)
        return found

    def may(self, user: str, action: Action) -> bool:
        """True if a user's role allows it."""
        found = self.users.get(user, self.default)
        return found is not None and may(found.role, action)

    def require(self, user: str, action: Action) -> Grant:
        """What a user may do, who may do this. Raises Forbidden with the role and the action."""
        found = self.grant(user)
        if not may(found.role, action):
            raise Forbidden(
                f"{user} has the role {found.role} and may not {WORDS[action]}; {WHO}",
                user=user, role=found.role.value, action=action.value,
            )  # fmt: skip
        return found


#: Without a file: everybody is an analyst without limits, to whom nobody else's work is shown.
EVERYBODY: Final = Authority(default=Grant(role=Role.ANALYST))


def main() -> None:
    """Say whether a file can be taken, before an orchestrator reads it."""
    made = argparse.ArgumentParser(
        prog="python -m orchestrator.authority",
        description="Reads a file that says who may do what, and tells what is wrong with it.",
    )
    made.add_argument("file", type=Path)
    file: Path = made.parse_args().file
    try:
        found = Authority.read(file)
    except BadAuthorityFile as problem:
        sys.exit(f"{problem.code}: {problem}")
    others = "nobody else" if found.default is None else "a default for everybody else"
    print(f"{file} is good: {len(found.users)} named, and {others}")


if __name__ == "__main__":
    main()
