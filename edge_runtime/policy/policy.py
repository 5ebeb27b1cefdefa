"""What a vehicle allows, whatever the cloud says. Pure: a policy and what is asked for decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge_runtime.policy.location import tells_location
from edge_runtime.policy.quiet import QuietHours
from protocol.account import Budget
from protocol.assignment import CUSTOM
from protocol.errors import (
    PolicyAnalyst,
    PolicyCustomCode,
    PolicyEnvironment,
    PolicyProfile,
    PolicyQuietHours,
    PolicyRefused,
    PolicySignal,
)
from protocol.limits import Limits
from protocol.messages import OnboardOrder
from protocol.module import Module


@dataclass(frozen=True)
class Names:
    """Which names are allowed: those listed, all where there is no list, and none of the denied."""

    allowed: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()

    def allow(self, name: str) -> bool:
        """True if a name is allowed. What is denied is denied however it is spelt."""
        if self.denied:
            spelt = name.casefold()
            if any(denied.casefold() == spelt for denied in self.denied):
                return False
        return self.allowed is None or name in self.allowed


@dataclass(frozen=True)
class Policy:
    """What a vehicle allows. Without a word on something it is allowed, but for its location.

    ``location``: True lets every signal be used that tells where the vehicle is, else only those
    named here or among the allowed ``signals``. ``most`` is what the profile ``highest`` grants,
    None without bound; ``budget`` is for a day, all assignments together.
    """

    custom_code: bool = True
    analysts: Names = field(default_factory=Names)
    signals: Names = field(default_factory=Names)
    location: bool | frozenset[str] = False
    highest: str = ""
    most: Limits | None = None
    environments: frozenset[str] | None = None
    budget: Budget = field(default_factory=Budget)
    quiet: QuietHours = field(default_factory=QuietHours)

    def of_order(self, order: OnboardOrder, units: Mapping[str, str]) -> PolicyRefused | None:
        """Why an order may not be carried out at any time; ``units`` are those of the signals."""
        names = (order.signals,) if isinstance(order.signals, str) else order.signals
        return (
            self._of_analyst(order.user_id)
            or (self._of_code() if order.method == CUSTOM else None)
            or self._of_signals(names, units)
        )

    def of_moment(self, now: float) -> PolicyRefused | None:
        """Why nothing may be begun at a moment, in seconds since 1970."""
        span = self.quiet.at(now)
        if span is None:
            return None
        return PolicyQuietHours(
            f"the vehicle's policy lets nothing be begun in its quiet hours, {span} by "
            f"{self.quiet.clock}"
        )

    def of_module(self, module: Module, granted: Limits) -> PolicyRefused | None:
        """Why a module may not be kept or run here, with the limits that it would be granted."""
        return (
            self._of_analyst(module.user_id)
            or self._of_code()
            or self._of_environment(module.environment)
            or self._of_profile(module, granted)
        )

    def _of_analyst(self, user: str) -> PolicyRefused | None:
        if self.analysts.allow(user):
            return None
        return PolicyAnalyst(f"the vehicle's policy does not let {user} compute on it")

    def _of_code(self) -> PolicyRefused | None:
        return None if self.custom_code else PolicyCustomCode()

    def _of_signals(self, names: Iterable[str], units: Mapping[str, str]) -> PolicyRefused | None:
        for name in names:
            if not self.signals.allow(name):
                return PolicySignal(
                    f"the vehicle's policy does not let the signal {name} be computed over"
                )
            if not self._allows_place(name) and tells_location(name, units.get(name, "")):
                return PolicySignal(
                    f"the vehicle's policy does not let the signal {name} be computed over: it "
                    "tells where the vehicle is, which has to be allowed by name"
                )
        return None

    def _allows_place(self, name: str) -> bool:
        place = self.location
        named = place if isinstance(place, bool) else name in place
        return named or (self.signals.allowed is not None and name in self.signals.allowed)

    def _of_environment(self, environment: str) -> PolicyRefused | None:
        if self.environments is None or environment in self.environments:
            return None
        shown = environment if len(environment) < 64 else f"{environment[:12]}..."
        allowed = ", ".join(sorted(e[:12] for e in self.environments)) or "none"
        return PolicyEnvironment(
            f"the vehicle's policy does not allow the environment {shown}, only: {allowed}"[:1000]
        )

    def _of_profile(self, module: Module, granted: Limits) -> PolicyRefused | None:
        if self.most is None:
            return None
        _, above = granted.lowered_to(self.most)
        if not above:
            return None
        return PolicyProfile(
            f"the vehicle's policy allows no profile above {self.highest}, and {module.name} asks "
            f"for {module.limits.profile}: {'; '.join(above)}"[:1000]
        )
