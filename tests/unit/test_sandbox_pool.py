"""The pool: so many idle containers as are wanted, started while it is quiet, and no more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from edge_runtime.sandbox import Limits, PoolSettings, pool
from edge_runtime.sandbox.container import Container
from edge_runtime.sandbox.engine import EngineFailure
from edge_runtime.sandbox.pool import Pool
from edge_runtime.sandbox.settings import Shape
from tests.conftest import until

SHAPE = Shape.of("image", Limits())
OTHER = Shape.of("image", Limits(memory_mb=64))
NONE = frozenset[str]()


class Idle(Container):
    """What the pool sees of a container."""

    def __init__(self, shape: Shape, libraries: frozenset[str]) -> None:
        self.shape, self.libraries, self.memory = shape, libraries, 10 * 2**20
        self.lives, self.discarded = True, False

    @property
    def quiet(self) -> bool:
        return self.lives

    def discard(self) -> None:
        self.discarded = True


class Engine:
    """Starts what it is told to, unless it is down."""

    def __init__(self) -> None:
        self.started: list[Idle] = []
        self.down = False
        self.tries = 0

    def start(self, shape: Shape, libraries: frozenset[str]) -> Container:
        self.tries += 1
        if self.down:
            raise EngineFailure("down")
        self.started.append(Idle(shape, libraries))
        return self.started[-1]

    @property
    def idle(self) -> list[Idle]:
        return [c for c in self.started if not c.discarded]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(pool, "QUIET_S", 0.01)
    monkeypatch.setattr(pool, "PUT_OFF_S", 0.05)
    monkeypatch.setattr(pool, "CHECK_S", 0.01)
    monkeypatch.setattr(pool, "BACKOFF_S", (0.01, 0.02))
    return Engine()


Make = Callable[..., Pool]


@pytest.fixture
def make(engine: Engine) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def made(**settings: float) -> Pool:
            chosen = PoolSettings.model_validate(settings)
            filled = Pool(engine.start, lambda _: None, chosen)
            stack.callback(filled.close)
            return filled

        yield made


def test_nothing_is_started_that_nobody_expects(engine: Engine, make: Make) -> None:
    filled = make()
    assert filled.full
    assert engine.started == []


def test_what_is_expected_is_started_and_what_is_taken_is_replaced(
    engine: Engine, make: Make
) -> None:
    filled = make(minimum=2)
    filled.expect(SHAPE, ())
    assert until(lambda: filled.full)
    assert len(engine.started) == 2
    taken = filled.take(SHAPE, NONE)
    assert taken in engine.started
    filled.done()
    assert until(lambda: len(engine.started) == 3)
    assert until(lambda: filled.full)


def test_no_pool(engine: Engine, make: Make) -> None:
    none = make(minimum=0, maximum=0)
    none.expect(SHAPE, ())
    assert none.take(SHAPE, NONE) is None
    none.done()
    assert none.full
    assert engine.tries == 0


def test_calls_of_another_shape_find_nothing(engine: Engine, make: Make) -> None:  # noqa: ARG001
    filled = make()
    filled.expect(SHAPE, ())
    assert until(lambda: filled.full)
    assert filled.take(OTHER, NONE) is None


def test_what_has_ended_while_it_waited_is_not_handed_out(engine: Engine, make: Make) -> None:
    filled = make()
    filled.expect(SHAPE, ())
    assert until(lambda: filled.full)
    dead = engine.started[0]
    dead.lives = False
    assert filled.take(SHAPE, NONE) is not dead
    filled.done()
    assert until(lambda: dead.discarded)


def test_what_has_ended_is_replaced_though_nobody_asks(engine: Engine, make: Make) -> None:
    filled = make()
    filled.expect(SHAPE, ())
    assert until(lambda: filled.full)
    engine.started[0].lives = False
    assert until(lambda: len(engine.started) == 2)
    assert engine.started[0].discarded


def test_it_grows_up_to_its_maximum_where_calls_come_faster(engine: Engine, make: Make) -> None:
    filled = make(minimum=1, maximum=3)
    filled.expect(SHAPE, ())
    assert until(lambda: filled.full)
    for _ in range(6):
        filled.take(SHAPE, NONE)
    for _ in range(6):
        filled.done()
    assert until(lambda: filled.full)
    taken = 1
    assert len(engine.idle) - taken == 3


def test_a_call_finds_what_its_own_module_imports_and_nothing_else(
    engine: Engine, make: Make
) -> None:
    filled = make()
    filled.expect(SHAPE, {"numpy"})
    filled.expect(SHAPE, {"numpy", "sklearn"})  # takes memory, which is the call's
    assert until(lambda: filled.full)
    assert len(engine.idle) == 2
    for libraries in ({"numpy"}, {"numpy", "sklearn"}):
        taken = filled.take(SHAPE, frozenset(libraries))
        assert taken is not None
        assert taken.libraries == libraries
    assert filled.take(SHAPE, NONE) is None


def test_what_came_to_be_too_many_is_removed(engine: Engine, make: Make) -> None:
    filled = make(minimum=1, maximum=3, keep_s=0.5)
    filled.expect(SHAPE, (), resident=True)
    taken = [filled.take(SHAPE, NONE) for _ in range(4)]
    for _ in taken:
        filled.done()
    assert until(lambda: len(engine.idle) - len([c for c in taken if c]) == 3)
    assert until(lambda: len(engine.idle) - len([c for c in taken if c]) == 1)


def test_one_of_which_the_weight_cannot_be_told_is_removed(engine: Engine) -> None:
    def weigh(_: Container) -> None:
        raise EngineFailure("no answer")

    with contextlib.closing(Pool(engine.start, weigh, PoolSettings())) as filled:
        filled.expect(SHAPE, ())
        assert until(lambda: len(engine.started) >= 2)
    assert engine.idle == []


def test_a_kind_that_does_not_start_holds_up_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "BACKOFF_S", (60.0, 60.0))
    tries = []

    def start(shape: Shape, libraries: frozenset[str]) -> Container:
        tries.append(shape)
        if shape == OTHER:
            raise EngineFailure("its libraries do not fit its memory")
        return engine.start(shape, libraries)

    with contextlib.closing(Pool(start, lambda _: None, PoolSettings())) as filled:
        filled.expect(OTHER, {"sklearn"})
        assert until(lambda: OTHER in tries)
        filled.expect(SHAPE, ())
        assert until(lambda: len(engine.idle) == 1, 5)
        assert tries.count(OTHER) == 1


def test_the_budget_of_memory_holds(engine: Engine, make: Make) -> None:
    filled = make(minimum=10, maximum=10, memory_mb=35)
    filled.expect(SHAPE, ())
    assert until(lambda: filled.full)
    assert len(engine.idle) == 3


def test_what_nobody_asks_for_any_more_is_let_go_but_what_is_resident(
    engine: Engine, make: Make
) -> None:
    filled = make(keep_s=0.2)
    filled.expect(SHAPE, (), resident=True)
    filled.expect(OTHER, ())
    assert until(lambda: len(engine.started) == 2)
    assert until(lambda: [c.shape for c in engine.idle] == [SHAPE])


def test_an_engine_that_is_down_is_tried_again_and_not_stormed(engine: Engine, make: Make) -> None:
    engine.down = True
    filled = make()
    filled.expect(SHAPE, ())
    assert until(lambda: engine.tries >= 2)
    engine.down = False
    assert until(lambda: filled.full)
    assert len(engine.idle) == 1


def test_an_image_that_is_removed_is_not_kept_ready(engine: Engine, make: Make) -> None:
    filled = make()
    filled.expect(SHAPE, (), resident=True)
    assert until(lambda: filled.full)
    filled.forget("image")
    assert engine.idle == []


def test_closing_leaves_nothing(engine: Engine, make: Make) -> None:
    filled = make(minimum=3)
    filled.expect(SHAPE, ())
    assert until(lambda: len(engine.started) >= 1)
    filled.close()
    assert engine.idle == []
    assert not any(t.name == "sandbox-pool" and t.is_alive() for t in threading.enumerate())


def test_refilling_waits_until_it_is_quiet_but_not_for_ever(
    engine: Engine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PUT_OFF_S", 3600.0)
    filled = make()
    filled.expect(SHAPE, ())
    assert until(lambda: filled.full)
    filled.take(SHAPE, NONE)  # a call runs now
    assert not until(lambda: len(engine.started) == 2, 0.2)
    monkeypatch.setattr(pool, "PUT_OFF_S", 0.01)
    filled.expect(SHAPE, ())
    assert until(lambda: len(engine.started) == 2)
    filled.done()
