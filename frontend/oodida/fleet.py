"""The analyst's view of a fleet."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from oodida import audit, check
from oodida.asked import environment_of, example_of, limits_of, side_of
from oodida.connection import Connection
from oodida.deployment import Deployment, Progress
from oodida.environment import Environment
from oodida.run import Run
from oodida.source import read
from protocol.assignment import MAX_ITERATIONS, Assignment, Select
from protocol.audit import Entry
from protocol.environment import Reason
from protocol.errors import (
    BadRequest,
    EnvironmentRefused,
    NotAwaiting,
    OodidaError,
    UnknownEnvironment,
)
from protocol.lifecycle import AssignmentState
from protocol.limits import DEFAULT
from protocol.messages import (
    Approve,
    AssignmentInfo,
    Cancel,
    Decision,
    Deploy,
    DeploymentEvent,
    EndEvent,
    EnvironmentInfo,
    History,
    ListAssignments,
    ListDecisions,
    ListEnvironments,
    ListModules,
    ListReviews,
    ListVehicles,
    ModuleInfo,
    Reject,
    Resume,
    Review,
    Submit,
    VehicleInfo,
    new_id,
)
from protocol.module import Environment as Shipped
from protocol.module import Side
from protocol.topics import is_name

#: How long `deploy` waits, in seconds: for a module, and for one whose libraries may have to be
#: found, built and brought to the vehicles first.
DEPLOY_S: Final = 30.0
BUILD_S: Final = 15 * 60.0


class Fleet:
    """A connection to the cloud as one user. Close it, or use it as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def user(self) -> str:
        """Who asks."""
        return self._connection.user

    @property
    def url(self) -> str:
        """The broker's address."""
        return self._connection.url

    @property
    def identity(self) -> Path | None:
        """The folder that proves who we are; None where there are no certificates."""
        return self._connection.identity

    def close(self) -> None:
        """Disconnect. What runs goes on, and can be watched again after connecting again."""
        self._connection.close()

    def vehicles(self) -> list[VehicleInfo]:
        """Every vehicle that was ever seen: online or not, its attributes and signals."""
        return [v for v in self._edges() if v.role == "vehicle"]

    def workers(self) -> list[VehicleInfo]:
        """Every off-board worker that was ever seen."""
        return [v for v in self._edges() if v.role == "worker"]

    def _edges(self) -> list[VehicleInfo]:
        return self._connection.ask(ListVehicles(user_id=self.user)).vehicles or []

    def modules(self) -> list[ModuleInfo]:
        """This user's current modules, and where each is ready."""
        return self._connection.ask(ListModules(user_id=self.user)).modules or []

    def assignments(self, *, everybody: bool = False) -> list[AssignmentInfo]:
        """This user's assignments, newest first; with ``everybody`` those of all users.

        Raises Forbidden if this user may not see what others have.
        """
        asked = ListAssignments(user_id=self.user, everybody=everybody)
        return self._connection.ask(asked).assignments or []

    def environments(self) -> list[EnvironmentInfo]:
        """The environments that were built for anybody, newest first, without their locks."""
        return self._connection.ask(ListEnvironments(user_id=self.user)).environments or []

    def environment(self, digest: str) -> EnvironmentInfo:
        """The environment whose digest begins like this, with its lock.

        Raises UnknownEnvironment if there is none, BadRequest if there are several.
        """
        if not re.fullmatch("[0-9a-f]{1,64}", digest):
            raise BadRequest(f"{digest!r:.80} is no beginning of a digest: 0 to 9 and a to f")
        asked = ListEnvironments(user_id=self.user, digest=digest)
        found = self._connection.ask(asked).environments or []
        if not found:
            raise UnknownEnvironment(
                f"no environment's digest begins with {digest}; `oodida environments` lists them"
            )
        if len({environment.digest for environment in found}) > 1:
            raise BadRequest(f"several environments begin with {digest}; give more of the digest")
        return found[0]

    def audit(
        self,
        user: str | None = None,
        action: str | None = None,
        since: dt.datetime | None = None,
    ) -> Iterator[Entry]:
        """What was done and what was refused, by anybody, oldest first; asked for page by page.

        ``user`` is an analyst's name, or ``role:name`` of anybody. Raises BadAuditLog if the log
        holds what is no entry.
        """
        lines = audit.lines(self._connection, user, action, since)
        return (audit.entry(line) for line in lines)

    def audit_lines(self) -> Iterator[str]:
        """The whole audit log, each entry as the line that it is in an export."""
        return audit.lines(self._connection)

    def deploy(
        self,
        module: str | Path | Callable[..., Any],
        name: str | None = None,
        to: Literal["vehicles", "cloud"] = "vehicles",
        *,
        vehicles: Select | None = None,
        environment: str | Environment | None = None,
        profile: str = DEFAULT,
        limits: Mapping[str, float] | None = None,
        returns: Mapping[str, Any] | None = None,
        example: Any = None,
        wait: bool = True,
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Deployment:
        """Ship a module: a path, its source as text, or a function object.

        It is tried here first, in a process of its own, and again by the cloud in its sandbox;
        then it goes to the vehicles (those that ``vehicles`` selects, default all) or to the cloud.
        A generation that is there already is replaced, at each vehicle's next call.

        ``environment`` is "minimal" (the interpreter), "science" (NumPy, SciPy, pandas,
        scikit-learn), an `Environment` of libraries of your own, or the digest of one that is built
        already; None takes science if the source imports one of its libraries, else minimal.
        ``profile`` names the limits of a call, of which ``limits`` lowers single ones, such as
        ``{"time_s": 2}``. ``returns`` is a JSON schema that each result has to fit. ``example`` is
        an argument to try it with, where the forms that are tried do not suit.
        With ``wait``, returns when everyone who can be reached is ready or has refused, or after
        ``timeout_s``: None is 30 s, or 15 min with libraries of your own; without, at once.
        ``progress`` is told meanwhile, a line at a time, how far it is.

        Raises ModuleRefused with line and reason, or EnvironmentRefused if the libraries cannot be
        had, and then nothing has changed anywhere; BadRequest and its kin for what cannot be a
        deployment at all.
        """
        side = side_of(to)
        source, default = read(module)
        name = name or default
        if not is_name(name):
            raise BadRequest(f"{name!r:.80} is no name: letters, digits, and . _ - after the first")
        if timeout_s is not None and not timeout_s > 0:
            raise BadRequest(f"timeout_s is {timeout_s!r}: give seconds above 0, or None")
        if returns is not None and not isinstance(returns, Mapping):
            raise BadRequest(f"returns is a JSON schema as a dict, not {type(returns).__name__}")
        own = environment if isinstance(environment, Environment) else None
        named = "" if isinstance(environment, Environment) else self._named(environment, source)
        tree = example_of(example)
        check.require(source, side, named, tree, name)
        request = Deploy(
            user_id=self.user,
            mode="deploy_onboard" if side is Side.ONBOARD else "deploy_offboard",
            id=new_id(),
            name=name,
            custom_code=source,
            environment=own.spec if own is not None else named,
            limits=limits_of(profile, limits),
            returns=dict(returns) if returns is not None else None,
            vehicles=vehicles,
            example=tree,
        )
        if self._connection.signer is not None:
            request = request.signed(self._connection.signer, time.time())
        deployment = Deployment(self._connection, request.id)
        try:
            deployment.take(self._taken(request, own, progress or (lambda _: None)))
        except BaseException:
            deployment.forget()
            raise
        if timeout_s is None:
            timeout_s = DEPLOY_S if named in list(Shipped) else BUILD_S
        return deployment.wait(timeout_s, progress) if wait else deployment

    def _named(self, given: str | None, source: str) -> str:
        """The environment that is meant: its name, or the beginning of its digest."""
        if isinstance(given, str) and re.fullmatch("[0-9a-f]{6,63}", given):
            return self.environment(given).digest
        return environment_of(given, source)

    def _taken(
        self, request: Deploy, own: Environment | None, progress: Progress
    ) -> DeploymentEvent:
        """Have the cloud take a deployment, and the wheels that it has not got yet."""
        try:
            reply = self._connection.ask(request)
        except EnvironmentRefused as error:
            if own is None or error.details.get("reason_code") != Reason.MISSING_WHEEL:
                raise
            own.send(self._connection, error.details.get("missing", ()), progress)
            reply = self._connection.ask(request)
        if reply.deployment is None:
            raise BadRequest("the cloud's reply says nothing of the deployment")
        return reply.deployment

    def reviews(self) -> list[Review]:
        """The deployments that wait for approval, without their sources. Raises Forbidden."""
        return self._connection.ask(ListReviews(user_id=self.user)).reviews or []

    def review(self, deployment: str) -> Review:
        """One of them, with its source and that of the generation before. Raises NotAwaiting."""
        asked = ListReviews(user_id=self.user, deployment=_id(deployment))
        found = self._connection.ask(asked).reviews or []
        if not found:
            raise NotAwaiting(f"no deployment {deployment} waits for approval")
        return found[0]

    def decisions(self, *, everybody: bool = False) -> list[Decision]:
        """This user's deployments that had to wait, and what became of each; newest first.

        Who decided, when and why; ``everybody`` is for those of all users, and raises Forbidden if
        this user may not see what others have.
        """
        asked = ListDecisions(user_id=self.user, everybody=everybody)
        return self._connection.ask(asked).decisions or []

    def approve(self, review: Review) -> None:
        """Let a deployment be shipped: the code that was looked at, and no other.

        Raises Forbidden if one's role does not allow it, or it is one's own: it takes four eyes.
        """
        asked = Approve(user_id=self.user, deployment=review.deployment, digest=review.digest)
        self._connection.ask(asked)

    def reject(self, deployment: str, reason: str = "") -> None:
        """Do not let a deployment be shipped; its analyst is told why."""
        asked = Reject(user_id=self.user, deployment=_id(deployment), reason=reason[:4000])
        self._connection.ask(asked)

    def submit(self, assignment: Assignment) -> Run:
        """Start an assignment. Raises BadRequest and its kin; then nothing was stored."""
        if not isinstance(assignment, Assignment):
            raise BadRequest(f"submit takes an Assignment, not {type(assignment).__name__}")
        id_ = new_id()
        run = Run(self._connection, id_, assignment)
        try:
            request = Submit(user_id=self.user, id=id_, assignment=assignment)
            if self._connection.signer is not None:
                request = request.signed(self._connection.signer, time.time())
            self._connection.ask(request)
        except OodidaError:
            run.forget()
            raise
        return run

    def run(self, id_: str) -> Run:
        """Watch an assignment that was submitted before, from its first iteration on."""
        if not is_name(id_):
            raise BadRequest(f"{id_!r:.80} is no assignment's id; `oodida watch` lists them")
        run = Run(self._connection, id_)
        try:
            run.catch_up()
        except OodidaError:
            run.forget()
            raise
        return run

    def resume(self, id_: str) -> None:
        """Go on with an assignment that is halted. Raises NotHalted if it is not."""
        if not is_name(id_):
            raise BadRequest(f"{id_!r:.80} is no assignment's id")
        self._connection.ask(Resume(user_id=self.user, assignment=id_))

    def cancel(self, id_: str) -> AssignmentState:
        """End an assignment: the state that it ended in, another one if it had ended before."""
        if not is_name(id_):
            raise BadRequest(f"{id_!r:.80} is no assignment's id")
        self._connection.ask(Cancel(user_id=self.user, assignment=id_))
        # After the last iteration there can be, only the end is told.
        asked = History(user_id=self.user, assignment=id_, after=MAX_ITERATIONS)
        told = self._connection.ask(asked).history or []
        ends = [event.state for event in told if isinstance(event, EndEvent)]
        return ends[-1] if ends else AssignmentState.CANCELLED


def _id(deployment: str) -> str:
    if not is_name(deployment):
        raise BadRequest(f"{deployment!r:.80} is no deployment's id; `oodida review` lists them")
    return deployment
