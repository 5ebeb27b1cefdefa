"""Libraries of an analyst's own: found and built once, on every vehicle, and traceable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import docker
import pytest

import oodida
from protocol.environment import Lock
from protocol.module import digest_of
from tests import wheels
from tests.end_to_end.test_commands import oodida_

pytestmark = pytest.mark.alone

LABEL = "io.oodida.environment"
USES = """\
import tinylib

def custom_code(window):
    return tinylib.twice(len(window))
"""
TINY = {"tinylib.py": "def twice(number):\n    return 2 * number\n"}


class Place(NamedTuple):
    """A system whose worker takes libraries from the folder `shelf`; `mine` is the analyst's."""

    fleet: oodida.Fleet
    shelf: Path
    mine: Path


@pytest.fixture(scope="module")
def place(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:  # noqa: ARG001
    """Two vehicles, and wheels to be had: some that fit, some that do not."""
    index, mine = tmp_path_factory.mktemp("index"), tmp_path_factory.mktemp("mine")
    wheels.make(index, "baselib", "1.0")
    wheels.make(index, "baselib", "2.0")
    wheels.make(index, "needsold", requires=["baselib<2"])
    wheels.make(index, "elsewhere", tags="cp313-cp313-win_amd64")
    wheels.make(mine, "tinylib", files=TINY, requires=["baselib>=2"])
    before = set(images())
    vehicles = dict.fromkeys(("car-1", "car-2"))
    with oodida.local(vehicles, wheel_folder=index) as fleet:
        yield Place(fleet, index, mine)
    with closing(docker.from_env()) as client:
        for name in set(images()) - before:
            client.images.remove(name, force=True)


def images() -> dict[str, str]:
    """The images of environments that the engine has: id by name, and the id itself."""
    with closing(docker.from_env()) as client:
        found = client.images.list(filters={"label": LABEL})
        return {tag: str(image.id) for image in found for tag in image.tags}


def collect(module: str) -> oodida.Assignment:
    return oodida.Assignment(
        onboard=oodida.Onboard("custom", module=module, signals="VEHICLE_SPEED", samples=4),
        offboard=oodida.Offboard("collect"),
    )


def deploy(
    place: Place, told: list[str] | None = None, name: str = "m", source: str = USES
) -> oodida.Deployment:
    """The module with its library, and what was told on the way."""
    tell = (told if told is not None else []).append
    own = oodida.Environment(wheels=place.mine)
    return place.fleet.deploy(source, name=name, environment=own, progress=tell)


def test_a_module_uses_its_library_and_the_result_leads_to_the_lock(place: Place) -> None:
    told: list[str] = []
    made = deploy(place, told)
    assert made.states == {"car-1": "ready", "car-2": "ready"}
    run = place.fleet.submit(collect("m"))
    assert run.result(60) == [8, 8]
    (digest,) = {result.digest for result in run.iterations[0].results}
    (module,) = [m for m in place.fleet.modules() if m.digest == digest]
    assert digest == digest_of(USES, module.environment)
    lock = Lock.from_text(place.fleet.environment(module.environment).lock)
    assert lock.digest == module.environment == made.environment
    assert {(p.name, p.version) for p in lock.packages} == {("baselib", "2.0"), ("tinylib", "1.0")}
    assert any(line.startswith("building") for line in told), told


def test_the_same_is_neither_built_nor_sent_again(place: Place) -> None:
    first, before = deploy(place), images()
    told: list[str] = []
    again = deploy(place, told, name="another", source=f"# changed\n{USES}")
    assert again.states == {"car-1": "ready", "car-2": "ready"}
    assert (again.environment, again.digest != first.digest) == (first.environment, True)
    assert not any(line.startswith(("building", "sending", "car-")) for line in told), told
    assert images() == before
    (one,) = [e for e in place.fleet.environments() if e.digest == first.environment]
    assert {"m", "another"} <= set(one.modules)


def test_the_cloud_side_can_use_it_by_its_digest(place: Place) -> None:
    made = deploy(place)
    source = "import tinylib\ndef custom_code(results):\n    return tinylib.twice(sum(results))\n"
    place.fleet.deploy(source, name="c", to="cloud", environment=made.environment)
    run = place.fleet.submit(
        oodida.Assignment(
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=3),
            offboard=oodida.Offboard("custom", module="c"),
        )
    )
    assert run.result(60) == 12
    with pytest.raises(oodida.BadRequest, match="there is no environment"):
        place.fleet.deploy(source, name="c", to="cloud", environment="0" * 64)


@pytest.mark.parametrize(
    ("requirements", "reason", "word"),
    [
        (["nosuchlibrary"], "unknown_package", "nosuchlibrary"),
        (["baselib>=3"], "no_version", "baselib"),
        (["baselib>=2", "needsold"], "conflict", "baselib"),
        (["elsewhere"], "no_wheel", "elsewhere"),
    ],
)
def test_what_cannot_be_had_is_said_and_the_old_generation_keeps_running(
    place: Place, requirements: list[str], reason: str, word: str
) -> None:
    name = f"kept-{reason.replace('_', '-')}"
    kept = place.fleet.deploy("def custom_code(window):\n    return 1\n", name=name)
    environments = place.fleet.environments()
    for _ in range(2):  # a second try is one
        with pytest.raises(oodida.EnvironmentRefused, match=word) as caught:
            place.fleet.deploy(
                USES, name=name, environment=oodida.Environment(requirements, place.mine)
            )
        assert caught.value.details["reason_code"] == reason
    (module,) = [m for m in place.fleet.modules() if m.name == name]
    assert (module.generation, module.digest) == (1, kept.digest)
    assert place.fleet.environments() == environments
    assert place.fleet.submit(collect(name)).result(60) == [1, 1]


