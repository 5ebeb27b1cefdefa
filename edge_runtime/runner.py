"""Carrying out one task: wait for its code and its window, call the method, say how it went."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from edge_runtime.methods import MethodError, run_offboard, run_onboard
from edge_runtime.modules import ModuleStore
from edge_runtime.sandbox import Call, Limits, Sandbox
from edge_runtime.signals import Source
from protocol import values
from protocol.assignment import CUSTOM
from protocol.errors import OodidaError, UnknownSignal
from protocol.lifecycle import TaskState
from protocol.messages import (
    Ended,
    OffboardOrder,
    OnboardOrder,
    TaskReport,
    Verdict,
    VerifyOrder,
    new_id,
)
from protocol.module import builtin_digest
from protocol.outcome import Exceeded, Fault, Kind, Limit, Outcome
from protocol.values import Tree
from protocol.version import VERSION

#: What arrives in an order was bounded when it was made; this bounds what a stranger sends.
_INPUT: Final = values.Bounds(size=48 * 1024 * 1024, depth=40, items=4_000_000)


@dataclass(frozen=True)
class Done:
    """How a task ended, and the code that did it."""

    outcome: Outcome
    digest: str | None = None
    generation: int = 0


class Runner:
    """Runs tasks, several at once; at most ``calls`` containers at a time."""

    def __init__(
        self,
        *,
        source: Source | None,
        modules: ModuleStore,
        sandbox: Sandbox,
        limits: Limits,
        calls: int,
    ) -> None:
        self._source, self._modules = source, modules
        self._sandbox, self._limits = sandbox, limits
        self._threads = ThreadPoolExecutor(calls, thread_name_prefix="call")

    def close(self) -> None:
        """Let no further call start, and wait for those that run."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def run(self, order: OnboardOrder | OffboardOrder) -> TaskReport | None:
        """Carry out an order; None if its time passed, when nobody waits for a report any more."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(order.timeout_s):
                done = await self._run(order)
            state: Ended = TaskState.SUCCEEDED if done.outcome.ok else TaskState.FAILED
        except TimeoutError:
            return None
        except OodidaError as refusal:
            done = Done(Outcome(kind=Kind.REFUSED, reason=refusal.message[:2000]))
            state = TaskState.REJECTED
        return TaskReport(
            id=new_id(),
            task=order.id,
            attempt=order.attempt,
            state=state,
            outcome=done.outcome,
            digest=done.digest,
            generation=done.generation,
            seconds=time.monotonic() - started,
        )

    async def verify(self, order: VerifyOrder) -> Verdict:
        """Try a module in the sandbox, the way it will be called."""
        module = order.module
        outcome = await self._call(
            Call(
                source=module.source,
                environment=module.environment,
                argument=_checked(order.example),
                verify=module.side,
                labels={"task": order.id},
            )
        )
        if not outcome.ok:
            why = f"when it was tried: {outcome.describe()}"
            return Verdict(ok=False, code=outcome.kind.value, reason=why[:4000])
        try:
            return Verdict.model_validate(outcome.value)
        except ValueError:  # the module got between: whatever it wrote is no verdict
            return Verdict(ok=False, code="contract_broken", reason="the trial gave no verdict")

    async def _run(self, order: OnboardOrder | OffboardOrder) -> Done:
        if isinstance(order, OffboardOrder):
            argument = order.results
            builtin = self._offboard(order)
        else:
            argument = values.pack(await self._window(order), _INPUT)
            builtin = self._onboard(order, argument)
        if order.method != CUSTOM:
            digest = builtin_digest(order.method, VERSION)
            loop = asyncio.get_running_loop()
            return Done(await loop.run_in_executor(None, _guarded, builtin, self._limits), digest)
        # Only now is the newest generation taken: it may have come while the window filled.
        module = await self._modules.wait(order.user_id, order.module or "", order.generation)
        call = Call(
            source=module.source,
            environment=module.environment,
            argument=_checked(argument),
            previous=_checked(order.previous),
            labels={"task": order.id},
        )
        return Done(await self._call(call), module.digest, module.generation)

    async def _window(self, order: OnboardOrder) -> Any:
        if self._source is None:
            raise UnknownSignal("a worker has no signals")
        names = [order.signals] if isinstance(order.signals, str) else list(order.signals)
        window = await self._source.collect(
            names, first=order.first, count=order.samples, rate_hz=order.rate_hz
        )
        return window[order.signals] if isinstance(order.signals, str) else window

    def _onboard(self, order: OnboardOrder, window: Tree) -> Callable[[], Any]:
        return lambda: run_onboard(order.method, values.unpack(window), order.params)

    def _offboard(self, order: OffboardOrder) -> Callable[[], Any]:
        def run() -> Any:
            results: Sequence[Any] = values.unpack(_checked(order.results))
            previous = values.unpack(_checked(order.previous))
            return run_offboard(order.method, results, previous, order.params)

        return run

    async def _call(self, call: Call) -> Outcome:
        """Run a call in a thread of its own; a cancelled task ends its container at once."""
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, lambda: self._sandbox.run(call, self._limits, cancelled)
            )
        except asyncio.CancelledError:
            cancelled.set()
            raise


def _checked(tree: Tree) -> Tree:
    try:
        return values.check(tree, _INPUT)
    except values.ValueProblem as problem:
        raise OodidaError(f"the order holds no value that may travel: {problem}") from None


def _guarded(method: Callable[[], Any], limits: Limits) -> Outcome:
    """Run a built-in method; what it cannot compute is an outcome, not a failure of ours."""
    started = time.monotonic()
    try:
        tree = values.pack(method(), limits.value)
    except MethodError as error:
        fault = Fault(type="MethodError", message=str(error)[:2000])
        return Outcome(kind=Kind.MODULE_ERROR, fault=fault)
    except values.TooLarge as problem:
        return _too_large(limits, None, str(problem))
    except values.ValueProblem as problem:
        return Outcome(kind=Kind.CONTRACT_BROKEN, reason=str(problem)[:2000])
    size = len(values.encode(tree)[0])
    if size > limits.value.size:
        return _too_large(limits, size, "")
    return Outcome(kind=Kind.VALUE, value=tree, seconds=time.monotonic() - started)


def _too_large(limits: Limits, size: int | None, reason: str) -> Outcome:
    exceeded = Exceeded(
        limit=Limit.VALUE_SIZE, configured=limits.value.size, seen=size, unit="bytes"
    )
    return Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded, reason=reason[:2000])
