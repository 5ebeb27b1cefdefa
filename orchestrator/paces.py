"""How fast the broker lets one sender speak. What it is told is made here, from our own limits.

A flood that an orchestrator has to drop is in the broker's queue first, in front of everybody. So
the broker stops most of it: what is above so many times of what an orchestrator lets through.
Between the two an orchestrator sees that there is a flood, tells its sender, and writes it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orchestrator.bucket import Rate
from orchestrator.limits import MB, Limits
from protocol import topics
from protocol.access import ANY

#: So many times an orchestrator's own limit.
FACTOR: Final = 2.0
#: The broker keeps the newest presence: one that it refused would be missing for long. So it is
#: for the orchestrator to leave some of them out, and for the broker to stop floods alone.
PRESENCE_FACTOR: Final = 10.0
#: Bytes on one topic. At once no more than half of what may wait for an orchestrator
#: (`max_queued_bytes` in images/broker/common.conf); presences are small.
BYTES: Final = Rate(per_s=64 * MB, burst=64 * MB)
PRESENCE_BYTES: Final = Rate(per_s=MB, burst=8 * MB)
#: Messages at once, less than may wait for an orchestrator (`max_queued_messages`).
AT_ONCE: Final = 20_000


class Pace(NamedTuple):
    """What may come on each topic that fits: messages and bytes, a second and at once."""

    topic: str
    messages: Rate
    bytes: Rate = BYTES

    def __str__(self) -> str:
        return f"{self.topic} " + " ".join(
            f"{number:.15g}" for number in (*self.messages, *self.bytes)
        )


def _times(factor: float, rate: Rate) -> Rate:
    return Rate(factor * rate.per_s, min(AT_ONCE, factor * rate.burst))


def _made(limits: Limits) -> list[Pace]:
    made = [Pace(topics.requests(_NAME), _times(FACTOR, limits.rate("analysts", "requests")))]
    families: tuple[topics.Role, ...] = ("vehicles", "workers")
    for family in families:
        reports, presence = limits.rate(family, "reports"), limits.rate(family, "presence")
        made += [
            Pace(topics.reports(family, _NAME), _times(FACTOR, reports)),
            Pace(topics.presence(family, _NAME), _times(PRESENCE_FACTOR, presence), PRESENCE_BYTES),
        ]
    return made


#: Stands for any name; it can be part of a topic.
_NAME: Final = "any-name"
PACES: Final[Sequence[Pace]] = tuple(
    pace._replace(topic=pace.topic.replace(_NAME, ANY)) for pace in _made(Limits())
)


def as_text() -> str:
    """The paces as the broker reads them, a line each."""
    head = "# Made from orchestrator/paces.py by `python -m orchestrator.paces`; do not edit.\n"
    return head + "".join(f"{pace}\n" for pace in PACES)


if __name__ == "__main__":
    print(as_text(), end="")
