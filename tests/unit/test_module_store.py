"""The modules of an edge runtime: newest only, one file a user and name, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.modules import ModuleStore
from protocol.endorsement import Endorsement
from protocol.errors import ModuleRefused
from protocol.module import Environment, Module, Side, digest_of


def module(generation: int = 1, user: str = "ada", name: str = "m", text: str = "") -> Module:
    source = f"def custom_code(w):\n    return {generation}\n{text}"
    return Module(
        user_id=user, name=name, side=Side.ONBOARD, generation=generation, source=source,
        environment=Environment.MINIMAL, digest=digest_of(source, "minimal"),
    )  # fmt: skip


def test_the_files_name_carries_the_users_id(tmp_path: Path) -> None:
    store = ModuleStore(tmp_path, Side.ONBOARD)
    store.put(module(user="ada"))
    store.put(module(user="bob"))
    assert sorted(p.name for p in tmp_path.glob("*.py")) == ["ada@m.py", "bob@m.py"]
    assert (tmp_path / "ada@m.py").read_text() == module().source


def test_what_is_here_is_written_again_only_if_nobody_vouches_for_it(tmp_path: Path) -> None:
    store = ModuleStore(tmp_path, Side.ONBOARD)
    words = {"certificate": "-", "at": 1.0, "signature": "-" * 88}
    both = {"deployment": "d", "asked": "minimal", "analyst": words}
    first, other = (
        module().model_copy(update={"endorsement": Endorsement.model_validate(signed)})
        for signed in ({**both, "cloud": {**words, "at": at}} for at in (1.0, 2.0))
    )
    store.put(first)
    assert store.put(other)
    assert store.get("ada", "m") == first
    assert store.put(other, again=True)
    assert store.get("ada", "m") == other
    assert ModuleStore(tmp_path, Side.ONBOARD).get("ada", "m") == other


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_whatever_the_order_of_arrival_the_newest_is_current(
    tmp_path: Path, generations: list[int]
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    store = ModuleStore(folder, Side.ONBOARD)
    for i, generation in enumerate(generations):
        assert store.put(module(generation)) == (generation >= max(generations[: i + 1]))
    current = store.get("ada", "m")
    assert current == module(max(generations))
    assert ModuleStore(folder, Side.ONBOARD).get("ada", "m") == current


def test_what_does_not_fit_its_digest_is_not_taken_over(tmp_path: Path) -> None:
    store = ModuleStore(tmp_path, Side.ONBOARD)
    store.put(module())
    store.put(module(name="other"))
    store.path("ada", "m").write_text("def custom_code(w):\n    return 'changed'\n")
    (tmp_path / "broken@x.json").write_text("{")
    again = ModuleStore(tmp_path, Side.ONBOARD)
    assert again.get("ada", "m") is None
    assert again.get("ada", "other") is not None


def test_a_module_of_the_other_side_is_not_taken_over(tmp_path: Path) -> None:
    ModuleStore(tmp_path, Side.ONBOARD).put(module())
    assert ModuleStore(tmp_path, Side.OFFBOARD).get("ada", "m") is None


def test_waiting_ends_with_the_generation_that_is_asked_for(tmp_path: Path) -> None:
    async def scenario() -> Module:
        store = ModuleStore(tmp_path, Side.ONBOARD)
        store.put(module(1))
        waiting = asyncio.create_task(store.wait("ada", "m", 3))
        for generation in (2, 3):
            await asyncio.sleep(0)
            assert not waiting.done()
            store.put(module(generation))
        return await waiting

    assert asyncio.run(scenario()) == module(3)


def test_a_refusal_that_comes_late_hides_no_newer_one(tmp_path: Path) -> None:
    store = ModuleStore(tmp_path, Side.ONBOARD)
    store.refuse(module(3), "too many limits")
    store.refuse(module(2), "no such library")  # they are looked at side by side
    with pytest.raises(ModuleRefused, match="generation 3 of m was refused: too many limits"):
        asyncio.run(asyncio.wait_for(store.wait("ada", "m", 3), 1))


def used(folder: Path, name: str, seconds_ago: float) -> None:
    path = folder / f"ada@{name}.json"
    os.utime(path, (time.time() - seconds_ago,) * 2)


def test_what_nobody_has_used_for_long_is_removed_and_what_is_used_stays(tmp_path: Path) -> None:
    store = ModuleStore(tmp_path, Side.ONBOARD)
    for name in ("old", "used", "new"):
        store.put(module(name=name))
    used(tmp_path, "old", 100_000)
    used(tmp_path, "used", 100_000)
    asyncio.run(store.wait("ada", "used", 1))
    assert [m.name for m in store.forget_unused(keep_s=90_000)] == ["old"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "ada@new.json", "ada@new.py", "ada@old.last", "ada@used.json", "ada@used.py",
    ]  # fmt: skip
    assert store.get("ada", "old") is None
    assert ModuleStore(tmp_path, Side.ONBOARD).get("ada", "old") is None


def test_what_was_removed_is_asked_for_when_it_is_wanted_again(tmp_path: Path) -> None:
    store = ModuleStore(tmp_path, Side.ONBOARD)
    asked = []

    def missing(user: str, name: str) -> None:
        asked.append((user, name))
        store.put(module(generation=3))  # as the broker delivers it

    store.missing = missing
    assert asyncio.run(store.wait("ada", "m", 2)).generation == 3
    assert asyncio.run(store.wait("ada", "m", 2)).generation == 3
    assert asked == [("ada", "m")]


def test_what_was_removed_comes_back_no_older_than_it_was(tmp_path: Path) -> None:
    store = ModuleStore(tmp_path, Side.ONBOARD)
    store.put(module(name="old", generation=3))
    used(tmp_path, "old", 100_000)
    store.forget_unused(keep_s=90_000)
    for again in (store, ModuleStore(tmp_path, Side.ONBOARD)):
        assert again.newest("ada", "old") == 3
        assert not again.put(module(name="old", generation=2))
        assert again.get("ada", "old") is None
    assert store.put(module(name="old", generation=3))


def test_refusals_that_may_not_hold_any_more_are_forgotten_and_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = ModuleStore(tmp_path, Side.ONBOARD)
        store.refuse(module(1, name="a"), "not here", "policy_analyst")
        store.refuse(module(1, name="b"), "no such library", "environment_refused")
        store = ModuleStore(tmp_path, Side.ONBOARD)  # another life
        with pytest.raises(ModuleRefused) as refused:
            await store.wait("ada", "a", 1)
        assert refused.value.details["reason_code"] == "policy_analyst"
        assert store.forget_refusals({"policy_analyst"}) == [("ada", "a")]
        assert store.forget_refusals({"policy_analyst"}) == []
        waiting = asyncio.create_task(store.wait("ada", "a", 1))
        await asyncio.sleep(0)
        assert not waiting.done()
        store.put(module(1, name="a"))
        assert await waiting == module(1, name="a")
        with pytest.raises(ModuleRefused):
            await store.wait("ada", "b", 1)

    asyncio.run(scenario())
    assert [path.name for path in tmp_path.glob("*.refused")] == ["ada@b.refused"]
