"""The analyst's view of a fleet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, Self

from oodida import check
from oodida.connection import Connection
from oodida.deployment import Deployment
from oodida.run import Run
from oodida.source import environment_for, read
from protocol import values
from protocol.assignment import Assignment, Select
from protocol.errors import BadRequest, BadValue, OodidaError, UnknownEnvironment
from protocol.messages import (
    AssignmentInfo,
    Cancel,
    Deploy,
    ListAssignments,
    ListModules,
    ListVehicles,
    ModuleInfo,
    Submit,
    VehicleInfo,
    new_id,
)
from protocol.module import Environment, Side
from protocol.topics import is_name

DEFAULT_URL: Final = "mqtt://127.0.0.1:1883"


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

    def assignments(self) -> list[AssignmentInfo]:
        """This user's assignments, newest first."""
        return self._connection.ask(ListAssignments(user_id=self.user)).assignments or []

    def deploy(
        self,
        module: str | Path | Callable[..., Any],
        name: str | None = None,
        to: Literal["vehicles", "cloud"] = "vehicles",
        *,
        vehicles: Select | None = None,
        environment: str | None = None,
        example: Any = None,
        wait: bool = True,
        timeout_s: float = 30.0,
    ) -> Deployment:
        """Ship a module: a path, its source as text, or a function object.

        It is tried here first, in a process of its own, and again by the cloud in its sandbox;
        then it goes to the vehicles (those that ``vehicles`` selects, default all) or to the cloud.
        A generation that is there already is replaced, at each vehicle's next call.

        ``environment`` is "minimal" (the interpreter) or "science" (NumPy, SciPy, pandas,
        scikit-learn); None takes science if the source imports one of these, else minimal.
        ``example`` is an argument to try it with, where the forms that are tried do not suit.
        With ``wait``, returns when everyone who can be reached is ready or has refused, or after
        ``timeout_s``; without, at once.

        Raises ModuleRefused with line and reason, and then nothing has changed anywhere;
        BadRequest and its kin for what cannot be a deployment at all.
        """
        side = side_of(to)
        source, default = read(module)
        name = name or default
        if not is_name(name):
            raise BadRequest(f"{name!r:.80} is no name: letters, digits, and . _ - after the first")
        env = environment_of(environment, source)
        tree = _example(example)
        check.require(source, side, env, tree, name)
        request = Deploy(
            user_id=self.user,
            mode="deploy_onboard" if side is Side.ONBOARD else "deploy_offboard",
            id=new_id(),
            name=name,
            custom_code=source,
            environment=env,
            vehicles=vehicles,
            example=tree,
        )
        deployment = Deployment(self._connection, request.id)
        try:
            reply = self._connection.ask(request)
        except OodidaError:
            deployment.forget()
            raise
        if reply.deployment is None:
            raise BadRequest("the cloud's reply says nothing of the deployment")
        deployment.take(reply.deployment)
        return deployment.wait(timeout_s) if wait else deployment

    def submit(self, assignment: Assignment) -> Run:
        """Start an assignment. Raises BadRequest and its kin; then nothing was stored."""
        if not isinstance(assignment, Assignment):
            raise BadRequest(f"submit takes an Assignment, not {type(assignment).__name__}")
        id_ = new_id()
        run = Run(self._connection, id_, assignment)
        try:
            self._connection.ask(Submit(user_id=self.user, id=id_, assignment=assignment))
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

    def cancel(self, id_: str) -> None:
        """End an assignment. No harm if it has ended."""
        if not is_name(id_):
            raise BadRequest(f"{id_!r:.80} is no assignment's id")
        self._connection.ask(Cancel(user_id=self.user, assignment=id_))


def connect(url: str | None = None, user: str | None = None) -> Fleet:
    """Connect to a broker as a user.

    ``url`` is mqtt://host:port, by default OODIDA_URL, else the broker on this machine; ``user``
    by default OODIDA_USER, else whoever is logged in. Raises LinkError if the broker cannot be
    reached, BadRequest if the url or the user's name is none.
    """
    url = url or os.environ.get("OODIDA_URL") or DEFAULT_URL
    user = user or os.environ.get("OODIDA_USER") or _login()
    if not is_name(user):
        raise BadRequest(
            f"{user!r:.80} is no user name: letters, digits, and . _ - after the first"
        )
    return Fleet(Connection(url, user))


def _login() -> str:
    import getpass

    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "analyst"


def side_of(to: str) -> Side:
    """Where a module goes. Raises BadRequest for what is neither."""
    sides = {"vehicles": Side.ONBOARD, "cloud": Side.OFFBOARD}
    if to not in sides:
        raise BadRequest(f'a module goes to "vehicles" or to the "cloud", not to {to!r:.40}')
    return sides[to]


def environment_of(given: str | None, source: str) -> Environment:
    """The environment asked for, or the one that a source needs. Raises UnknownEnvironment."""
    if given is None:
        return environment_for(source)
    if given not in list(Environment):
        known = ", ".join(Environment)
        raise UnknownEnvironment(f"there is no environment {given!r:.60}; choose one of {known}")
    return Environment(given)


def _example(example: Any) -> values.Tree:
    try:
        return values.pack(example)
    except values.ValueProblem as problem:
        raise BadValue(f"the example: {problem}") from None
