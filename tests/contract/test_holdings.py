"""An analyst has only so much here: assignments that have not ended, and bytes."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator import decision
from orchestrator.holdings import Holdings
from orchestrator.limits import Limits
from orchestrator.outbox import Due
from orchestrator.store import Database
from orchestrator.turn import Turn
from protocol import messages, topics
from protocol.link import Incoming
from protocol.messages import REPLY, Cancel, Deploy, Request, Submit, Upload
from tests.contract.test_audit_log import SPEC, Cloud

LIMITS = Limits(open_assignments=2, stored_bytes=10_000)


class Small(Cloud):
    """A cloud with little room."""

    def __init__(self, database: Database) -> None:
        self.holdings = Holdings(LIMITS)
        super().__init__(database)

    def turn(self, *batch: Incoming) -> None:
        self.done = decision.decide(
            self.database, batch, Due("one", (), None, look=False), desk=self.desk,
            holdings=self.holdings,
        )  # fmt: skip

    def code(self, request: Request) -> str:
        """The code of the error that a request is answered with, or nothing."""
        payload, kind = messages.encode(request)
        to = topics.replies(request.user_id, "c-1")
        self.turn(Incoming(topics.requests(request.user_id), payload, kind, to, b"", lambda: None))
        (told,) = [one for one in self.done.fleeting if one.topic == to]
        error = messages.decode(REPLY, told.payload, told.content_type).error
        return error.code if error else ""


@pytest.fixture
def cloud(database: Database) -> Small:
    return Small(database)


def submit(id_: str, user: str = "ada") -> Submit:
    return Submit(user_id=user, id=id_, assignment=SPEC)


def deploy(id_: str, size: int, user: str = "ada") -> Deploy:
    source = "x = 1  # ".ljust(size, "x")
    return Deploy(user_id=user, mode="deploy_onboard", id=id_, name="m", custom_code=source)


def test_assignments_that_have_not_ended_are_counted_for_each_analyst(cloud: Small) -> None:
    assert [cloud.code(submit(id_)) for id_ in ("a", "b", "c")] == ["", "", "too_many_assignments"]
    assert cloud.code(submit("b")) == ""  # it is there already: its reply was late
    assert cloud.code(submit("d", "bob")) == ""
    assert cloud.code(Cancel(user_id="ada", assignment="a")) == ""
    assert cloud.code(submit("c")) == ""
    codes = Counter(entry.code for entry in cloud.entries())
    assert codes["too_many_assignments"] == 1


def test_bytes_are_counted_for_each_analyst(cloud: Small) -> None:
    assert cloud.code(deploy("d1", 4000)) == ""
    assert cloud.code(deploy("d2", 4000)) == "quota_exceeded"
    upload = Upload(user_id="ada", sha256="0" * 64, size=20_000, offset=0, data=b"x" * 20_000)
    assert cloud.code(upload) == "quota_exceeded"
    assert cloud.code(deploy("d3", 4000, "bob")) == ""
    with cloud.database.transaction() as session:
        turn = Turn(session, 1e12)
        cloud.holdings.require(turn, deploy("d4", 100))  # there is some room still
