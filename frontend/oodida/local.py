"""A whole system on this machine: the only place that knows all the parts.

Broker and registry in containers; orchestrator, worker and vehicles as processes of their own,
which end with the process that started them, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from edge_runtime.signals import open_source
from oodida.fleet import Fleet, connect
from oodida.throwaway import Throwaway
from protocol.assignment import Attribute
from protocol.errors import BadLimits, BadRecording, BadRequest, SetupError
from protocol.identity import IdentityRole
from protocol.imports.rules import read as read_rules
from protocol.limits import Profiles
from protocol.module import Environment
from protocol.topics import is_name

START_S: Final = 60.0
STOP_S: Final = 15.0
MAX_PORT: Final = 65_535
#: Whose service a container is: "pid:start time" of the process that started it.
OWNER_LABEL: Final = "io.oodida.local"
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
    _check(vehicles, attributes or {})
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
        address = stack.enter_context(_service(images["broker"], inside, port, options=with_tls))
        url = f"{'mqtt' if issuer is None else 'mqtts'}://{address}"

        def proves(role: IdentityRole, name: str) -> list[str]:
            return [f"--identity={issuer.enroll(role, name)}"] if issuer is not None else []

        tell("starting the registry")
        registry = stack.enter_context(
            _service(images["registry"], 5000, state="/var/lib/registry")
        )
        tell(f"starting orchestrator, worker and {len(vehicles)} vehicles")
        sandbox = [f"--image={e.value}={images[f'sandbox-{e.value}']}" for e in Environment]
        stack.callback(_forget_images, registry)
        parts = _Parts(home)
        stack.callback(parts.stop)
        common = ["--broker", url, "--stop-on-eof"]
        cloud = [*common, *proves("orchestrator", "orchestrator")]
        cloud.append(f"--store=sqlite:///{home}/store.db")
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
    vehicles: Mapping[str, str | Path | None], attributes: Mapping[str, Mapping[str, Attribute]]
) -> None:
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
    from orchestrator.authority import Authority

    grant = Authority.read(Path(file)).grant(user)
    return {name for name, attributes in vehicles.items() if grant.sees(attributes)}


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


@contextlib.contextmanager
def _service(
    image: str, inside: int, port: int = 0, state: str | None = None,
    options: Mapping[str, object] | None = None,
) -> Iterator[str]:  # fmt: skip
    """A container of which one port can be reached on loopback; host:port. It may write `state`.

    ``options`` go to the engine as they are.
    """
    import docker
    from docker.errors import DockerException

    client: Any = None
    container: Any = None
    try:
        try:
            client = docker.from_env(timeout=30)
            _reap(client)
            container = client.containers.create(
                image,
                ports={f"{inside}/tcp": ("127.0.0.1", port or None)},
                **{"volumes": [state] if state else [], **(options or {})},
                labels={OWNER_LABEL: _identity(os.getpid())},
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            )
            container.start()
            container.reload()
            found = container.ports[f"{inside}/tcp"][0]["HostPort"]
        except DockerException as e:
            raise SetupError(_what_to_do(e, port)) from e
        yield f"127.0.0.1:{found}"
    finally:
        if container is not None:
            with contextlib.suppress(DockerException):
                container.remove(force=True, v=True)
        if client is not None:
            client.close()


def _forget_images(registry: str) -> None:
    """Remove the names that images have from a registry which is gone with its port."""
    import docker
    from docker.errors import DockerException

    with contextlib.suppress(DockerException), contextlib.closing(docker.from_env()) as client:
        for image in client.images.list(filters={"reference": f"{registry}/*/*"}):
            names = [*image.tags, *image.attrs.get("RepoDigests", ())]
            for name in names:
                if name.startswith(f"{registry}/"):
                    with contextlib.suppress(DockerException):  # it went with the name before
                        client.images.remove(name)


def _what_to_do(problem: Exception, port: int) -> str:
    if "already allocated" in str(problem) or "already in use" in str(problem):
        return (
            f"port {port} is taken on this machine; choose another (--port), or 0 for any free one"
        )
    return f"the container engine: {problem}. `make setup` installs and starts one"


def _identity(pid: int) -> str:
    """The process behind a number: the number alone is used again by others."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}:gone"
    return f"{pid}:{after_name[19]}"


def _reap(client: Any) -> None:
    """Remove containers whose process died without a chance to."""
    from docker.errors import DockerException

    found = client.containers.list(all=True, filters={"label": OWNER_LABEL}, ignore_removed=True)
    for container in found:
        owner = container.labels.get(OWNER_LABEL, "")
        pid = owner.partition(":")[0]
        if pid.isdigit() and _identity(int(pid)) != owner:
            with contextlib.suppress(DockerException):  # somebody else may be at it too
                container.remove(force=True, v=True)


class _Parts:
    """The processes that were started, each with its log."""

    def __init__(self, home: Path) -> None:
        self._logs = home / "logs"
        self._logs.mkdir(exist_ok=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._files: list[IO[bytes]] = []

    def start(self, name: str, program: str, options: Sequence[str]) -> None:
        log = (self._logs / f"{name}.log").open("wb")
        self._files.append(log)
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-P", "-m", program, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # an interrupt from the keyboard is ours to hand on
        )

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until every process has said that it is ready."""
        until = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            for name, process in self._processes.items():
                if process.stdout is not None:
                    selector.register(process.stdout, selectors.EVENT_READ, name)
            while selector.get_map():
                found = selector.select(max(0.0, until - time.monotonic()))
                if not found:
                    late = ", ".join(str(key.data) for key in selector.get_map().values())
                    raise SetupError(f"not ready within {timeout_s:g} s: {late}")
                for key, _ in found:
                    if os.read(key.fd, 100).strip() != b"ready":
                        raise SetupError(f"{key.data} has ended: {self._last_words(key.data)}")
                    selector.unregister(key.fileobj)

    def _last_words(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """End them all: the orchestrator last, so that the others' goodbyes are heard."""
        first = self._processes.pop("orchestrator", None)
        self._end(list(self._processes.values()))
        self._end([first] if first is not None else [])
        for file in self._files:
            file.close()

    @staticmethod
    def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        until = time.monotonic() + STOP_S
        for process in processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _wait_online(fleet: Fleet, vehicles: set[str]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        online = {v.name for v in fleet.vehicles() if v.online}
        if vehicles <= online and any(w.online for w in fleet.workers()):
            return
        time.sleep(0.02)
    raise SetupError("not every vehicle came online in time")
