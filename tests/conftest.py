"""What tests share: an engine or a clear word that there is none, a broker, and where data lies."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# Its reaper is an image that would have to be pulled; what tests start ends with their fixtures.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

# On a loaded machine a single example may take long; the tests' own time-out is what bounds them.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")

ROOT = Path(__file__).parent.parent
#: On containers that tests start, with the process that started them.
TEST_LABEL = "io.oodida.test"
RECORDINGS = ROOT.parent / "shared" / "data" / "carobd"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the attacks be made under another runtime of the engine."""
    parser.addoption(
        "--sandbox-runtime",
        metavar="NAME",
        help="the runtime of the engine for tests/attack, such as runsc; default: the engine's",
    )


def missing(what: str) -> None:
    """Skip on a laptop, fail in CI: there, what is missing is a defect."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait for a condition; False if it has not come about in time."""
    pause = threading.Event()
    for _ in range(int(seconds * 20)):
        if condition():
            return True
        pause.wait(0.05)
    return False


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings."""
    if not (RECORDINGS / "drive1.csv").is_file():
        pytest.skip(f"the recordings are not at {RECORDINGS.relative_to(ROOT.parent)}")
    return RECORDINGS


@pytest.fixture(scope="session")
def engine() -> None:
    """A container engine that answers."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=10)
        client.ping()
        client.close()
    except DockerException as e:
        missing(f"no container engine answers ({e}); `make setup` installs and starts one")


@pytest.fixture(scope="session")
def broker(engine: None) -> Iterator[str]:  # noqa: ARG001
    """The address of a broker in a container, the image that is shipped."""
    with a_broker() as url:
        yield url


@contextmanager
def a_broker() -> Iterator[str]:
    """One that nobody else speaks with."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    from images.build import ensure

    container = DockerContainer(ensure("broker", progress=print)).with_exposed_ports(1883)
    container.waiting_for(LogMessageWaitStrategy("mosquitto version .* running"))
    with container:
        yield f"mqtt://127.0.0.1:{container.get_exposed_port(1883)}"


@pytest.fixture(scope="session")
def postgres(engine: None) -> Iterator[str]:  # noqa: ARG001
    """The SQLAlchemy URL of a PostgreSQL in a container, the image that is shipped.

    Its data lies in memory; what it writes, it writes as it would to a disk. The user may make
    databases.
    """
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    from images.build import ensure

    password = secrets.token_urlsafe(24)
    container = DockerContainer(ensure("postgres", progress=print)).with_exposed_ports(5432)
    container.with_env("POSTGRES_PASSWORD", password)
    container.with_kwargs(
        labels={TEST_LABEL: str(os.getpid())},
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    )
    for place in ("/var/lib/postgresql/data", "/run/postgresql"):
        container.with_tmpfs_mount(place, "uid=10001,gid=10001,mode=0700")
    container.waiting_for(LogMessageWaitStrategy("ready to accept connections"))
    with container:
        grant = ["psql", "-U", "postgres", "-d", "postgres", "-c", "ALTER ROLE oodida CREATEDB"]
        status, output = container.exec(grant)
        assert status == 0, output
        port = container.get_exposed_port(5432)
        yield f"postgresql+psycopg://oodida:{password}@127.0.0.1:{port}/oodida"


@pytest.fixture
def postgres_database(postgres: str) -> Iterator[str]:
    """The URL of an empty database of its own, which goes with the test."""
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import ProgrammingError

    def dropped() -> bool:
        """False while it is being vacuumed: nobody else may end a superuser's work."""
        try:
            with maker.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        except ProgrammingError as problem:
            if "permission denied to terminate process" not in str(problem):
                raise
            return False
        else:
            return True

    name = f"test_{secrets.token_hex(6)}"
    maker = create_engine(postgres, isolation_level="AUTOCOMMIT")
    try:
        with maker.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
        assert until(dropped), "it goes on being vacuumed"
    finally:
        maker.dispose()
