"""A whole system on this machine: the only place that knows all the parts.

Broker and registry in containers; orchestrator, worker and vehicles as processes of their own,
which end with the process that started them, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.signals import open_source
from oodida.connecting import connect
from oodida.containers import forget_images, service
from oodida.fleet import Fleet
from oodida.parts import Parts
from oodida.throwaway import Throwaway
from protocol import identity
from protocol.assignment import Attribute
from protocol.errors import BadLimits, BadRecording, BadRequest, SetupError
from protocol.identity import IdentityRole
from protocol.imports.rules import read as read_rules
from protocol.limits import Profiles
from protocol.module import Environment
from protocol.topics import is_name

if TYPE_CHECKING:
    from orchestrator.authority import Authority

START_S: Final = 60.0
MAX_PORT: Final = 65_535
Progress = Callable[[str], None]


@contextlib.contextmanager
def local(
    vehicles: Mapping[str, str | Path | None],
    *,
    user: str = "analyst",
    others: Sequence[str] = (),
    attributes: Mapping[str, Mapping[str, Attribute]] | None = None,
    rate_hz: float | None = None,
    limits: Mapping[str, float] | None = None,
    import_rules: str | Path | None = None,
    wheel_folder: str | Path | None = None,
    authority: str | Path | None = None,
    port: int = 0,
    folder: str | Path | None = None,
    trust: bool = True,
    progress: Progress | None = None,
) -> Iterator[Fleet]:
    """Start broker, registry, orchestrator, one worker and the given vehicles here.

    Gives the connected fleet.

    ``vehicles`` gives for each name the path of a recording, or None for a simulated driver.
    ``attributes`` gives for a name what `Select.where` may select by. ``rate_hz`` is the pace of
    all sources in samples a second; None is without waiting. ``limits`` sets what one call of a
    custom module may take, such as ``{"time_s": 5, "memory_mb": 256}``. ``import_rules`` is a file
    with what modules may import and use, for worker and vehicles; None are the rules that are
    shipped. ``wheel_folder`` is where the libraries of environments are taken from; None is the
    index that pip is set to. ``authority`` is a file that says who may do what, in which ``user``
    has a role; None lets everybody do what an analyst may. ``port`` is where the broker listens on
    loopback, 0 is any free one. ``folder`` keeps store, modules and logs; None is a folder that is
    removed at the end.
    ``others`` are further analysts that get a certificate: the folder beside the user's own,
    ``fleet.identity.with_name("bob")``. ``trust``: everybody here has a certificate, made for this
    system alone, and what is deployed and computed is signed; without, whoever reaches the port may
    say everything.
    ``progress`` is told what is being done.

    Nothing is left behind. Raises SetupError if something is missing, with what to do.
    """
    tell = progress or (lambda _: None)
    _check([user, *others], vehicles, attributes or {})
    _check_rules(import_rules, limits)
    awaited = _seen_by(
        user, authority, {name: (attributes or {}).get(name, {}) for name in vehicles}
    )
    if not 0 <= port <= MAX_PORT:
        raise BadRequest(f"port {port}: a port is 1 to {MAX_PORT}, or 0 for any free one")
    if wheel_folder is not None and not Path(wheel_folder).is_dir():
        raise BadRequest(f"wheel_folder: there is no folder {wheel_folder}")
    with contextlib.ExitStack() as stack:
        home = _home(stack, folder)
        images = _images(tell)
        tell("starting the broker")
        issuer = Throwaway(home / "pki") if trust else None
        with_tls = None if issuer is None else issuer.broker()
        inside = 1883 if with_tls is None else 8883
        address = stack.enter_context(service(images["broker"], inside, port, options=with_tls))
        url = f"{'mqtt' if issuer is None else 'mqtts'}://{address}"

        def proves(role: IdentityRole, name: str) -> list[str]:
            return [f"--identity={issuer.enroll(role, name)}"] if issuer is not None else []

        tell("starting the registry")
        registry = stack.enter_context(service(images["registry"], 5000, state="/var/lib/registry"))
        tell(f"starting orchestrator, worker and {len(vehicles)} vehicles")
        sandbox = [f"--image={e.value}={images[f'sandbox-{e.value}']}" for e in Environment]
        stack.callback(forget_images, registry)
        parts = Parts(home)
        stack.callback(parts.stop)
        common = ["--broker", url, "--stop-on-eof"]
        revoked = [f"--revoked={issuer.revoked}"] if issuer is not None else []
        cloud = [*common, *proves("orchestrator", "orchestrator"), *revoked,
                 f"--store=sqlite:///{home}/store.db"]  # fmt: skip
        if authority is not None:
            cloud.append(f"--authority={Path(authority).resolve()}")
        parts.start("orchestrator", "orchestrator", cloud)
        bounds = [f"--limit={name}={value}" for name, value in (limits or {}).items()]
        rules = [f"--import-rules={Path(import_rules).resolve()}"] if import_rules else []
        edge = [*common, *sandbox, *bounds, *rules]
        builds = [f"--registry={registry}"]
        if wheel_folder is not None:
            builds.append(f"--wheel-folder={Path(wheel_folder).resolve()}")
        parts.start(
            "worker-1", "edge_runtime",
            [*edge, *builds, "--role=worker", "--name=worker-1", f"--state={home}/worker-1",
             *proves("worker", "worker-1")],
        )  # fmt: skip
        for name, path in vehicles.items():
            own = [f"--name={name}", f"--state={home}/vehicle-{name}", *proves("vehicle", name)]
            own += _of_vehicle(path, rate_hz, (attributes or {}).get(name, {}))
            parts.start(f"vehicle-{name}", "edge_runtime", [*edge, *own])
        parts.wait_ready(START_S)
        who = None
        if issuer is not None:
            who = [issuer.enroll("analyst", name) for name in (*others, user)][-1]
        fleet = stack.enter_context(connect(url, user, identity=who))
        _wait_online(fleet, awaited)
        tell(f"ready at {url}")
        yield fleet


def _of_vehicle(
    path: str | Path | None, rate_hz: float | None, attributes: Mapping[str, Attribute]
) -> list[str]:
    """The options that say what a vehicle has and is."""
    recording = [f"--recording={Path(path).resolve()}"] if path is not None else []
    pace = [f"--rate-hz={rate_hz}"] if rate_hz is not None else []
    pairs = [f"--attribute={key}={json.dumps(value)}" for key, value in attributes.items()]
    return [*recording, *pace, *pairs]


def _check(
    users: Sequence[str],
    vehicles: Mapping[str, str | Path | None],
    attributes: Mapping[str, Mapping[str, Attribute]],
) -> None:
    for name in users:
        identity.of("analyst", name)  # it becomes a path
    if not isinstance(vehicles, Mapping):
        raise BadRequest("vehicles is a dict: for each name the path of a recording, or None")
    for name, path in vehicles.items():
        if not is_name(name):
            raise BadRequest(f"{name!r:.80} is no vehicle name: letters, digits, and . _ -")
        if path is not None and not Path(path).is_file():
            raise BadRecording(f"{path} is no file; without one the vehicle is a simulated driver")
        if path is not None:
            open_source(
                path, name
            )  # a recording that cannot be read is told before anything starts
    strangers = sorted(set(attributes) - set(vehicles))
    if strangers:
        raise BadRequest(f"attributes are given for {', '.join(strangers)}, which is no vehicle")


def _check_rules(import_rules: str | Path | None, limits: Mapping[str, float] | None) -> None:
    """What is wrong with these is told before anything starts."""
    if import_rules is not None:
        read_rules(import_rules)
    if not isinstance(limits, Mapping | None):
        raise BadLimits(f'limits is a dict such as {{"time_s": 5}}, not {type(limits).__name__}')
    Profiles.read().with_maximum(dict(limits or {}))


def _seen_by(
    user: str, file: str | Path | None, vehicles: Mapping[str, Mapping[str, Attribute]]
) -> set[str]:
    """Those of the vehicles that a user may use. What is wrong with the file is told at once."""
    if file is None:
        return set(vehicles)
    grant = read_authority(Path(file)).grant(user)
    return {name for name, attributes in vehicles.items() if grant.sees(attributes)}


def read_authority(file: Path) -> Authority:
    """What a file says of who may do what. Raises BadAuthorityFile, naming line or field."""
    from orchestrator.authority import Authority

    return Authority.read(file)


def _home(stack: contextlib.ExitStack, folder: str | Path | None) -> Path:
    if folder is not None:
        path = Path(folder).resolve()
        path.mkdir(parents=True, exist_ok=True)
        return path
    made = Path(tempfile.mkdtemp(prefix="oodida-"))
    stack.callback(shutil.rmtree, made, ignore_errors=True)
    return made


def _images(tell: Progress) -> dict[str, str]:
    try:
        from images.build import ImageError, ensure
    except ImportError as e:
        raise SetupError(
            f"{e.name or e} is missing: local() needs the extras edge and cloud, in a checkout"
        ) from None
    names = ["broker", "registry", *(f"sandbox-{e.value}" for e in Environment)]
    try:
        return {name: ensure(name, progress=tell) for name in names}
    except ImageError as problem:
        raise SetupError(str(problem)) from None


def sandbox_images() -> dict[str, str]:
    """The sandbox image of each environment as this checkout names it; empty where there is none.

    It need not be there.
    """
    try:
        from images.recipe import ImageError, reference
    except ImportError:
        return {}
    try:
        return {e.value: reference(f"sandbox-{e.value}") for e in Environment}
    except (ImageError, OSError):
        return {}


def _wait_online(fleet: Fleet, vehicles: set[str]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        online = {v.name for v in fleet.vehicles() if v.online}
        if vehicles <= online and any(w.online for w in fleet.workers()):
            return
        time.sleep(0.02)
    raise SetupError("not every vehicle came online in time")
