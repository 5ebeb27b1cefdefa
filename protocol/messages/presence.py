"""Birth and last will of an edge runtime."""

from __future__ import annotations

from typing import Final

from pydantic import Field

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

#: Why a runtime without a sandbox has no modules: there is no wall inside a process.
NO_SANDBOX: Final = (
    "custom modules are not run here: this runtime has no sandbox, and built-in methods alone"
)


class Presence(Frozen):
    """Birth and last will of an edge runtime. A lower session never overrules a higher one.

    ``sandbox``: it runs custom modules; it is not sent any if not. ``builds``: it is a worker that
    can make environments.
    """

    online: bool
    session: Count
    version: str = Field(default="", max_length=40)
    attributes: dict[AttributeName, Attribute] = Field(default_factory=dict, max_length=64)
    signals: dict[SignalName, Unit] = Field(default_factory=dict, max_length=2000)
    environments: tuple[EnvironmentName, ...] = Field(default=(), max_length=1000)
    builds: bool = False
    sandbox: bool = True
