"""Messages to bytes and back: the border at which everything is checked."""

from __future__ import annotations

from typing import Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from protocol import values
from protocol.account import Usage
from protocol.assignment import explain
from protocol.errors import BadRequest, OodidaError
from protocol.messages.counting import require_few
from protocol.messages.events import Event
from protocol.messages.orders import ModuleMessage, Order
from protocol.messages.parts import MAX_MESSAGE
from protocol.messages.presence import Presence
from protocol.messages.replies import Reply
from protocol.messages.reports import Receipt, Report, TaskReport
from protocol.messages.requests import Request

PRESENCE: Final = TypeAdapter[Presence](Presence)
ORDER: Final = TypeAdapter[Order](Order)
MODULE: Final = TypeAdapter[ModuleMessage](ModuleMessage)
REPORT: Final = TypeAdapter[Report](Report)
RECEIPT: Final = TypeAdapter[Receipt](Receipt)
REQUEST: Final = TypeAdapter[Request](Request)
REPLY: Final = TypeAdapter[Reply](Reply)
EVENT: Final = TypeAdapter[Event](Event)
#: What comes from vehicles, workers and analysts. An order may hold more: the values of a fleet.
_HOSTILE: Final = (PRESENCE, REPORT, REQUEST)
T = TypeVar("T")


def encode(message: BaseModel) -> tuple[bytes, str]:
    """Write a message: (bytes, content type). Fields left at their default are not written."""
    return values.encode(message.model_dump(mode="python", exclude_defaults=True))


def receipt(id_: str) -> bytes:
    """A `Receipt` as `encode` writes it; a third of what a cloud sends. Names need no escapes."""
    return b'{"id":"%b"}' % id_.encode()


def encode_counted(report: TaskReport) -> tuple[bytes, str, Usage]:
    """As `encode`, of a report that tells its own size among what was used; and what that is.

    The size is that of the report without the word on it.
    """
    tree = report.model_dump(mode="python", exclude_defaults=True)
    usage = report.usage.model_copy(update={"bytes_sent": len(values.encode(tree)[0])})
    tree["usage"] = usage.model_dump(mode="python", exclude_defaults=True)
    return *values.encode(tree), usage


def decode(kind: TypeAdapter[T], data: bytes, content_type: str) -> T:
    """Read a message from anybody. Raises BadRequest with what is wrong with it."""
    return read(kind, data, content_type)[0]


def read(kind: TypeAdapter[T], data: bytes, content_type: str) -> tuple[T, values.Tree]:
    """As `decode`, and the tree that it was made of: what was checked need not be written again."""
    if len(data) > MAX_MESSAGE:
        raise BadRequest(f"the message has {len(data)} bytes; at most {MAX_MESSAGE} are read")
    if kind in _HOSTILE:
        require_few(data, content_type)
    try:
        tree = values.decode(data, content_type or values.JSON)
        return kind.validate_python(tree), tree
    except values.ValueProblem as problem:
        raise BadRequest(f"the message cannot be read: {problem}") from None
    except ValidationError as error:
        raise BadRequest(explain(error)) from None
    except OodidaError:
        raise
    except Exception as problem:  # noqa: BLE001 - whatever hostile bytes bring about, it is theirs
        raise BadRequest(f"the message cannot be read: {type(problem).__name__}") from None
