"""The deployments of compose/, as they are shipped: the cloud, and a vehicle beside it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

import oodida
from oodida.pki.folder import Pki
from protocol import identity
from protocol.link import credentials
from tests.conftest import ROOT, missing, until
from tests.leaks import files, keys, leaked, places

pytestmark = pytest.mark.alone

#: Of this run alone: others may have a deployment on this machine too.
PROJECT = f"test-{os.getpid()}"
TEN_SAMPLES = oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=10)
DOUBLED = "def custom_code(results):\n    return [2 * result for result in results]\n"

LIST = "import os; print(os.listdir('/revoked'))"

Deploy = Callable[..., str]


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def deploy(engine: None, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:  # noqa: ARG001
    """What runs compose/deploy.sh, for a project of this test's own that is gone afterwards."""
    if subprocess.run(
        ["docker", "compose", "version"],  # noqa: S607
        capture_output=True,
        check=False,
    ).returncode:
        missing("'docker compose' does not answer; `make setup` installs it")
    run, registry = tmp_path_factory.mktemp("run"), free_port()
    common = {
        **os.environ,
        "PYTHON": sys.executable,
        "OODIDA_RUN": str(run),
        "OODIDA_HEALTH_INTERVAL": "1s",
        "OODIDA_BROKER_PORT": str(port),
        "OODIDA_REGISTRY_PORT": str(registry),
        "OODIDA_REGISTRY": f"127.0.0.1:{registry}",
        "OODIDA_VEHICLE": f"{PROJECT}-car",
        "OODIDA_BROKER_URL": "",
        "OODIDA_IDENTITY": "",
        "OODIDA_USER": "ada",
    }
    own = {
        "cloud": {"COMPOSE_PROJECT_NAME": f"{PROJECT}-cloud"},
        "vehicle": {
            "COMPOSE_PROJECT_NAME": f"{PROJECT}-car",
            "OODIDA_BROKER_URL": "mqtts://broker:8883",
            "OODIDA_NETWORK": f"{PROJECT}-cloud_outside",
        },
    }

    def deploy(verb: str, what: str, *more: str, fails: bool = False, **otherwise: str) -> str:
        done = subprocess.run(
            [ROOT / "compose" / "deploy.sh", verb, what, *more],
            env={**common, **own[what], **otherwise},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    try:
        yield deploy
    finally:
        for what in ("vehicle", "cloud"):
            if (run / f"{what}.env").exists():
                deploy("down", what, "--volumes", "--timeout", "5")


def left(client: docker.DockerClient) -> list[str]:
    """Whatever of this test the engine still has."""
    label = "com.docker.compose.project"
    found = [
        thing
        for kind in (client.containers.list(all=True, ignore_removed=True), client.networks.list())
        for thing in kind
        if str((thing.attrs.get("Labels") or {}).get(label, "")).startswith(PROJECT)
        or PROJECT in str(thing.name)
    ]
    volumes = [volume for volume in client.volumes.list() if volume.name.startswith(PROJECT)]
    return [str(thing.name) for thing in [*found, *volumes]]


def assignment() -> oodida.Assignment:
    return oodida.Assignment(
        vehicles=oodida.Select.ids(f"{PROJECT}-car"),
        onboard=TEN_SAMPLES,
        offboard=oodida.Offboard("custom", module="doubled"),
        iterations=2,
        deadline_s=60,
    )


@pytest.mark.timeout(600)  # on a machine that is new, images are built first
def test_a_cloud_and_a_vehicle_that_lose_an_orchestrator_and_a_worker(
    deploy: Deploy, port: int, tmp_path: Path
) -> None:
    told = deploy("up", "cloud")
    assert f"export OODIDA_URL=mqtts://127.0.0.1:{port}" in told
    (ada,) = re.findall("export OODIDA_IDENTITY=(.*)", told)
    deploy("up", "vehicle")
    client = docker.from_env()
    with oodida.connect(f"mqtts://127.0.0.1:{port}", identity=ada) as fleet:
        assert until(lambda: any(v.online for v in fleet.vehicles()), 60)
        source = tmp_path / "doubled.py"
        source.write_text(DOUBLED)
        fleet.deploy(source, name="doubled", to="cloud")
        first = fleet.submit(assignment())
        assert len(first.result()) == 1
        first.proof().verify(Path(ada) / "ca.pem")
        # Whoever made it up administers it.
        assert "submit" in {act.action for act in fleet.audit()}
        assert "has a new certificate" in deploy("renew", "cloud", OODIDA_USER="bob")
        assert str(credentials.who(Path(ada))) == "analyst:ada"

        # A slip in a file is told before anything is touched.
        roles, policy = Path(ada).parents[1] / "authority/roles.toml", tmp_path / "policy.toml"
        policy.write_text("policy = 2\n")
        good = roles.read_text()
        roles.write_text(good.replace('"administrator"', '"admin"'))
        told = deploy("up", "cloud", fails=True)
        assert f"bad_authority_file: {roles}: users.ada.role" in told
        assert "bad_policy" in deploy("up", "vehicle", fails=True, OODIDA_POLICY=str(policy))
        roles.write_text(good)

        # Who is revoked, each orchestrator knows; it sees the list, and not the broker's key.
        gone, pki = identity.of("analyst", "gone"), Pki(roles.parents[1] / "pki")
        pki.enroll(gone, datetime.now(UTC))
        pki.revoke(gone, datetime.now(UTC))
        clouds = [client.containers.get(f"{PROJECT}-cloud-orchestrator-{n}-1") for n in (1, 2)]
        assert until(lambda: all(b"crl.pem has changed" in one.logs() for one in clouds))
        assert clouds[0].exec_run(["/usr/bin/python3", "-c", LIST]).output == b"['crl.pem']\n"

        for part in ("orchestrator-1", "worker-1"):
            client.containers.get(f"{PROJECT}-cloud-{part}-1").kill()
        # Those that are left do all of it; nobody waits for the dead ones to come back.
        assert len(fleet.submit(assignment()).result()) == 1

    with pytest.raises(oodida.LinkError):
        oodida.connect(f"mqtt://127.0.0.1:{port}", user="ada")
    (file,) = {one.resolve() for one in tmp_path.parent.glob("run*/secrets/store_password")}
    run = file.parent.parent
    secrets = {str(path): piece for path, piece in keys(run).items()}
    assert len(secrets) >= 8  # authority, broker, two orchestrators, two workers, vehicle, ada
    secrets["the store's password"] = file.read_text().strip().encode()
    shown = [*places(of_containers=PROJECT), *files(run, {file, *map(Path, secrets)})]
    assert leaked({"what is no secret": b"store_password"}, shown)  # it would be found
    assert leaked(secrets, shown) == set()
    kept = deploy("down", "cloud", "--timeout", "5")
    assert "volumes are kept" in kept
    assert f"{PROJECT}-cloud_postgres" in left(client)
    ended = deploy("down", "vehicle", "--volumes", "--timeout", "5", OODIDA_BROKER_URL="")
    assert "nothing of it is left" in ended
    deploy("down", "cloud", "--volumes", "--timeout", "5")
    assert "nothing to end" in deploy("down", "cloud")
    assert until(lambda: left(client) == []), left(client)
    client.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"OODIDA_VEHICLE": ""}, "OODIDA_VEHICLE is not set"),
        ({"OODIDA_VEHICLE": "", "OODIDA_BROKER_URL": ""}, "OODIDA_BROKER_URL is not set"),
        ({"OODIDA_VEHICLE": "car 1"}, "is no name"),
        ({"OODIDA_BROKER_URL": ""}, "OODIDA_BROKER_URL is not set"),
        ({"OODIDA_BROKER_URL": "broker:8883"}, "is no mqtts://host:port"),
        ({"OODIDA_BROKER_URL": "mqtt://broker:1883"}, "is no mqtts://host:port"),
        ({"OODIDA_IDENTITY": "/nowhere"}, "holds no ca.pem"),
        ({"OODIDA_POLICY": "/nowhere/policy.toml"}, "is no file"),
        ({"OODIDA_BROKER_URL": "mqtts://127.0.0.1:8883"}, "is the vehicle's own container"),
        ({"OODIDA_NETWORK": f"{PROJECT}-nowhere"}, "there is no network"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_started(
    deploy: Deploy, wrong: dict[str, str], told: str
) -> None:
    assert told in deploy("up", "vehicle", fails=True, **wrong)
    with closing(docker.from_env()) as client:
        assert left(client) == []


def test_a_vehicle_that_finds_no_cloud_is_removed_again_with_its_last_words(deploy: Deploy) -> None:
    nowhere = {"OODIDA_BROKER_URL": "mqtts://203.0.113.1:8883", "OODIDA_NETWORK": "none"}
    told = deploy("up", "vehicle", fails=True, OODIDA_WAIT_S="8", **nowhere)
    assert "203.0.113.1" in told
    assert "is removed again" in told
    with closing(docker.from_env()) as client:
        assert left(client) == []


def test_a_vehicle_sees_the_policy_of_its_keeper_and_does_not_start_with_a_broken_one(
    deploy: Deploy, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    policy = tmp_path / "of-car.toml"
    policy.write_text("policy = 1\ncustom_kode = false\n")
    car, now = identity.of("vehicle", f"{PROJECT}-car"), datetime.now(UTC)
    Pki.init(tmp_path / "pki", ["localhost"], now).enroll(car, now, to=tmp_path / "identity")
    given = {"OODIDA_POLICY": str(policy), "OODIDA_IDENTITY": str(tmp_path / "identity")}
    given |= {"OODIDA_NETWORK": "none"}
    told = deploy("up", "vehicle", fails=True, **given)
    assert f"bad_policy: {policy}: custom_kode: there is no such setting" in told
    with closing(docker.from_env()) as client:
        assert left(client) == []
    # A good one it is that the vehicle reads; it finds no cloud, and is removed again.
    policy.write_text("policy = 1\ncustom_code = false\n")
    told = deploy("up", "vehicle", fails=True, OODIDA_WAIT_S="8", **given)
    assert "is removed again" in told
    assert "bad_policy" not in told


def test_vehicles_of_different_names_are_different_projects(deploy: Deploy) -> None:
    # What Compose would call them itself has no capital letters and no dots.
    names = ["car-1", "Car-1", "car.1", "car_1", "CAR-1", "cloud"]
    told = [
        deploy("run", "vehicle", "config", OODIDA_VEHICLE=name, COMPOSE_PROJECT_NAME="")
        for name in names
    ]
    projects = {line for text in told for line in text.splitlines() if line.startswith("name:")}
    assert len(projects) == len(names)
    assert "name: oodida-car-1" in projects
    assert "name: oodida-cloud" not in projects
