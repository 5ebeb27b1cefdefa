"""What several messages are made of, and how large they may be."""

from __future__ import annotations

import os
import secrets
from collections import deque
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from protocol.outcome import Frozen

#: Largest message in bytes, and largest sum of the vehicles' values in one off-board task.
MAX_MESSAGE: Final = 8 * 1024 * 1024
MAX_RESULTS: Final = 5 * 1024 * 1024
#: Bytes of a part of a wheel, which begins at a multiple of it; only the last part has fewer.
WHEEL_PART: Final = 1024 * 1024

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Unit = Annotated[str, Field(max_length=40)]
Reason = Annotated[str, Field(max_length=4000)]
Part = Annotated[bytes, Field(min_length=1, max_length=WHEEL_PART)]


#: Names that are drawn ahead: to ask the system for each costs more than all else of a message.
_drawn: Final[deque[str]] = deque()
AHEAD: Final = 256


def new_id() -> str:
    """A fresh name for a message, assignment or task: 64 random bits."""
    while True:
        try:
            return _drawn.popleft()
        except IndexError:
            many = secrets.token_hex(8 * AHEAD)
            _drawn.extend(many[i : i + 16] for i in range(0, len(many), 16))


# A child must not draw what its parent draws.
os.register_at_fork(after_in_child=_drawn.clear)


class Marked(Frozen):
    """One of several message types: its mark is written even though it is a default."""

    _mark: ClassVar[str] = "kind"

    @model_serializer(mode="wrap")
    def _keep_mark(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        return {self._mark: getattr(self, self._mark), **tree}


class ErrorReply(Frozen):
    """What was asked for was not done, and nothing was stored."""

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
