"""What has come and waits for its turn: of each sender only so much, and of all in a fair order.

A flood sits in the broker's queue for us, in front of everybody's messages, until we take it out.
So it is taken out as fast as it comes: what is too much is acknowledged and dropped unread, before
any transaction. Nothing is lost that way that its sender would not send again: a report until its
receipt, a request until its reply; and the broker keeps a presence.

No I/O and no clock of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from orchestrator import metrics
from orchestrator.bucket import Bucket, Rate
from orchestrator.limits import MB, TRAFFIC, WORK, Limits
from orchestrator.presences import MAX_PRESENCE
from protocol import topics
from protocol.link import Incoming
from protocol.topics import Address

#: Messages of one sender in one turn. A request may be a thousand times the work of a report.
SHARES: Final = {"analysts": 5, "vehicles": 50, "workers": 500}
#: Messages of one sender that wait without an acknowledgement. The broker gives us no more than a
#: window of them: whoever has more waiting must not fill it, so those are acknowledged at once.
HELD: Final = 10
#: Bytes of one sender that wait, and of all. Of what is small, more may: it is not the bytes of it.
WAITING: Final = 16 * MB
ALL_WAITING: Final = 128 * MB
SMALL: Final = 64 * 1024
#: Bytes of one sender in one turn, beyond its first message: others wait for the turn's end.
PART: Final = 2 * MB
#: Senders that are remembered; beyond, those that were quiet for long are forgotten.
SENDERS: Final = 20_000
#: A burst is over when nothing of a sender was dropped for so long, in seconds.
OVER_S: Final = 60.0
#: Of what is dropped, so much is answered.
ANSWERS: Final = Rate(per_s=2.0, burst=20.0)


class Dropped(NamedTuple):
    """A message that was dropped: whose, how soon to try again, in seconds, and what to do.

    ``first`` of a burst is for the audit log; not every one is answered, that is work as well.
    """

    address: Address
    message: Incoming
    wait_s: float
    first: bool
    answer: bool


class _Sender:
    """One topic's messages that wait, and how many more may come."""

    __slots__ = (
        "address",
        "answers",
        "dropped_at",
        "messages",
        "rate",
        "size",
        "traffic",
        "waiting",
        "work",
    )

    def __init__(self, address: Address, rate: Rate, now: float) -> None:
        self.address, self.rate = address, rate
        self.messages = Bucket(rate.burst, now)
        self.traffic = Bucket(TRAFFIC.burst, now)
        self.work = Bucket(WORK.burst, now)
        self.answers = Bucket(ANSWERS.burst, now)
        self.dropped_at = -math.inf
        self.waiting: deque[Incoming] = deque()
        self.size = 0

    def idle(self, now: float) -> bool:
        """True if it is as if it had never been heard of."""
        full = self.messages.now(self.rate, now).left >= self.rate.burst
        return full and not self.waiting and now - self.dropped_at > OVER_S


