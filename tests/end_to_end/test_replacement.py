"""A module is replaced while its assignment runs, and nothing else notices."""

from __future__ import annotations

import itertools
import os
from contextlib import closing
from pathlib import Path

import docker
import pytest

import oodida
from tests.conftest import until
from tests.end_to_end.conftest import VEHICLES, System

#: Each says in its value which code made it, so that value and digest can be held together.
FIRST = "def custom_code(window):\n    return 1\n"
SECOND = "def custom_code(window):\n    return 2\n"
SLOW = "import time\ndef custom_code(window):\n    time.sleep(1)\n    return 1\n"


def forever(module: str, **changes: object) -> oodida.Assignment:
    return oodida.Assignment(
        onboard=oodida.Onboard("custom", module=module, signals="VEHICLE_SPEED", samples=3),
        offboard=oodida.Offboard("collect"),
        iterations=1000,
        **changes,  # type: ignore[arg-type]
    )


def children() -> set[str]:
    """The processes that this one has started, by number."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {pid for path in tasks for pid in path.read_text().split()}


def test_a_new_generation_takes_effect_at_the_next_call_and_results_are_never_mixed(
    ada: oodida.Fleet, system: System
) -> None:
    processes = children()
    old = ada.deploy(FIRST, name="m")
    run = ada.submit(forever("m"))
    seen = []
    new = None
    for iteration in run:
        seen.append(iteration)
        if len(seen) == 2:
            new = ada.deploy(SECOND, name="m")
        if new is not None and iteration.number > seen[1].number + 60:
            break
        if [r.digest for r in iteration.results] == [new.digest] * 3 if new else False:
            break
    run.cancel()
    assert new is not None
    code = {old.digest: (1, 1), new.digest: (2, 2)}
    for iteration in seen:
        assert len({r.digest for r in iteration.results}) == 1
        for result in iteration.results:
            assert (result.value, result.generation) == code[result.digest or ""]
    assert [r.value for r in seen[0].results] == [1, 1, 1]
    assert [r.value for r in seen[-1].results] == [2, 2, 2]
    assert [i.number for i in seen] == list(range(1, len(seen) + 1))
    assert children() == processes  # nothing was restarted
    del system


def test_a_call_that_runs_is_not_touched(ada: oodida.Fleet) -> None:
    slow = ada.deploy(SLOW, name="m")
    run = ada.submit(forever("m", vehicles=oodida.Select.ids("car-1")))
    iterations = iter(run)
    next(iterations)
    new = ada.deploy(SECOND, name="m")  # a call of the slow code is under way now
    digests = []
    for iteration in iterations:
        (result,) = iteration.results
        assert result.value == (1 if result.digest == slow.digest else 2)
        digests.append(result.digest)
        if result.digest == new.digest:
            break
    run.cancel()
    assert digests == [slow.digest, new.digest]


def test_code_that_comes_while_a_window_fills_is_what_computes_it(ada: oodida.Fleet) -> None:
    ada.deploy(FIRST, name="m")
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids(*VEHICLES),
            onboard=oodida.Onboard(
                "custom", module="m", signals="VEHICLE_SPEED", samples=12, rate_hz=2
            ),
            offboard=oodida.Offboard("collect"),
        )
    )
    ada.deploy(SECOND, name="m")
    assert not run.ended  # the window takes six seconds, and is not full yet
    assert run.result() == [2, 2, 2]


def test_an_off_board_module_is_replaced_in_the_same_way(ada: oodida.Fleet) -> None:
    ada.deploy("def custom_code(results):\n    return 'first'\n", name="m", to="cloud")
    run = ada.submit(
        oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=3),
            offboard=oodida.Offboard("custom", module="m"),
            iterations=1000,
        )
    )
    values = []
    for iteration in run:
        values.append(iteration.value)
        if iteration.number == 2:
            ada.deploy("def custom_code(results):\n    return 'then'\n", name="m", to="cloud")
        if iteration.value == "then" or iteration.number == 100:
            break
    run.cancel()
    assert values[:2] == ["first", "first"]
    assert values[-1] == "then"
    assert set(values[2:-1]) <= {"first"}


def test_an_assignment_by_another_user_shows_no_gap_and_no_changed_value(
    ada: oodida.Fleet, bob: oodida.Fleet
) -> None:
    def bobs(iterations: int, rate_hz: float | None) -> oodida.Run:
        return bob.submit(
            oodida.Assignment(
                vehicles=oodida.Select.ids(*VEHICLES),
                onboard=oodida.Onboard(
                    "mean", signals="VEHICLE_SPEED", samples=20, rate_hz=rate_hz
                ),
                offboard=oodida.Offboard("collect"),
                iterations=iterations,
            )
        )

    ada.deploy(FIRST, name="m")
    run = ada.submit(forever("m"))
    beside = bobs(1000, rate_hz=100)
    for source in (SECOND, FIRST, SECOND):
        came = len(beside.iterations)
        ada.deploy(source, name="m")
        assert not beside.ended  # the replacement fell into his run
        next(itertools.islice(beside, came, None))  # which goes on
    together = beside.iterations
    beside.cancel()
    run.cancel()
    assert all(p.status == "included" for i in together for p in i.participation.values())
    assert [i.number for i in together] == list(range(1, len(together) + 1))
    alone = bobs(len(together), rate_hz=None)  # the same windows, without waiting
    assert [i.value for i in alone] == [i.value for i in together]


def test_you_read_your_own_writes(ada: oodida.Fleet) -> None:
    for generation in range(1, 6):
        source = f"def custom_code(window):\n    return {generation}\n"
        ada.deploy(source, name="m", wait=False).wait()
        run = ada.submit(
            oodida.Assignment(
                onboard=oodida.Onboard("custom", module="m", signals="VEHICLE_SPEED", samples=1),
                offboard=oodida.Offboard("collect"),
            )
        )
        assert run.result() == [generation] * 3


def test_a_cancelled_assignment_ends_and_leaves_nothing_running(ada: oodida.Fleet) -> None:
    ada.deploy(SLOW, name="m")
    run = ada.submit(forever("m"))
    next(iter(run))
    assert until(lambda: bool(busy_containers("vehicle-car-1")))
    run.cancel()
    for _ in run:
        pass
    assert run.ended
    with pytest.raises(oodida.AssignmentCancelled) as caught:
        run.result()
    assert caught.value.code == "cancelled"
    assert until(lambda: not busy_containers("vehicle-car-1"))


def busy_containers(owner: str) -> list[str]:
    """The containers of a runtime in which a module runs: more than the guest that waits."""
    with closing(docker.from_env()) as client:
        found = client.api.containers(filters={"label": f"io.oodida.owner={owner}"})
        return [c["Id"] for c in found if processes(client, c["Id"]) > 1]


def processes(client: docker.DockerClient, container: str) -> int:
    try:
        return len(client.api.top(container)["Processes"] or ())  # None: it has just ended
    except docker.errors.APIError:  # it has ended meanwhile
        return 0
