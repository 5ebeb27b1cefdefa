"""`oodida simulate`: real edge runtimes, many to a process, for whoever has no fleet yet."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import oodida
from edge_runtime.signals import SimulatedDriver
from edge_runtime.simulate.plan import Plan
from edge_runtime.simulate.taken import refuse_taken
from protocol.errors import ModuleRefused, NameInUse
from tests import command
from tests.conftest import until

pytestmark = pytest.mark.alone
PROGRAM = "from oodida.cli import main; main()"


@pytest.fixture(scope="module")
def cloud(engine: None) -> Iterator[oodida.Fleet]:  # noqa: ARG001
    """A system without vehicles of its own."""
    with oodida.local({}, trust=False) as fleet:
        yield fleet


@contextmanager
def simulated(
    url: str, *words: str
) -> Iterator[tuple[subprocess.Popen[str], list[dict[str, Any]]]]:
    """The command, once it has said that all are there; and what it said until then."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "simulate", "--json", f"--url={url}", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    told: list[dict[str, Any]] = []
    try:
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == "ready":
                break
        yield process, told
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


MEAN = oodida.Assignment(
    onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=10),
    offboard=oodida.Offboard("mean"),
)


def online(cloud: oodida.Fleet) -> set[str]:
    return {v.name for v in cloud.vehicles() if v.online}


