"""What one call of a module may use: as asked for with a module, and as a vehicle grants it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, ValidationError, model_validator

from protocol.errors import BadLimits
from protocol.outcome import Frozen
from protocol.topics import is_name
from protocol.values import BOUNDS, Bounds

#: The profiles that everybody has who was given no other file.
SHIPPED: Final = Path(__file__).with_name("profiles.toml")
DEFAULT: Final = "default"
MAXIMUM: Final = "maximum"
_MAX_FILE: Final = 64 * 1024


@cache
def _defaults() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))[DEFAULT]
    return table


def _limit(name: str, least: float, most: float) -> Any:
    """A field that is, where nobody says anything else, as in the profile `default`."""
    return Field(default_factory=lambda: _defaults()[name], ge=least, le=most)


class Limits(Frozen):
    """The limits of one call. A call that hits one ends, and its outcome names the limit.

    What each bounds, and in which unit, says `profiles.toml` line by line.
    """

    time_s: float = _limit("time_s", 0.001, 3600)
    cpu_s: int = _limit("cpu_s", 1, 3600)
    memory_mb: int = _limit("memory_mb", 32, 65_536)
    cpus: float = _limit("cpus", 0.05, 64)
    processes: int = _limit("processes", 4, 4096)
    descriptors: int = _limit("descriptors", 32, 4096)
    output_kb: int = _limit("output_kb", 1, 4096)
    scratch_mb: int = _limit("scratch_mb", 1, 4096)
    scratch_files: int = _limit("scratch_files", 16, 1_000_000)
    value_bytes: int = _limit("value_bytes", 16, BOUNDS.size)
    value_depth: int = _limit("value_depth", 1, BOUNDS.depth)
    value_items: int = _limit("value_items", 1, BOUNDS.items)

    @property
    def value(self) -> Bounds:
        """The bounds of the value that is returned."""
        return Bounds(self.value_bytes, self.value_depth, self.value_items)

    def lowered_to(self, maximum: Limits) -> tuple[Limits, tuple[str, ...]]:
        """These limits where they are within `maximum`, and a word on each that was not."""
        lowered, notes = {}, []
        for name, asked in self:
            most = getattr(maximum, name)
            if asked > most:
                lowered[name] = most
                notes.append(f"{name} is {most:g} here, not {asked:g}")
        return self.model_copy(update=lowered), tuple(notes)


class LimitsAsked(Frozen):
    """What a deployment asks for: a profile, and single limits that are lower than its."""

    profile: str = Field(default=DEFAULT, max_length=64)
    lower: dict[str, float] = Field(default_factory=dict, max_length=32)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not is_name(self.profile) or self.profile == MAXIMUM:
            raise BadLimits(f"{self.profile!r:.80} is no name of a profile")
        for name in self.lower:
            if name not in Limits.model_fields:
                known = ", ".join(Limits.model_fields)
                raise BadLimits(f"there is no limit {name!r:.60}; there are {known}")
        return self


class Profiles(Frozen):
    """The profiles of one vehicle or worker, and what it grants at most."""

    profiles: dict[str, Limits]
    maximum: Limits

    @classmethod
    def read(cls, path: Path = SHIPPED) -> Self:
        """Read a file of profiles. Raises BadLimits, naming the place of what is wrong."""
        try:
            if path.stat().st_size > _MAX_FILE:
                raise BadLimits(f"{path} has more than {_MAX_FILE} bytes")
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as problem:
            raise BadLimits(f"the profiles in {path} cannot be read: {problem}") from None
        for name, table in tables.items():
            if not is_name(name) or not isinstance(table, dict):
                raise BadLimits(f"{path}: {name!r:.60} is no profile: [NAME] and a limit a line")
        made = {}
        for name, table in tables.items():
            try:
                made[name] = Limits.model_validate({**tables.get(DEFAULT, {}), **table})
            except ValidationError as problem:
                first = problem.errors(include_url=False, include_context=False)[0]
                where = ".".join(map(str, (name, *first["loc"])))
                raise BadLimits(f"{path}: {where}: {first['msg']}") from None
        if DEFAULT not in made:
            raise BadLimits(f"{path} has no profile [{DEFAULT}]")
        return cls(maximum=made.pop(MAXIMUM, Limits()), profiles=made)

    def with_maximum(self, single: Mapping[str, float]) -> Self:
        """These profiles with another maximum of single limits. Raises BadLimits."""
        try:
            maximum = Limits.model_validate({**self.maximum.model_dump(), **single})
        except ValidationError as problem:
            first = problem.errors(include_url=False, include_context=False)[0]
            raise BadLimits(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return self.model_copy(update={"maximum": maximum})

    def granted(self, asked: LimitsAsked) -> tuple[Limits, tuple[str, ...]]:
        """What is granted here, and a word on each limit that the maximum lowers.

        Raises BadLimits for a profile that is not here, or a limit above the profile's.
        """
        profile = self.profiles.get(asked.profile)
        if profile is None:
            known = ", ".join(sorted(self.profiles))
            raise BadLimits(f"there is no profile {asked.profile!r:.70} here; there are {known}")
        for name, value in asked.lower.items():
            most = getattr(profile, name)
            if value > most:
                raise BadLimits(
                    f"{name} can only be lowered: the profile {asked.profile} has {most:g}, "
                    f"not {value:g}; ask for a larger profile"
                )
        try:
            limits = Limits.model_validate({**profile.model_dump(), **asked.lower})
        except ValidationError as problem:
            first = problem.errors(include_url=False, include_context=False)[0]
            raise BadLimits(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return limits.lowered_to(self.maximum)