def test_a_module_that_its_libraries_do_not_help_is_refused_by_the_trial(place: Place) -> None:
    deploy(place)
    with pytest.raises(oodida.ModuleRefused, match="otherlib"):
        deploy(place, source=USES.replace("import tinylib", "import tinylib, otherlib"))
    with pytest.raises(oodida.ModuleRefused, match="line 1"):  # before anything is sent
        deploy(place, source="def custom_code(window:\n")


def test_limits_and_the_results_form_travel_with_a_module(place: Place) -> None:
    slow = "import time\ndef custom_code(window):\n    time.sleep(20 * (len(window) == 4))\n"
    place.fleet.deploy(slow, name="slow", limits={"time_s": 1}, profile="small")
    run = place.fleet.submit(collect("slow"))
    with pytest.raises(oodida.AssignmentFailed) as caught:
        run.result(60)
    assert {"time limit of 1 s" in p.reason for p in caught.value.participation.values()} == {True}
    refused: list[dict[str, Any]] = [{"profile": "huge"}, {"limits": {"time_s": 99.0}}]
    for fields in refused:
        with pytest.raises(oodida.OodidaError, match="profile"):
            place.fleet.deploy(slow, name="slow", **fields)
    with pytest.raises(oodida.BadLimits, match="there is no limit"):
        place.fleet.deploy(slow, name="slow", limits={"speed": 1})
    text = "def custom_code(window):\n    return 'text'\n"
    place.fleet.deploy(text, name="text", returns={"type": "string"})
    assert place.fleet.submit(collect("text")).result(60) == ["text", "text"]
    place.fleet.deploy(text, name="text", returns={"type": "number"})
    with pytest.raises(oodida.AssignmentFailed) as caught:
        place.fleet.submit(collect("text")).result(60)
    assert all("number" in p.reason for p in caught.value.participation.values())
    with pytest.raises(oodida.ModuleRefused, match="declares"):
        place.fleet.deploy(text, name="text", returns={"type": "number"}, example=[1.0])
    with pytest.raises(oodida.ModuleRefused, match="schema"):
        place.fleet.deploy(text, name="text", returns={"type": "nothing"})


def test_commands(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "count.py"
    file.write_text(USES)
    who: dict[str, Any] = {"url": place.fleet.url, "identity": place.fleet.identity}
    out, _ = oodida_("deploy", str(file), "--wheels", str(place.mine), "--json", **who)
    digest = json.loads(out)["environment"]
    out, _ = oodida_("environments", **who)
    assert digest[:12] in out
    assert "tinylib-1.0-py3-none-any.whl" in out
    out, _ = oodida_("environments", "show", digest[:12], **who)
    lock = place.fleet.environment(digest).lock
    assert "tinylib==1.0" in lock
    assert lock in out
    assert "count" in out
    out, _ = oodida_("environments", "show", digest, "--json", **who)
    assert json.loads(out)["lock"] == lock
    _, err = oodida_("environments", "show", "ffff", status=1, **who)
    assert "unknown_environment" in err
    _, err = oodida_("deploy", str(file), "-r", "no such thing", status=1, **who)
    assert "environment_refused" in err
    out, _ = oodida_("profiles", "--json")
    assert {"default", "maximum"} <= set(json.loads(out))


def test_a_lock_gives_the_same_environment_once_more_or_says_why_not(
    place: Place, tmp_path: Path
) -> None:
    made = deploy(place)
    who: dict[str, Any] = {"url": place.fleet.url, "identity": place.fleet.identity}
    shown, _ = oodida_("environments", "show", made.environment[:10], **who)
    kept = tmp_path / "kept.lock"
    kept.write_text(shown)
    again = oodida.Environment(lock=kept, wheels=place.mine)
    told: list[str] = []
    second = place.fleet.deploy(f"# later\n{USES}", "m", environment=again, progress=told.append)
    assert second.environment == made.environment
    assert second.states == {"car-1": "ready", "car-2": "ready"}

    lock = Lock.from_text(place.fleet.environment(made.environment).lock)
    other = lock.model_copy(update={"base": "oodida/sandbox-minimal:0123456789abcdef"}).text()
    changed = oodida.Environment(lock=other, wheels=place.mine)
    with pytest.raises(oodida.EnvironmentRefused, match="base image") as caught:
        place.fleet.deploy(USES, "m", environment=changed)
    assert caught.value.details["reason_code"] == "other_base"

    gone = lock.packages[0].model_copy(update={"sha256": "0" * 64})
    lost = lock.model_copy(update={"packages": (gone, *lock.packages[1:])}).text()
    with pytest.raises(oodida.EnvironmentRefused) as caught:
        place.fleet.deploy(USES, "m", environment=oodida.Environment(lock=lost, wheels=place.mine))
    assert caught.value.details["reason_code"] in {"hash_differs", "gone"}
    assert [m.generation for m in place.fleet.modules() if m.name == "m"] == [second.generation]


def test_the_beginning_of_a_digest_names_an_environment(place: Place) -> None:
    made = deploy(place)
    again = place.fleet.deploy(f"# again\n{USES}", "m", environment=made.environment[:12])
    assert again.environment == made.environment
    with pytest.raises(oodida.OodidaError, match="no environment's digest begins with 0123456789"):
        place.fleet.deploy(USES, "m", environment="0123456789")


def test_requirements_that_are_for_something_else_are_said_to_be(place: Place) -> None:
    nothing = oodida.Environment(["baselib; python_version < '3'"])
    with pytest.raises(oodida.EnvironmentRefused, match="Nothing of what is asked for") as caught:
        place.fleet.deploy(USES, "m", environment=nothing)
    assert caught.value.details["reason_code"] == "bad_requirement"
