"""The vehicle's policy where work comes by: before it begins, before code is kept or run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from edge_runtime import metrics
from edge_runtime.policy.account import DayAccount, Grant, bounded
from edge_runtime.policy.policy import Policy
from protocol.account import Usage
from protocol.assignment import CUSTOM
from protocol.errors import PolicyRefused
from protocol.limits import Limits
from protocol.messages import OffboardOrder, OnboardOrder, TaskReport
from protocol.module import Module


class Gate:
    """Lets through what the policy that is in force now allows; raises PolicyRefused for the rest.

    ``units`` are those of the vehicle's signals, ``wall`` the time in seconds since 1970. A worker
    has the policy that allows every module; it has no signals.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        units: Mapping[str, str],
        account: DayAccount,
        wall: Callable[[], float],
    ) -> None:
        self._policy, self._units, self._account, self._wall = policy, units, account, wall

    def begin(self, order: OnboardOrder) -> None:
        """An order is about to be begun."""
        policy = self._policy()
        self._raise(policy.of_order(order, self._units) or policy.of_moment(self._wall()))
        if bounded(policy.budget):
            with _counted():
                self._account.look(policy.budget)

    def still(self, order: OnboardOrder) -> None:
        """An order that was begun is about to go on: the policy may have changed since.

        Whatever was begun before the quiet hours may be finished in them.
        """
        self._raise(self._policy().of_order(order, self._units))

    def module(self, module: Module, granted: Limits) -> None:
        """A module is about to be kept, or to be prepared for a run."""
        self._raise(self._policy().of_module(module, granted))

    @contextmanager
    def call(
        self, order: OnboardOrder | OffboardOrder, module: Module, granted: Limits, cpu_s: int
    ) -> Iterator[Grant]:
        """A module is about to be called, with so many seconds of processor time at most."""
        policy = self._policy()
        if not isinstance(order, OnboardOrder):
            yield Grant(cpu_s)
            return
        self._raise(policy.of_order(order, self._units) or policy.of_module(module, granted))
        with _counted(), self._account.call(policy.budget, cpu_s) as grant:
            yield grant

    def answer(
        self, order: OnboardOrder, report: TaskReport, bytes_sent: int
    ) -> PolicyRefused | None:
        """A report of so many bytes is about to be sent: count it, or say why it may not be."""
        policy, withhold = self._policy(), report.outcome.ok
        refusal = policy.of_order(order, self._units) if withhold else None
        if refusal is None and bounded(policy.budget):
            cpu_s = 0.0 if order.method == CUSTOM else report.usage.cpu_s  # counted with its call
            used = Usage(cpu_s=cpu_s, bytes_sent=bytes_sent)
            refusal = self._account.answer(policy.budget, used, withhold=withhold)
        if refusal is not None:
            metrics.POLICY.add(refusal.code)
        return refusal

    @staticmethod
    def _raise(refusal: PolicyRefused | None) -> None:
        if refusal is not None:
            metrics.POLICY.add(refusal.code)
            raise refusal


@contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except PolicyRefused as refusal:
        metrics.POLICY.add(refusal.code)
        raise
