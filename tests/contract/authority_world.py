"""An orchestrator on a real store, without a broker: what users ask, and what they are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import decision
from orchestrator.authority import EVERYBODY, Authority
from orchestrator.bundle import written
from orchestrator.outbox import Due
from orchestrator.store import Database
from orchestrator.vouching import Vouching
from protocol import messages, topics
from protocol.link import Incoming, Outgoing, authentic
from protocol.messages import (
    EVENT,
    ORDER,
    REPLY,
    Deploy,
    DeploymentEvent,
    Presence,
    Reply,
    Verdict,
    VerifyOrder,
    VerifyReport,
    new_id,
)
from protocol.signing import Signer

SOURCE = "def custom_code(window):\n    return {}\n"
CARS = {"car-1": {"region": "eu"}, "car-2": {"region": "us"}, "car-3": {"region": "eu"}}


class World:
    """Three vehicles and a worker; ``now`` is a clock that is set."""

    def __init__(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, authority: str | None = None
    ) -> None:
        self.now = 86_400.0 * 100
        monkeypatch.setattr(decision, "time", SimpleNamespace(time=lambda: self.now))
        self.database = database
        self.authority = EVERYBODY if authority is None else Authority.parse(authority)
        self.stored: list[Outgoing] = []
        #: Where there are certificates: what the cloud believes, and with what each signs.
        self.vouching: Vouching | None = None
        self.signers: dict[str, Signer] = {}
        #: What else a turn is told.
        self.how: dict[str, Any] = {}
        for name, attributes in CARS.items():
            here = Presence(
                online=True, session=1, attributes=dict(attributes), signals={"S": "", "GPS": ""}
            )
            self.say(topics.presence("vehicles", name), here)
        self.say(topics.presence("workers", "w"), Presence(online=True, session=1))

    def say(self, topic: str, message: Any, **more: Any) -> list[Outgoing]:
        """Bring a message; what is sent because of it, and not stored."""
        payload, content_type = messages.encode(message)
        reply, mark = more.get("reply"), more.get("mark")
        signature, signer = None, self.signers.get(topic.split("/")[3])
        if signer is not None:
            whole = Outgoing(topic, payload, content_type, response_topic=reply, correlation=mark)
            signature = authentic.signed(signer, whole, more.get("at", self.now)).signature
        return self.turn(
            Incoming(topic, payload, content_type, reply, mark, lambda: None, signature)
        )

    def turn(self, *batch: Incoming) -> list[Outgoing]:
        """One turn of the loop."""
        due = Due("test", (), None, look=False)
        done = decision.decide(
            self.database, batch, due, authority=self.authority, vouching=self.vouching, **self.how
        )
        self.stored = [out for _, item in done.stored for out in written(item)]
        return list(done.fleeting)

    def ask(self, request: Any) -> Reply:
        """Ask as the user that the request names."""
        user = request.user_id
        sent = self.say(topics.requests(user), request, reply=topics.replies(user, "c"), mark=b"1")
        (told,) = [message for message in sent if "/replies/" in message.topic]
        return messages.decode(REPLY, told.payload, told.content_type)

    def refused(self, request: Any) -> tuple[str, str]:
        """The code and the sentence of an error."""
        error = self.ask(request).error
        assert error is not None, "it was allowed"
        return error.code, error.message

    def deploy(self, user: str, source: str = "1", name: str = "m", **more: Any) -> Reply:
        """Ask for a deployment to vehicles."""
        asked = {"mode": "deploy_onboard", "custom_code": SOURCE.format(source), **more}
        return self.ask(Deploy(user_id=user, id=new_id(), name=name, **asked))

    def shipped(self, user: str, source: str = "1", **more: Any) -> DeploymentEvent:
        """A deployment that a worker has tried with success: where it stands then."""
        reply = self.deploy(user, source, **more)
        assert reply.error is None, reply.error
        self.verify(*self.stored)
        return self.events()[-1]

    def verify(self, *sent: Outgoing) -> None:
        """A worker tries what it is asked to, with success."""
        for message in sent:
            if message.topic == topics.offboard_orders():
                order = messages.decode(ORDER, message.payload, message.content_type)
                if isinstance(order, VerifyOrder):
                    verdict = Verdict(ok=True)
                    report = VerifyReport(id=new_id(), order=order.id, verdict=verdict)
                    self.say(topics.reports("workers", "w"), report)

    def events(self) -> list[DeploymentEvent]:
        """What the last turn told of deployments."""
        told = [
            messages.decode(EVENT, message.payload, message.content_type)
            for message in self.stored
            if "/events/" in message.topic
        ]
        return [event for event in told if isinstance(event, DeploymentEvent)]
