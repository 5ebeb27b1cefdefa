"""Birth and last will of an edge runtime."""

from __future__ import annotations

from pydantic import (
    Field,
)

from protocol.assignment import (
    Attribute,
    AttributeName,
    SignalName,
)
from protocol.messages.parts import Count, Unit
from protocol.module import (
    EnvironmentName,
)
from protocol.outcome import Frozen


class Presence(Frozen):
    """Birth and last will of an edge runtime. A lower session never overrules a higher one."""

    online: bool
    session: Count
    version: str = Field(default="", max_length=40)
    attributes: dict[AttributeName, Attribute] = Field(default_factory=dict, max_length=64)
    signals: dict[SignalName, Unit] = Field(default_factory=dict, max_length=2000)
    environments: tuple[EnvironmentName, ...] = Field(default=(), max_length=1000)
    builds: bool = False  # a worker that can make environments
