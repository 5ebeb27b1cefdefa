"""Participation: per iteration, every targeted vehicle and why it is in or out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from protocol.account import Usage
from protocol.outcome import Frozen

#: A closed set: in, or the one reason for being out.
Status = Literal[
    "included",  # its result is part of the value
    "offline",  # not connected when it was to be asked, or lost while it worked
    "unknown",  # no vehicle of this name was ever seen
    "late",  # connected, but without an answer at the deadline
    "refused",  # it would not: no such signal, no such environment, or its policy
    "crashed",  # its method or module failed
    "limit",  # its module hit a limit
    "wrong_code",  # its result was made by code that is not to be mixed with the others'
    "cancelled",  # the task was ended before it was done
]


class Participation(Frozen):
    """Whether a vehicle is in an iteration's value, and why not.

    ``usage`` is what the vehicle used for its task, None if it did not say. ``code``, where it
    refused, is the code of the error that says why.
    """

    status: Status
    reason: Annotated[str, Field(max_length=4000)] = ""
    usage: Usage | None = None
    code: Annotated[str, Field(pattern=r"^[a-z_]{0,64}$")] = ""


#: By vehicle.
Ledger = Mapping[str, Participation]
