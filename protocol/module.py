"""A custom module: the analyst's source, what it runs in, and its identity."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from protocol.endorsement import Endorsement
from protocol.limits import LimitsAsked
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
    """The environments that every vehicle has; others are named by the digest of their lock."""

    MINIMAL = "minimal"  # the interpreter alone
    SCIENCE = "science"  # with NumPy, SciPy, pandas and scikit-learn


EnvironmentName = Annotated[str, Field(pattern=r"^(minimal|science|[0-9a-f]{64})$")]
#: Where an environment's image is had from: a registry's address, a name, and the image's digest.
ImageReference = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}@sha256:[0-9a-f]{64}$")
]


#: What `science` can import beyond the standard library.
SCIENCE_LIBRARIES: Final = frozenset({"numpy", "scipy", "pandas", "sklearn", "joblib"})


def digest_of(source: str, environment: str) -> str:
    """SHA-256 of a module's environment and source, in hexadecimal: its identity."""
    return hashlib.sha256(f"{environment}\0{source}".encode()).hexdigest()


def builtin_digest(method: str, version: str) -> str:
    """The identity of a built-in method's code: it changes with the runtime's version."""
    return hashlib.sha256(f"builtin\0{method}\0{version}".encode()).hexdigest()


class Module(Frozen):
    """One generation of a user's module on one side.

    ``limits`` is what its calls may use, as asked for; ``returns`` the JSON schema of its result,
    None where the source's own annotation is the contract; ``image`` where the environment's image
    is had from, None for those that every vehicle has. ``endorsement`` is who vouches for it.
    """

    user_id: Name
    name: Name
    side: Side
    generation: int = Field(ge=1)
    environment: EnvironmentName
    source: Source
    digest: Digest
    limits: LimitsAsked = Field(default_factory=LimitsAsked)
    returns: dict[str, Any] | None = None
    image: ImageReference | None = None
    endorsement: Endorsement | None = None

    @model_validator(mode="after")
    def _digest_fits(self) -> Self:
        if self.digest != digest_of(self.source, self.environment):
            raise ValueError("the digest does not fit the source and environment")
        return self
