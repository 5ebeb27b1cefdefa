"""A custom module: the analyst's source, what it runs in, and its identity."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from protocol.outcome import Frozen
from protocol.topics import NAME

#: Largest source that may be deployed, in bytes of UTF-8. A module is glue, not a library.
MAX_SOURCE: Final = 64 * 1024

Name = Annotated[str, Field(pattern=NAME)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Source = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE)]


class Side(StrEnum):
    """Where a module runs."""

    ONBOARD = "onboard"
    OFFBOARD = "offboard"


class Environment(StrEnum):
    """Which sandbox image a module runs in."""

    MINIMAL = "minimal"  # the interpreter alone
    SCIENCE = "science"  # with NumPy, SciPy, pandas and scikit-learn


#: What `science` can import beyond the standard library.
SCIENCE_LIBRARIES: Final = frozenset({"numpy", "scipy", "pandas", "sklearn", "joblib"})


def digest_of(source: str, environment: str) -> str:
    """SHA-256 of a module's environment and source, in hexadecimal: its identity."""
    return hashlib.sha256(f"{environment}\0{source}".encode()).hexdigest()


def builtin_digest(method: str, version: str) -> str:
    """The identity of a built-in method's code: it changes with the runtime's version."""
    return hashlib.sha256(f"builtin\0{method}\0{version}".encode()).hexdigest()


class Module(Frozen):
    """One generation of a user's module on one side."""

    user_id: Name
    name: Name
    side: Side
    generation: int = Field(ge=1)
    environment: Environment
    source: Source
    digest: Digest

    @model_validator(mode="after")
    def _digest_fits(self) -> Self:
        if self.digest != digest_of(self.source, self.environment):
            raise ValueError("the digest does not fit the source and environment")
        return self
