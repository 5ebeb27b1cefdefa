"""The file with a vehicle's policy: TOML, read strictly, since a slip must open nothing."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from edge_runtime.policy.policy import Names, Policy
from edge_runtime.policy.quiet import QuietHours, Span, zone_of
from protocol.account import Budget
from protocol.assignment import SignalName, explain
from protocol.errors import BadPolicy
from protocol.limits import Profiles
from protocol.module import EnvironmentName, Name
from protocol.outcome import Frozen

#: Largest file, in bytes.
MAX_FILE: Final = 256 * 1024
#: The form of the files that are read.
FORM: Final = 1
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(ge=1, le=2**53, strict=True)]


class _Analysts(Frozen):
    allowed: frozenset[Name] | None = None
    denied: frozenset[Name] = frozenset()

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.allowed is not None and self.denied:
            raise ValueError("either allowed or denied: who is not allowed is denied already")
        return self


class _Signals(Frozen):
    allowed: frozenset[SignalName] | None = None
    denied: frozenset[SignalName] = frozenset()
    location: Flag | frozenset[SignalName] = False


class _Budget(Frozen):
    container_starts: Count | None = None
    cpu_s: Annotated[float, Field(gt=0, le=1e9, strict=True)] | None = None
    bytes_sent: Count | None = None


class _QuietHours(Frozen):
    hours: tuple[str, ...] = Field(min_length=1, max_length=48)
    zone: str = Field(default="local", max_length=60)

    @field_validator("hours")
    @classmethod
    def _spans(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for span in hours:
            Span.parse(span)
        return hours

    @field_validator("zone")
    @classmethod
    def _zone(cls, zone: str) -> str:
        zone_of(zone)
        return zone


class _File(Frozen):
    """A policy as it is written. ``policy`` is the form of the file.

    It has to be there: a file that was cut off, or is empty, must not be a policy that allows all.
    """

    policy: Annotated[int, Field(ge=FORM, le=FORM, strict=True)]
    custom_code: Flag = True
    highest_profile: Name | None = None
    environments: frozenset[EnvironmentName] | None = None
    analysts: _Analysts = Field(default_factory=_Analysts)
    signals: _Signals = Field(default_factory=_Signals)
    budget_a_day: _Budget = Field(default_factory=_Budget)
    quiet_hours: _QuietHours | None = None


def read(path: Path, profiles: Profiles) -> Policy:
    """Read a policy. Raises BadPolicy, naming the line or the field that is wrong."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadPolicy(f"the policy {path} is no file")
        if status.st_mode & stat.S_IWOTH:
            raise BadPolicy(f"everybody on this machine can write {path}; chmod o-w {path}")
        if status.st_size > MAX_FILE:
            raise BadPolicy(f"{path} has more than {MAX_FILE} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise BadPolicy(f"the policy {path} cannot be read: {problem}") from None
    try:
        return parse(text, profiles)
    except BadPolicy as problem:
        raise BadPolicy(f"{path}: {problem.message}") from None


def parse(text: str, profiles: Profiles) -> Policy:
    """A policy from its text. Raises BadPolicy, naming the line or the field that is wrong."""
    try:
        asked = _File.model_validate(tomllib.loads(text))
    except ValidationError as problem:
        raise BadPolicy(_explained(problem)) from None
    except (ValueError, RecursionError) as problem:  # also a number of more digits than are read
        raise BadPolicy(f"it is no TOML: {problem}"[:500]) from None
    most = None
    if asked.highest_profile is not None:
        most = profiles.profiles.get(asked.highest_profile)
        if most is None:
            known = ", ".join(sorted(profiles.profiles))
            raise BadPolicy(
                f"highest_profile: there is no profile {asked.highest_profile} here; "
                f"there are {known}"
            )
    quiet = asked.quiet_hours
    return Policy(
        custom_code=asked.custom_code,
        analysts=Names(asked.analysts.allowed, asked.analysts.denied),
        signals=Names(asked.signals.allowed, asked.signals.denied),
        location=asked.signals.location,
        highest=asked.highest_profile or "",
        most=most,
        environments=asked.environments,
        budget=Budget(**asked.budget_a_day.model_dump()),
        quiet=QuietHours()
        if quiet is None
        else QuietHours(tuple(map(Span.parse, quiet.hours)), zone_of(quiet.zone)),
    )


def _explained(problem: ValidationError) -> str:
    """What is wrong first, with the field."""
    first = problem.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{where[:200]}: there is no such setting"
    if where == "policy":
        return "policy: the file has to say `policy = 1`, which is the form that it has"
    return explain(problem)
