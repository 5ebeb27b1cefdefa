"""Environments of the analysts' own: asked for once, built by one worker, known from then on."""

from __future__ import annotations

from typing import Final, NamedTuple

from packaging.requirements import Requirement

from orchestrator import wheels
from orchestrator.store import changes, environment_queries, queries
from orchestrator.store.tables import EdgeRow, EnvironmentRow
from orchestrator.turn import Turn, dump, error_reply, load, presence
from protocol import topics
from protocol.environment import EnvironmentSpec, Lock, Reason, refused
from protocol.errors import NoWorker, OodidaError, UnknownEnvironment
from protocol.lifecycle import EnvironmentState
from protocol.messages import BuildOrder, BuildReport, ErrorReply
from protocol.module import Environment

#: How long a worker may take to build, and how much longer its word is waited for, in seconds.
BUILD_S: Final = 15 * 60.0
MARGIN_S: Final = 30.0
#: How long a lost worker's work waits for one that can do it.
GRACE_S: Final = 60.0
#: How often an environment is begun anew, when a worker has used up its time or all are lost.
MAX_BUILDERS: Final = 3
_MAX_MESSAGE: Final = 2000


class Known(NamedTuple):
    """An environment that modules can be sent with: what it is called, and where it is had from."""

    name: str
    image: str | None


def ask(turn: Turn, user: str, asked: str | EnvironmentSpec) -> Known | None:
    """Find an environment; None if it is being built, which is begun if nobody has yet.

    Raises UnknownEnvironment for a digest that is not known, NoWorker if nobody can build, and
    EnvironmentRefused if a wheel has not been sent.
    """
    if isinstance(asked, str):
        return by_name(turn, asked)
    row = environment_queries.environment(turn.session, asked.key)
    if row is not None and row.state != EnvironmentState.REFUSED:
        return _known(row)
    worker = _builder(turn)
    if not worker:
        raise NoWorker(
            "no worker here can build environments; start one with --registry, or use one that is "
            "built already: `oodida environments` lists them"
        )
    wheels.require(turn, user, asked)
    if row is None:
        row = EnvironmentRow(
            key=asked.key, spec=dump(asked), state=EnvironmentState.BUILDING,
            digest="", lock="", image="", size=0, built_at=None,
        )  # fmt: skip
        turn.session.add(row)
    else:
        again = "it is asked for again"
        changes.move_environment(
            turn.session, row, EnvironmentState.BUILDING, now=turn.now, cause=again
        )
    row.user_id, row.error, row.builders = user, None, 1
    row.deadline_at = turn.now + BUILD_S + MARGIN_S
    _order(turn, row, worker)
    return None


def by_name(turn: Turn, name: str) -> Known:
    """Find one by its name or digest. Raises UnknownEnvironment."""
    if name in list(Environment):
        return Known(name, None)
    for row in environment_queries.built(turn.session, name, limit=1):
        return Known(row.digest, row.image)
    raise UnknownEnvironment(
        f"there is no environment {name}; `oodida environments` lists those that are built"
    )


def by_key(turn: Turn, key: str) -> Known | None:
    """Find one by the key of its request; None while it is not built."""
    row = environment_queries.environment(turn.session, key)
    return _known(row) if row is not None else None


def _known(row: EnvironmentRow) -> Known | None:
    return Known(row.digest, row.image) if row.state == EnvironmentState.BUILT else None


def spec_of(row: EnvironmentRow) -> EnvironmentSpec:
    """What was asked for."""
    return EnvironmentSpec.model_validate(load(row.spec))


def _builder(turn: Turn, *, without: str = "") -> str:
    """The worker that builds least of all who can; "" if nobody can."""
    can = [
        row.name
        for row in queries.edges(turn.session, "workers")
        if row.name != without and _can_build(row)
    ]
    busy = [row.builder for row in environment_queries.building(turn.session)]
    return min(can, key=lambda name: (busy.count(name), name), default="")


def _can_build(row: EdgeRow) -> bool:
    try:
        return row.online and presence(row).builds
    except ValueError:  # stored by another version
        return False


def _order(turn: Turn, row: EnvironmentRow, worker: str) -> None:
    row.builder, row.progress = worker, f"asked {worker} to build it"
    turn.session.flush()
    spec = spec_of(row)
    left = max(1.0, (row.deadline_at or turn.now) - turn.now - MARGIN_S)
    wheels.send(turn, row.user_id, spec, worker, left)
    order = BuildOrder(id=row.key, spec=spec, timeout_s=left)
    turn.order(topics.orders("workers", worker), order, left)


def reported(turn: Turn, worker: str, report: BuildReport) -> EnvironmentRow | None:
    """A worker has said how far it is; the environment if that changes anything."""
    row = environment_queries.environment(turn.session, report.order)
    if row is None or row.state != EnvironmentState.BUILDING or row.builder != worker:
        return None  # said twice, too late, or by one who was not asked
    if report.state == "building":
        row.progress = report.progress.replace("\0", "")
    elif report.state == "refused":
        _refuse(turn, row, _error_of(report))
    else:
        _built(turn, row, report)
    turn.session.flush()
    return row


