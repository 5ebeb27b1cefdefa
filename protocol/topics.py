"""The topic tree, one function a topic. Nothing else builds a topic string."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

#: A name that is one whole topic level, safe in file names and in a broker's access rules.
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_NAME: Final = re.compile(NAME, re.ASCII)

Role = Literal["vehicles", "workers"]
ROOT: Final = "oodida/v1"
#: Who shares work: each message goes to one of them.
ORCHESTRATORS: Final = "orchestrators"
WORKERS: Final = "workers"
#: Families whose channels are nobody's own.
_NAMELESS: Final = ("offboard", "authority")
_TOPIC: Final = re.compile(rf"{ROOT}(?:/{NAME[1:-1]}){{2,}}", re.ASCII)


class Address(NamedTuple):
    """A topic taken apart: ``oodida/v1/{family}/{name}/{channel}/{rest...}``."""

    family: str
    name: str
    channel: str
    rest: tuple[str, ...]


def is_name(text: str) -> bool:
    """True if `text` may be a vehicle's, worker's, user's, module's or assignment's name."""
    return _NAME.fullmatch(text) is not None


def _level(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name!r:.80} cannot be part of a topic")
    return name


def presence(role: Role, name: str) -> str:
    """Retained; birth and last will, with a session counter."""
    return f"{ROOT}/{role}/{_level(name)}/presence"


def modules(vehicle: str, user: str, name: str) -> str:
    """Retained: the module that this vehicle should have."""
    return f"{ROOT}/vehicles/{_level(vehicle)}/modules/{_level(user)}/{_level(name)}"


def orders(role: Role, name: str) -> str:
    """Tasks and cancellations for one edge runtime."""
    return f"{ROOT}/{role}/{_level(name)}/orders"


def reports(role: Role, name: str) -> str:
    """What an edge runtime says of tasks and modules."""
    return f"{ROOT}/{role}/{_level(name)}/reports"


def receipts(role: Role, name: str) -> str:
    """The cloud's own acknowledgement of a report, sent after its commit."""
    return f"{ROOT}/{role}/{_level(name)}/receipts"


def offboard_orders() -> str:
    """Tasks that any one worker may take."""
    return f"{ROOT}/offboard/orders"


def offboard_modules(user: str, name: str) -> str:
    """Retained: an off-board module, read by every worker."""
    return f"{ROOT}/offboard/modules/{_level(user)}/{_level(name)}"


def revoked() -> str:
    """Retained: the authority's list of what it took back, read by every vehicle and worker."""
    return f"{ROOT}/authority/revoked"


def requests(user: str) -> str:
    """What an analyst asks, with response topic and correlation data."""
    return f"{ROOT}/analysts/{_level(user)}/requests"


def replies(user: str, client: str) -> str:
    """Where one client of an analyst is answered."""
    return f"{ROOT}/analysts/{_level(user)}/replies/{_level(client)}"


def events(user: str, assignment: str) -> str:
    """What happens to one assignment or deployment."""
    return f"{ROOT}/analysts/{_level(user)}/events/{_level(assignment)}"


def subscription(topic: str, share: str | None = None) -> str:
    """A filter for a topic made here, shared among the members of `share` if given."""
    return f"$share/{share}/{topic}" if share else topic


def all_of(family: str, channel: str, *, share: str | None = None) -> str:
    """The filter for one channel of every vehicle, worker or analyst."""
    return subscription(f"{ROOT}/{family}/+/{channel}", share)


def one_of(pattern: str, name: str) -> str:
    """The topic of one vehicle, worker or analyst among those of `all_of`."""
    return pattern.replace("+", _level(name), 1)


def own_modules(vehicle: str) -> str:
    """The filter for every module that this vehicle should have."""
    return f"{ROOT}/vehicles/{_level(vehicle)}/modules/+/+"


def every_offboard_module() -> str:
    """The filter for every off-board module."""
    return f"{ROOT}/offboard/modules/+/+"


def own_events(user: str) -> str:
    """The filter for everything that happens to this analyst's assignments."""
    return f"{ROOT}/analysts/{_level(user)}/events/+"


def parse(topic: str) -> Address | None:
    """Take a topic apart; None if it is not one of ours or holds a level that is no name."""
    if _TOPIC.fullmatch(topic) is None:
        return None
    levels = topic.split("/")
    if levels[2] in _NAMELESS:
        return Address(levels[2], "", levels[3], tuple(levels[4:]))
    if len(levels) < 5:
        return None
    return Address(levels[2], levels[3], levels[4], tuple(levels[5:]))