def end(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C does; it says goodbye."""
    assert process.stdout is not None
    os.kill(process.pid, signal.SIGINT)
    assert json.loads(process.stdout.read().splitlines()[-1]) == {"event": "ended"}
    assert process.wait(30) == 0


def test_a_simulated_fleet_works_and_leaves_nothing(cloud: oodida.Fleet) -> None:
    before = set(Path(tempfile.gettempdir()).glob("oodida-simulate-*"))
    words = ["--vehicles=24", "--processes=2", "--prefix=try-", "--attribute=model=golf|polo"]
    with simulated(cloud.url, *words) as (process, told):
        assert told[-1]["vehicles"] == 24
        assert online(cloud) == {f"try-{n:05d}" for n in range(1, 25)}

        run = cloud.submit(
            oodida.Assignment(
                vehicles=oodida.Select.where(model="golf"),
                onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=10),
                offboard=oodida.Offboard("mean"),
                iterations=2,
            )
        )
        run.result()
        for iteration in run.iterations:
            assert [r.vehicle for r in iteration.results] == [
                f"try-{n:05d}" for n in range(1, 25, 2)
            ]
            for result in iteration.results:
                driver = SimulatedDriver.named(result.vehicle)
                window = driver.samples("VEHICLE_SPEED", 10 * (iteration.number - 1), 10)
                assert result.value == pytest.approx(statistics.mean(window))

        told_once = (
            r"one was refused by try-00001, .*, \.\.\. \(24\): .*custom modules are not run here"
        )
        with pytest.raises(ModuleRefused, match=told_once):
            cloud.deploy("def custom_code(window): return 1", name="one")
        end(process)
    assert not online(cloud)
    assert set(Path(tempfile.gettempdir()).glob("oodida-simulate-*")) <= before


def test_no_broker_is_one_clear_error() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "edge_runtime.simulate", "--vehicles=3", "--processes=2",
         "--url=mqtt://127.0.0.1:9"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def failed(*words: str) -> str:
    done = command.run("simulate", *words)
    assert done.status == 1
    return " ".join(done.err.split())


def test_names_that_are_online_already_are_refused(cloud: oodida.Fleet) -> None:
    with simulated(cloud.url, "--vehicles=4", "--prefix=same-") as (process, _):
        told = failed("--vehicles=2", "--prefix=same-", f"--url={cloud.url}")
        assert told.startswith("error name_in_use: 2 of these vehicles are online already")
        assert "--prefix" in told
        with simulated(cloud.url, "--vehicles=2", "--prefix=other-") as (other, told_by_other):
            assert told_by_other[-1]["event"] == "ready"
            end(other)
        end(process)


def test_of_two_with_one_name_the_first_ends_and_no_phantom_is_left(cloud: oodida.Fleet) -> None:
    twins = Plan(cloud.url, Path(), count=3, prefix="twin-")
    with simulated(cloud.url, "--vehicles=3", "--prefix=twin-") as (first, _):
        # Two that begin at the same moment both find nobody there: as if this one had.
        second = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.simulate", "--part", "--vehicles=3", "--json",
             "--prefix=twin-", f"--url={cloud.url}"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert second.stdout is not None
        try:
            assert first.wait(30) == 1
            assert until(lambda: online(cloud) == {f"twin-0000{n}" for n in (1, 2, 3)})
            for _ in range(2):  # they stay, and work: nobody takes their names back
                cloud.submit(MEAN).result(timeout_s=20)
            # Nor has the first one's end cleared what the broker keeps of them.
            with pytest.raises(NameInUse, match="3 of these vehicles"):
                asyncio.run(refuse_taken(twins))
            second.terminate()
            assert second.wait(30) == 0
        finally:
            second.kill()
            second.stdout.close()
    assert until(lambda: not online(cloud))
    with simulated(cloud.url, "--vehicles=2", "--prefix=after-") as (process, _):
        run = cloud.submit(MEAN)  # for all, and waits for none of those that are gone
        run.result(timeout_s=20)
        assert {r.vehicle for r in run.iterations[0].results} == {"after-00001", "after-00002"}
        end(process)


@pytest.mark.parametrize("there", [1, 200], ids=["while they connect", "when all are there"])
def test_told_to_stop_it_says_nothing_but_that(cloud: oodida.Fleet, there: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "always", "-m", "edge_runtime.simulate", "--vehicles=200",
         "--prefix=short-", f"--url={cloud.url}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert until(lambda: len(online(cloud)) >= there)
        process.terminate()
        said, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, complaint) == (0, "")
    assert said.splitlines()[-1] == "ended"
    assert until(lambda: not online(cloud))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_says_goodbye_without_complaint(
    cloud: oodida.Fleet, how: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "simulate", "--json", f"--url={cloud.url}",
         "--vehicles=8", "--processes=2", "--prefix=ended-"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert until(lambda: len(online(cloud)) == 8)
        process.send_signal(how)
        _, complaint = process.communicate(timeout=60)  # until all that it has started is gone
    finally:
        process.kill()
    assert complaint == ""
    assert process.returncode == (0 if how == signal.SIGTERM else -how)
    assert until(lambda: not online(cloud))


def test_what_is_wrong_with_the_command_is_one_error_in_its_own_words() -> None:
    told = failed("--vehicles=2", "--attribute=model")
    assert told == "error bad_request: --attribute: 'model' is not NAME=VALUE, or NAME=VALUE|VALUE"


def test_whoever_runs_no_modules_is_sent_none_and_says_so_when_asked(cloud: oodida.Fleet) -> None:
    cloud.deploy("def custom_code(window): return 1", name="early")
    asked = oodida.Assignment(
        onboard=oodida.Onboard("custom", module="early", signals="VEHICLE_SPEED", samples=10),
        offboard=oodida.Offboard("collect"),
    )
    with simulated(cloud.url, "--vehicles=2", "--prefix=plain-") as (process, _):
        with pytest.raises(oodida.AssignmentFailed) as told:
            cloud.submit(asked).result(timeout_s=20)
        mine = {n: p for n, p in told.value.participation.items() if n.startswith("plain-")}
        assert [p.status for p in mine.values()] == ["refused", "refused"]
        assert all("has no sandbox" in p.reason for p in mine.values())
        (module,) = [m for m in cloud.modules() if m.name == "early"]
        assert not [name for name in module.states if name.startswith("plain-")]
        end(process)


def test_fifty_that_join_a_cloud_with_five_modules_do_not_hold_it_up(cloud: oodida.Fleet) -> None:
    for number in range(5):
        cloud.deploy(f"def custom_code(window): return {number}", name=f"many_{number}")
    with simulated(cloud.url, "--vehicles=50", "--prefix=many-") as (process, _):
        run = cloud.submit(MEAN)
        run.result(timeout_s=30)
        assert len(run.iterations[0].results) == 50
        asked = [m for m in cloud.modules() if m.name.startswith("many_")]
        assert len(asked) == 5
        assert not [n for module in asked for n in module.states if n.startswith("many-")]
        end(process)


@pytest.mark.usefixtures("engine")
def test_simulated_vehicles_with_certificates_work_where_they_are_asked_for() -> None:
    with oodida.local({}) as cloud:
        assert cloud.identity is not None
        identities = cloud.identity.parents[1]
        enroll = ("enroll", "vehicle", "safe-", "--count", "6", "--pki", str(identities.parent))
        assert command.run(*enroll).status == 0
        words = ["--vehicles=6", "--processes=2", "--prefix=safe-"]
        words.append(f"--identities={identities / 'vehicle'}")
        with simulated(cloud.url, *words) as (process, told):
            assert told[-1]["event"] == "ready"
            run = cloud.submit(MEAN)
            run.result(timeout_s=30)
            assert len(run.iterations[0].results) == 6
            run.proof().verify(cloud.identity / "ca.pem")  # each has signed what it said
            end(process)