def _built(turn: Turn, row: EnvironmentRow, report: BuildReport) -> None:
    spec = spec_of(row)
    try:
        lock = Lock.from_text(report.lock)
    except OodidaError:
        problem = "its lock cannot be read"
    else:
        problem = misfit(spec, lock)
        if not problem and report.image is None:
            problem = "it does not say where the image is"
        if not problem:
            changes.move_environment(
                turn.session, row, EnvironmentState.BUILT, now=turn.now, cause="it was built"
            )
            row.digest, row.lock, row.image = lock.digest, report.lock, report.image or ""
            row.size, row.built_at, row.deadline_at = report.size, turn.now, None
            turn.session.flush()
            own = [
                r for r in environment_queries.building(turn.session) if r.user_id == row.user_id
            ]
            wheels.forget(turn, row.user_id, spec, map(spec_of, own))
            return
    message = f"{row.builder} has built something else than was asked for: {problem}."
    _refuse(turn, row, error_reply(refused(Reason.BUILD_FAILED, message)))


def misfit(spec: EnvironmentSpec, lock: Lock) -> str:
    """In what way a lock is none for this request; "" if it is one."""
    if spec.lock and lock.text() != spec.lock:
        return "it is not the lock that was asked for"
    files = {(package.file, package.sha256) for package in lock.packages}
    for wheel in spec.wheels:
        if (wheel.name, wheel.sha256) not in files:
            return f"{wheel.name} is not in it as it was sent"
    versions = {package.name: package.version for package in lock.packages}
    for requirement in map(Requirement, spec.requirements):
        version = versions.get(requirement.name)
        if version is None and requirement.marker is not None:
            continue  # for another platform or interpreter, perhaps
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            return f"{requirement} is not met by {version or 'what is in it'}"
    return ""


def _error_of(report: BuildReport) -> ErrorReply:
    """A worker's error, which is not ours, in bounds."""
    told = report.error
    if told is None:
        message = "the worker could not build the environment, and does not say why"
        return error_reply(refused(Reason.BUILD_FAILED, message))
    known = [reason.value for reason in Reason]
    reason = str(told.details.get("reason_code", ""))
    if told.code != "environment_refused" or reason not in known:
        reason = Reason.BUILD_FAILED.value
    details = {"reason_code": reason}
    if isinstance(package := told.details.get("package"), str):
        details["package"] = package[:200]
    message = told.message[:_MAX_MESSAGE]
    return ErrorReply(code="environment_refused", message=message, details=details)


def _refuse(turn: Turn, row: EnvironmentRow, error: ErrorReply) -> None:
    changes.move_environment(
        turn.session, row, EnvironmentState.REFUSED, now=turn.now, cause=error.message
    )
    row.deadline_at, row.error = None, dump(error)
    turn.session.flush()


def worker_up(turn: Turn, worker: str) -> list[EnvironmentRow]:
    """A worker is there (again): ask it for what nobody builds, and for what it was building."""
    row = queries.edge(turn.session, "workers", worker)
    if row is None or not _can_build(row):
        return []
    waiting = [r for r in environment_queries.building(turn.session) if r.builder in ("", worker)]
    for environment in waiting:
        if not environment.builder and not _again(turn, environment):
            continue  # perhaps it is what all of them die of
        _order(turn, environment, worker)
    return waiting


def _again(turn: Turn, row: EnvironmentRow) -> bool:
    """Give an environment its full time once more; False if it is refused now."""
    if row.builders < MAX_BUILDERS:
        row.builders += 1
        row.deadline_at = turn.now + BUILD_S + MARGIN_S
        return True
    late = f"{row.builder} has not built it within {BUILD_S:g} s"
    message = f"{late if row.builder else row.progress}; try again."
    _refuse(turn, row, error_reply(refused(Reason.TIMEOUT, message)))
    return False


def worker_gone(turn: Turn, worker: str) -> list[EnvironmentRow]:
    """A worker is lost: another one builds, as soon as there is one."""
    lost = [r for r in environment_queries.building(turn.session) if r.builder == worker]
    for row in lost:
        other = _builder(turn, without=worker)
        if other:
            _order(turn, row, other)
            continue
        row.builder, row.progress = "", f"{worker} is gone; waiting for a worker that can build"
        row.deadline_at = min(row.deadline_at or turn.now, turn.now + GRACE_S)
    turn.session.flush()
    return lost


def overdue(turn: Turn, key: str) -> EnvironmentRow | None:
    """A worker's time is over: another is asked, or nobody; the environment."""
    row = environment_queries.environment(turn.session, key)
    if row is None or row.state != EnvironmentState.BUILDING:
        return None
    other = _builder(turn, without=row.builder)
    if not other:
        row.builders = MAX_BUILDERS
    if _again(turn, row):
        _order(turn, row, other)
    return row