class Intake:
    """Messages that wait, by sender."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._senders: dict[str, _Sender] = {}
        self._size = 0
        #: Who has messages that wait, in the order in which it is their turn.
        self._turns: dict[str, _Sender] = {}
        #: The newest presence of those that tell too many.
        self._late: dict[str, Incoming] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def put(self, message: Incoming, now: float) -> Dropped | None:
        """Take in a message, or drop it. ``now`` is in seconds of a clock that only goes on."""
        sender = self._senders.get(message.topic) or self._met(message.topic, now)
        if sender is None:  # a topic that is none of ours
            message.acknowledge()
            return None
        sender.messages = sender.messages.now(sender.rate, now)
        left = sender.messages.without(1)
        if left is None:  # in a flood, mostly: nothing more is looked at
            return self._drop(sender, message, now)
        size = len(message.payload)
        sender.traffic = sender.traffic.now(TRAFFIC, now)
        room = sender.traffic.without(size)
        if sender.address.family != "workers":  # who work for everybody
            sender.work = sender.work.now(WORK, now)
        full = (  # of what waits, or of what it has taken already
            sender.work.left <= 0
            or len(sender.waiting) >= sender.rate.burst
            or sender.size + size > WAITING
            or (size > SMALL and self._size + size > ALL_WAITING)
        )
        if room is None or full:
            return self._drop(sender, message, now)
        sender.messages, sender.traffic = left, room
        self._late.pop(message.topic, None)
        self._add(sender, message)
        return None

    def _add(self, sender: _Sender, message: Incoming) -> None:
        if len(sender.waiting) >= HELD:
            message.acknowledge()
        sender.waiting.append(message)
        sender.size += len(message.payload)
        self._size += len(message.payload)
        self._turns[message.topic] = sender

    def _drop(self, sender: _Sender, message: Incoming, now: float) -> Dropped:
        message.acknowledge()
        metrics.DROPPED.add(sender.address.channel)
        if sender.address.channel == "presence" and len(message.payload) <= MAX_PRESENCE:
            self._late[message.topic] = message  # the newest one is the truth, and is told later
        first, sender.dropped_at = now - sender.dropped_at > OVER_S, now
        sender.answers = sender.answers.now(ANSWERS, now)
        answer = sender.answers.without(1)
        sender.answers = answer or sender.answers
        wait_s = max(
            sender.messages.wait_s(sender.rate, 1),
            sender.traffic.wait_s(TRAFFIC, len(message.payload)),
            sender.work.wait_s(WORK, 0.0),
            1.0,
        )
        return Dropped(sender.address, message, wait_s, first, answer is not None)

    def take(self, most: int, now: float) -> list[Incoming]:
        """What is handled next: one of each sender, then a second one, as far as its share goes."""
        self._add_late(now)
        taken: list[Incoming] = []
        served = dict(islice(self._turns.items(), most))
        active = list(served.values())
        rounds = 0
        size = dict.fromkeys(served, 0)
        while active and len(taken) < most:
            rounds += 1
            for sender in active[: most - len(taken)]:
                message = sender.waiting.popleft()
                sender.size -= len(message.payload)
                self._size -= len(message.payload)
                size[message.topic] += len(message.payload)
                taken.append(message)
            active = [
                sender
                for sender in active
                if sender.waiting
                and rounds < SHARES.get(sender.address.family, 1)
                and size[sender.waiting[0].topic] < PART
            ]
        for topic, sender in served.items():
            del self._turns[topic]
            if sender.waiting:
                self._turns[topic] = sender  # behind those that had nothing in this turn
        return taken

    def took(self, seconds: Mapping[str, float], now: float) -> None:
        """What the messages of each topic have taken, of the processor: it is theirs to pay."""
        for topic, used in seconds.items():
            sender = self._senders.get(topic)
            if sender is None or sender.address.family == "workers":
                continue
            sender.work = sender.work.now(WORK, now).less(used)
            if sender.work.left <= 0:
                self._empty(topic, sender)

    def _empty(self, topic: str, sender: _Sender) -> None:
        """Drop what waits: it would be more of the same."""
        for message in sender.waiting:
            message.acknowledge()
            metrics.DROPPED.add(sender.address.channel)
        sender.waiting.clear()
        self._size -= sender.size
        sender.size = 0
        self._turns.pop(topic, None)

    def _add_late(self, now: float) -> None:
        for topic in [*islice(self._late, 1000)]:
            sender = self._senders.get(topic) or self._met(topic, now)
            message = self._late.pop(topic)
            if sender is None:
                continue
            left = sender.messages.now(sender.rate, now).without(1)
            if left is None:
                self._late[topic] = message
                continue
            sender.messages = left
            self._add(sender, message)

    def _met(self, topic: str, now: float) -> _Sender | None:
        address = topics.parse(topic)
        if address is None:
            return None
        if len(self._senders) >= SENDERS:
            self._forget(now)
        made = _Sender(address, self._limits.rate(address.family, address.channel), now)
        self._senders[topic] = made
        return made

    def _forget(self, now: float) -> None:
        """Make room: of the quiet ones, all; if there are too few of them, of the oldest half."""
        for topic in [*_idle(self._senders, now)]:
            del self._senders[topic]
        if len(self._senders) >= SENDERS:
            for topic in [*islice(self._senders, SENDERS // 2)]:
                if topic not in self._turns:
                    del self._senders[topic]


def _idle(senders: dict[str, _Sender], now: float) -> Iterator[str]:
    return (topic for topic, sender in senders.items() if sender.idle(now))
