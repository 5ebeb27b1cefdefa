"""Who may send and hear what at the broker. Its rules are made here, from the topics themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from protocol import topics
from protocol.identity import IdentityRole

Verb = Literal["send", "retain", "receive", "subscribe"]
#: Stands for the name of whoever asks, and for any name; both can be part of a topic.
_SELF, _ANY = "name-of-its-own", "any-name"
#: What the two are in a rule.
SELF: Final = "{name}"
ANY: Final = "+"
ANONYMOUS: Final = "anonymous"
#: By this a container's health is looked at, from within and without a certificate.
ALIVE: Final = "$SYS/broker/uptime"


class Rule(NamedTuple):
    """What a role may do: a topic, where a level is itself, `ANY` or `SELF`.

    ``send`` is to publish, ``retain`` to publish what the broker keeps, too; ``subscribe`` is to a
    filter that is written like this, with ``receive`` for what comes by it.
    """

    role: IdentityRole | Literal["anonymous"]
    verb: Verb
    topic: str

    def __str__(self) -> str:
        return f"{self.role} {self.verb} {self.topic}"


def _edge(role: IdentityRole, family: topics.Role, modules: str) -> list[Rule]:
    return [
        Rule(role, "retain", topics.presence(family, _SELF)),
        Rule(role, "send", topics.reports(family, _SELF)),
        *_hear(role, topics.orders(family, _SELF), topics.receipts(family, _SELF), modules),
        *_hear(role, topics.revoked()),
    ]


def _hear(role: IdentityRole | Literal["anonymous"], *heard: str) -> list[Rule]:
    return [Rule(role, verb, topic) for topic in heard for verb in ("subscribe", "receive")]


def _share(role: IdentityRole, group: str, topic: str) -> list[Rule]:
    return [
        Rule(role, "subscribe", topics.subscription(topic, group)),
        Rule(role, "receive", topic),
    ]


def _made() -> list[Rule]:
    vehicle = _edge("vehicle", "vehicles", topics.own_modules(_SELF))
    worker = [
        *_edge("worker", "workers", topics.every_offboard_module()),
        *_share("worker", topics.WORKERS, topics.offboard_orders()),
    ]
    cloud: list[Rule] = []
    families: tuple[topics.Role, ...] = ("vehicles", "workers")
    for family in families:
        cloud += [
            *_hear("orchestrator", topics.presence(family, _ANY)),
            *_share("orchestrator", topics.ORCHESTRATORS, topics.reports(family, _ANY)),
            Rule("orchestrator", "send", topics.orders(family, _ANY)),
            Rule("orchestrator", "send", topics.receipts(family, _ANY)),
        ]
    cloud += [
        *_share("orchestrator", topics.ORCHESTRATORS, topics.requests(_ANY)),
        Rule("orchestrator", "retain", topics.modules(_ANY, _ANY, _ANY)),
        Rule("orchestrator", "retain", topics.offboard_modules(_ANY, _ANY)),
        Rule("orchestrator", "retain", topics.revoked()),
        Rule("orchestrator", "send", topics.offboard_orders()),
        Rule("orchestrator", "send", topics.replies(_ANY, _ANY)),
        Rule("orchestrator", "send", topics.events(_ANY, _ANY)),
    ]
    analyst = [
        Rule("analyst", "send", topics.requests(_SELF)),
        *_hear("analyst", topics.replies(_SELF, _ANY), topics.own_events(_SELF)),
    ]
    return [*vehicle, *worker, *cloud, *analyst, *_hear(ANONYMOUS, ALIVE)]


def _written(rule: Rule) -> Rule:
    levels = ({_SELF: SELF, _ANY: ANY}.get(level, level) for level in rule.topic.split("/"))
    return rule._replace(topic="/".join(levels))


RULES: Final[Sequence[Rule]] = tuple(map(_written, _made()))


def may(role: str, name: str, verb: Verb, topic: str) -> bool:
    """True if a rule allows it; as the broker decides it, too."""
    wanted = {"send": {"send", "retain"}}.get(verb, {verb})
    return any(
        rule.role == role and rule.verb in wanted and _covers(rule.topic, topic, name)
        for rule in RULES
    )


def _covers(rule: str, topic: str, name: str) -> bool:
    """Level by level; ``#`` stands for levels that no rule has, so no rule allows it."""
    ruled, asked = rule.split("/"), topic.split("/")
    if len(ruled) != len(asked) or "#" in asked:
        return False
    return all(
        have == ANY or want == (name if have == SELF else have)
        for have, want in zip(ruled, asked, strict=True)
    )


def as_text() -> str:
    """The rules as the broker reads them, a line each."""
    head = "# Made from protocol/access.py by `python -m protocol.access`; do not edit.\n"
    return head + "".join(f"{rule}\n" for rule in RULES)


if __name__ == "__main__":
    print(as_text(), end="")
