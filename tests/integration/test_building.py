"""How the cloud has environments built: turn by turn, on a real store, with the workers' words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from orchestrator import deployments, environments, requests, shipped
from orchestrator.bundle import written
from orchestrator.store import Database, environment_queries, queries
from orchestrator.store.tables import EdgeRow
from orchestrator.turn import Turn, dump
from orchestrator.wheels import MAX_SENT
from protocol import messages, topics
from protocol.environment import EnvironmentSpec, Lock, Locked, WheelRef
from protocol.errors import BadRequest, EnvironmentRefused, NoWorker, OodidaError
from protocol.limits import LimitsAsked
from protocol.link import Outgoing
from protocol.messages import (
    EVENT,
    MODULE,
    ORDER,
    WHEEL_PART,
    BuildOrder,
    BuildReport,
    Deploy,
    DeploymentEvent,
    EnvironmentInfo,
    ErrorReply,
    ListEnvironments,
    ListModules,
    ModuleReport,
    Presence,
    Reply,
    Upload,
    Verdict,
    VerifyOrder,
    VerifyReport,
    WheelOrder,
    new_id,
)
from protocol.module import Side, digest_of

SOURCE = "def custom_code(window):\n    return 1\n"
SIX = EnvironmentSpec(requirements=("six>=1",))
IMAGE = f"127.0.0.1:5000/oodida/environment@sha256:{'a' * 64}"
M = TypeVar("M", bound=BaseModel)


class Cloud:
    """An orchestrator without its link: what goes in is called, what goes out is read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.now = 1000.0
        self.sent: list[Outgoing] = []

    def turn(self, work: Callable[[Turn], Any]) -> Any:
        """Do something in a transaction; `sent` is what it sends."""
        with self._database.transaction() as session:
            turn = Turn(session, self.now)
            done = work(turn)
            shipped.tell(turn)
            self.sent = [message for item in turn.outgoing for message in written(item)]
            return done

    def edge(self, name: str, role: str = "workers", *, builds: bool = False) -> None:
        """A vehicle or worker comes."""
        presence = Presence(online=True, session=1, builds=builds)

        def come(turn: Turn) -> None:
            row = queries.edge(turn.session, role, name)
            if row is None:
                row = EdgeRow(role=role, name=name, session=1, presence=dump(presence))
                turn.session.add(row)
            row.online = True
            turn.session.flush()
            shipped.edge_up(turn, row)
            if role == "workers":
                deployments.worker_up(turn, name)

        self.turn(come)

    def lose(self, name: str) -> None:
        """A worker goes."""

        def go(turn: Turn) -> None:
            row = queries.edge(turn.session, "workers", name)
            assert row is not None
            row.online = False
            turn.session.flush()
            deployments.worker_gone(turn, name)

        self.turn(go)

    def deploy(self, spec: EnvironmentSpec | str = SIX, **fields: Any) -> DeploymentEvent:
        """Ask for a deployment."""
        fields = {"name": "m", "custom_code": SOURCE, "user_id": "ada", **fields}
        request = Deploy.model_validate(
            {"mode": "deploy_onboard", "id": new_id(), "environment": spec, **fields}
        )
        reply: Reply = self.turn(lambda turn: requests.answer(turn, request))
        assert reply.deployment is not None
        return reply.deployment

    def report(self, worker: str = "w", key: str = SIX.key, **fields: Any) -> None:
        """A worker says how far it is."""
        report = BuildReport.model_validate({"id": new_id(), "order": key, **fields})
        self.turn(lambda turn: deployments.built(turn, worker, report))

    def verify(self, deployment: str, *, ok: bool = True) -> None:
        """A worker has tried a module."""
        report = VerifyReport(id=new_id(), order=deployment, verdict=Verdict(ok=ok))
        self.turn(lambda turn: deployments.verified(turn, report))

    def wait(self, seconds: float) -> None:
        """Time passes; what is overdue is dealt with."""
        self.now += seconds

        def due(turn: Turn) -> None:
            for deadline in queries.deadlines(turn.session, turn.now):
                if deadline.environment is not None:
                    deployments.environment_overdue(turn, deadline.environment)
                if deadline.deployment is not None:
                    deployments.overdue(turn, deadline.deployment)

        self.turn(due)

    def orders(self, kind: type[M]) -> list[tuple[str, M]]:
        """What was ordered in the last turn, and of whom."""
        found: list[tuple[str, M]] = []
        for message in self.sent:
            if message.topic.endswith("/orders"):
                order = messages.decode(ORDER, message.payload, message.content_type)
                if isinstance(order, kind):
                    found.append((message.topic.split("/")[3], order))
        return found

    def last(self) -> tuple[bytes, str]:
        """The message that was sent last."""
        return self.sent[-1].payload, self.sent[-1].content_type

    def events(self) -> dict[str, DeploymentEvent]:
        """What was told of deployments in the last turn, by their ids."""
        found = {}
        for message in self.sent:
            if "/events/" in message.topic:
                event = messages.decode(EVENT, message.payload, message.content_type)
                assert isinstance(event, DeploymentEvent)
                found[event.id] = event
        return found


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A cloud with one vehicle, and a worker `w` that builds."""
    database = Database(f"sqlite:///{tmp_path}/store.db")
    made = Cloud(database)
    made.edge("car-1", "vehicles")
    made.edge("w", builds=True)
    yield made
    database.close()


def lock_of(*files: tuple[str, str]) -> Lock:
    return Lock(
        base="oodida/sandbox-minimal:x", python="3.13", platform="linux_x86_64",
        packages=tuple(Locked.of(file, sha256, 7) for file, sha256 in files),
    )  # fmt: skip


SIX_LOCK = lock_of(("six-1.17.0-py2.py3-none-any.whl", "0" * 64))


def test_a_deployment_waits_for_its_environment_and_then_has_its_digest(cloud: Cloud) -> None:
    asked = cloud.deploy(limits={"profile": "small"}, returns={"type": "number"})
    assert (asked.state, asked.digest, asked.environment) == ("building", "", "")
    ((worker, order),) = cloud.orders(BuildOrder)
    assert (worker, order.id, order.spec) == ("w", SIX.key, SIX)
    cloud.report(state="building", progress="finding the libraries")
    assert cloud.events()[asked.id].progress == "finding the libraries"
    cloud.report(state="built", lock=SIX_LOCK.text(), image=IMAGE, size=7)
    told = cloud.events()[asked.id]
    assert (told.state, told.environment, told.progress) == ("verifying", SIX_LOCK.digest, "")
    assert told.digest == digest_of(SOURCE, SIX_LOCK.digest)
    ((_, trial),) = cloud.orders(VerifyOrder)
    assert (trial.module.image, trial.module.environment) == (IMAGE, SIX_LOCK.digest)
    assert trial.timeout_s > deployments.VERIFY_S
    cloud.verify(asked.id)
    (sent,) = [m for m in cloud.sent if m.topic == topics.modules("car-1", "ada", "m")]
    module = messages.decode(MODULE, sent.payload, sent.content_type).module()
    assert (module.image, module.returns) == (IMAGE, {"type": "number"})
    assert module.limits == LimitsAsked(profile="small")
    # It is stored so, too: a vehicle that is new gets the same.
    cloud.edge("car-2", "vehicles")
    (again,) = [m for m in cloud.sent if m.topic == topics.modules("car-2", "ada", "m")]
    assert again.payload == sent.payload


def test_what_is_locked_is_never_built_again(cloud: Cloud) -> None:
    first, second = cloud.deploy(), cloud.deploy(name="n", user_id="bob")
    assert cloud.orders(BuildOrder) == []
    cloud.report(state="built", lock=SIX_LOCK.text(), image=IMAGE)
    assert {e.state for e in cloud.events().values()} == {"verifying"}
    assert set(cloud.events()) == {first.id, second.id}
    third = cloud.deploy(EnvironmentSpec(requirements=("SIX >= 1",)))
    assert (third.state, third.environment) == ("verifying", SIX_LOCK.digest)
    fourth = cloud.deploy(SIX_LOCK.digest)
    assert (fourth.state, fourth.digest) == ("verifying", third.digest)
    assert cloud.orders(BuildOrder) == []
    # What a worker says later changes nothing, whoever it is.
    cloud.report(state="refused")
    cloud.report(state="built", lock=lock_of(("six-1-py3-none-any.whl", "1" * 64)).text())
    assert cloud.sent == []


def test_a_refusal_is_told_as_it_came_and_changes_nothing(cloud: Cloud) -> None:
    first = cloud.deploy()
    problem = EnvironmentRefused("there is no six", reason_code="unknown_package", package="six")
    told = ErrorReply(code=problem.code, message=problem.message, details=problem.details)
    cloud.report(state="refused", error=told)
    event = cloud.events()[first.id]
    assert (event.state, event.error, event.generation) == ("refused", told, 0)
    modules = cloud.turn(lambda turn: requests.answer(turn, ListModules(user_id="ada"))).modules
    assert modules == []
    second = cloud.deploy()
    assert second.state == "building"
    assert len(cloud.orders(BuildOrder)) == 1
    cloud.report(state="built", lock=SIX_LOCK.text(), image=IMAGE)
    assert set(cloud.events()) == {second.id}


@pytest.mark.parametrize(
    ("report", "word"),
    [
        ({"state": "refused"}, "does not say why"),
        ({"state": "refused", "error": {"code": "no_worker", "message": "x" * 9000}}, "xxx"),
        ({"state": "built", "lock": "six==1.17.0", "image": IMAGE}, "cannot be read"),
        ({"state": "built", "lock": SIX_LOCK.text()}, "where the image is"),
        (
            {"state": "built", "image": IMAGE,
             "lock": lock_of(("seven-1-py3-none-any.whl", "0" * 64)).text()},
            "six>=1 is not met",
        ),
        (
            {"state": "built", "image": IMAGE,
             "lock": lock_of(("six-0.9-py3-none-any.whl", "0" * 64)).text()},
            "six>=1 is not met by 0.9",
        ),
    ],
)  # fmt: skip
def test_a_worker_that_says_nonsense_is_not_believed(
    cloud: Cloud, report: dict[str, Any], word: str
) -> None:
    asked = cloud.deploy()
    cloud.report(**report)
    error = cloud.events()[asked.id].error
    assert error is not None
    assert (error.code, error.details["reason_code"]) == ("environment_refused", "build_failed")
    assert word in error.message
    assert len(error.message) < 3000


def test_only_the_worker_that_was_asked_is_heard(cloud: Cloud) -> None:
    cloud.edge("v", builds=True)
    asked = cloud.deploy()
    ((worker, _),) = cloud.orders(BuildOrder)
    other = {"v": "w", "w": "v"}[worker]
    cloud.report(other, state="built", lock=SIX_LOCK.text(), image=IMAGE)
    assert cloud.sent == []
    cloud.report(worker, state="built", lock=SIX_LOCK.text(), image=IMAGE)
    assert cloud.events()[asked.id].state == "verifying"


def test_the_work_is_shared_and_a_lost_builders_is_passed_on(cloud: Cloud) -> None:
    cloud.edge("v", builds=True)
    cloud.deploy()
    ((first, _),) = cloud.orders(BuildOrder)
    cloud.deploy(EnvironmentSpec(requirements=("seven",)))
    ((second, _),) = cloud.orders(BuildOrder)
    assert {first, second} == {"v", "w"}
    cloud.lose(first)
    assert [(w, order.id) for w, order in cloud.orders(BuildOrder)] == [(second, SIX.key)]


def test_a_builder_that_comes_back_is_asked_again_but_not_for_ever(cloud: Cloud) -> None:
    asked = cloud.deploy()
    for _ in range(environments.MAX_BUILDERS - 1):
        cloud.lose("w")
        assert "waiting for a worker" in cloud.events()[asked.id].progress
        cloud.edge("w", builds=True)
        assert len(cloud.orders(BuildOrder)) == 1
    cloud.lose("w")
    cloud.edge("w", builds=True)
    assert cloud.orders(BuildOrder) == []
    assert cloud.events()[asked.id].state == "refused"


def test_nobody_waits_for_ever(cloud: Cloud) -> None:
    asked = cloud.deploy()
    cloud.wait(environments.BUILD_S)
    assert cloud.sent == []
    cloud.wait(environments.MARGIN_S)
    error = cloud.events()[asked.id].error
    assert error is not None
    assert error.details["reason_code"] == "timeout"
    lost = cloud.deploy()
    cloud.lose("w")
    cloud.wait(environments.GRACE_S)
    assert cloud.events()[lost.id].state == "refused"
    with cloud._database.transaction() as session:
        assert queries.next_deadline(session) is None


def test_without_a_builder_it_is_said_at_once(cloud: Cloud) -> None:
    cloud.lose("w")
    cloud.edge("plain")
    with pytest.raises(NoWorker, match="--registry"):
        cloud.deploy()


def wheel(size: int, name: str = "mine") -> tuple[EnvironmentSpec, bytes]:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    ref = WheelRef(
        name=f"{name}-1.0-py3-none-any.whl", size=size, sha256=hashlib.sha256(data).hexdigest()
    )
    return EnvironmentSpec(wheels=(ref,)), data


def upload(
    cloud: Cloud,
    spec: EnvironmentSpec,
    whole: bytes,
    at: int,
    changes: dict[str, Any] | None = None,
) -> Reply:
    part = {"data": whole[at : at + WHEEL_PART], "offset": at, "user_id": "ada"}
    (ref,) = spec.wheels
    made = Upload.model_validate(
        {"sha256": ref.sha256, "size": ref.size, **part, **(changes or {})}
    )
    reply: Reply = cloud.turn(lambda turn: requests.answer(turn, made))
    return reply


def test_wheels_travel_in_parts_to_who_builds_and_are_forgotten_then(cloud: Cloud) -> None:
    spec, data = wheel(2 * WHEEL_PART + 5)
    (ref,) = spec.wheels
    with pytest.raises(EnvironmentRefused) as caught:
        cloud.deploy(spec)
    assert caught.value.details == {"reason_code": "missing_wheel", "missing": [ref.sha256]}
    for offset in (0, 2 * WHEEL_PART, 0):
        assert upload(cloud, spec, data, offset).missing == [ref.sha256]
    with pytest.raises(EnvironmentRefused):
        cloud.deploy(spec)
    assert upload(cloud, spec, data, WHEEL_PART).missing == []
    with pytest.raises(EnvironmentRefused):  # another user's parts are not ours
        cloud.deploy(spec, user_id="bob")
    cloud.deploy(spec)
    assert isinstance(messages.decode(ORDER, *cloud.last()), BuildOrder)
    assert b"".join(order.data for _, order in cloud.orders(WheelOrder)) == data
    cloud.report(key=spec.key, state="built", image=IMAGE, lock=SIX_LOCK.text())
    (event,) = cloud.events().values()
    assert event.error is not None
    assert "mine-1.0-py3-none-any.whl is not in it" in event.error.message
    cloud.deploy(spec)  # the parts are here still
    own = lock_of((ref.name, ref.sha256)).text()
    cloud.report(key=spec.key, state="built", image=IMAGE, lock=own)
    with cloud._database.transaction() as session:
        assert environment_queries.stored(session, "ada") == 0


def test_a_wheel_that_is_not_what_its_hash_says_is_forgotten(cloud: Cloud) -> None:
    spec, data = wheel(WHEEL_PART + 1)
    upload(cloud, spec, data, 0, {"data": bytes(WHEEL_PART)})
    reply = upload(cloud, spec, data, WHEEL_PART)
    assert reply.error is not None
    assert reply.error.details["reason_code"] == "hash_differs"
    assert upload(cloud, spec, data, 0).missing == [spec.wheels[0].sha256]
    assert upload(cloud, spec, data, WHEEL_PART).missing == []


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"offset": 1}, BadRequest),
        ({"data": b"x"}, BadRequest),
        ({"offset": 5 * WHEEL_PART, "data": b"x"}, BadRequest),
        ({"size": MAX_SENT + 1}, EnvironmentRefused),
    ],
)
def test_what_is_no_part_is_refused(
    cloud: Cloud, fields: dict[str, Any], error: type[OodidaError]
) -> None:
    spec, data = wheel(2 * WHEEL_PART)
    with pytest.raises(error):
        upload(cloud, spec, data, 0, fields)


def test_environments_are_listed_with_ones_own_modules(cloud: Cloud) -> None:
    asked = cloud.deploy()
    cloud.report(state="built", lock=SIX_LOCK.text(), image=IMAGE, size=7)
    cloud.verify(asked.id)

    def listed(user: str, digest: str = "") -> list[EnvironmentInfo]:
        request = ListEnvironments(user_id=user, digest=digest)
        reply: Reply = cloud.turn(lambda turn: requests.answer(turn, request))
        assert reply.environments is not None
        return reply.environments

    (mine,), (whole,), (hers,) = listed("ada"), listed("ada", SIX_LOCK.digest[:6]), listed("bob")
    assert listed("ada", "f" * 64) == []
    assert (mine.modules, hers.modules) == (("m",), ())
    assert (mine.lock, whole.lock) == ("", SIX_LOCK.text())
    assert (whole.requirements, whole.image, whole.size) == (("six>=1",), IMAGE, 7)


def test_a_vehicle_says_how_far_it_is_and_what_it_lowers(cloud: Cloud) -> None:
    asked = cloud.deploy("minimal")
    cloud.verify(asked.id)
    digest = digest_of(SOURCE, "minimal")

    def says(state: str, reason: str) -> dict[str, Any]:
        report = ModuleReport.model_validate(
            {"id": new_id(), "user_id": "ada", "name": "m", "side": Side.ONBOARD, "generation": 1,
             "digest": digest, "state": state, "reason": reason}
        )  # fmt: skip
        cloud.turn(lambda turn: shipped.reported(turn, "car-1", report))
        return {e.id: e.states["car-1"].model_dump() for e in cloud.events().values()}

    assert says("pending", "3 of 9 MB") == {asked.id: {"state": "pending", "reason": "3 of 9 MB"}}
    lowered = {asked.id: {"state": "ready", "reason": "time_s is 5 here"}}
    assert says("ready", "time_s is 5 here") == lowered
    assert says("pending", "9 of 9 MB") == {}  # it comes late


def test_what_many_vehicles_say_in_one_turn_is_told_once(cloud: Cloud) -> None:
    names = [f"car-{number}" for number in range(2, 32)]
    for name in names:
        cloud.edge(name, "vehicles")
    asked = cloud.deploy("minimal")
    cloud.verify(asked.id)

    def all_say(turn: Turn) -> None:
        for name in names:
            report = ModuleReport(
                id=new_id(), user_id="ada", name="m", side=Side.ONBOARD, generation=1,
                digest=digest_of(SOURCE, "minimal"), state="refused", reason=f"{name} does not",
            )  # fmt: skip
            shipped.reported(turn, name, report)

    cloud.turn(all_say)
    (told,) = cloud.sent
    event = cloud.events()[told.topic.rpartition("/")[2]]
    assert {event.states[name].reason for name in names} == {f"{name} does not" for name in names}
