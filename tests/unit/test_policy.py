"""What a vehicle's policy allows: laws over any policy and any request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.policy.location import tells_location, words
from edge_runtime.policy.policy import Names, Policy
from edge_runtime.policy.quiet import QuietHours, Span, zone_of
from protocol.errors import POLICY_CODES, PolicySignal
from protocol.limits import LimitsAsked, Profiles
from protocol.messages import OnboardOrder
from protocol.module import Module, Side, digest_of
from tests.conftest import ROOT

PROFILES = Profiles.read()
USERS = ("ada", "grace", "eve")
SIGNALS = ("SPEED", "RPM", "GPS_LAT", "Altitude")
ENVIRONMENTS = ("minimal", "science", 64 * "a")
SOURCE = "def custom_code(w): return 1"


def order(user: str = "ada", method: str = "mean", *signals: str) -> OnboardOrder:
    return OnboardOrder(
        id="t1", assignment="a1", iteration=1, user_id=user, method=method, timeout_s=10,
        module="m" if method == "custom" else None, signals=signals or ("SPEED",), samples=5,
        first=0,
    )  # fmt: skip


def module(user: str = "ada", environment: str = "minimal", profile: str = "default") -> Module:
    return Module(
        user_id=user, name="m", side=Side.ONBOARD, generation=1, environment=environment,
        source=SOURCE, digest=digest_of(SOURCE, environment), limits=LimitsAsked(profile=profile),
    )  # fmt: skip


def names(known: tuple[str, ...]) -> st.SearchStrategy[Names]:
    some = st.frozensets(st.sampled_from(known))
    return st.builds(Names, st.none() | some, some)


SPANS = st.tuples(st.integers(0, 1439), st.integers(0, 1440)).filter(lambda s: s[0] != s[1])
POLICIES = st.builds(
    Policy,
    custom_code=st.booleans(),
    analysts=names(USERS),
    signals=names(SIGNALS),
    location=st.booleans() | st.frozensets(st.sampled_from(SIGNALS)),
    most=st.none() | st.sampled_from(list(PROFILES.profiles.values())),
    environments=st.none() | st.frozensets(st.sampled_from(ENVIRONMENTS)),
    quiet=st.builds(
        QuietHours, st.lists(SPANS.map(lambda s: Span(*s)), max_size=2).map(tuple), st.just(UTC)
    ),
)
ORDERS = st.builds(
    lambda user, method, signals: order(user, method, *signals),
    st.sampled_from(USERS),
    st.sampled_from(["mean", "custom"]),
    st.lists(st.sampled_from(SIGNALS), min_size=1, unique=True),
)
MODULES = st.builds(
    module, st.sampled_from(USERS), st.sampled_from(ENVIRONMENTS),
    st.sampled_from(list(PROFILES.profiles)),
)  # fmt: skip


def without(names: frozenset[str] | None, name: str) -> frozenset[str] | None:
    return None if names is None else names - {name}


#: Each makes a policy stricter in one place, by a name that is drawn.
STRICTER: tuple[Callable[[Policy, str], Policy], ...] = (
    lambda p, _: replace(p, custom_code=False),
    lambda p, n: replace(p, analysts=replace(p.analysts, denied=p.analysts.denied | {n})),
    lambda p, n: replace(p, analysts=replace(p.analysts, allowed=without(p.analysts.allowed, n))),
    lambda p, _: replace(p, analysts=replace(p.analysts, allowed=frozenset())),
    lambda p, n: replace(p, signals=replace(p.signals, denied=p.signals.denied | {n})),
    lambda p, n: replace(p, signals=replace(p.signals, allowed=without(p.signals.allowed, n))),
    lambda p, _: replace(p, location=False),
    lambda p, n: replace(
        p, location=frozenset() if isinstance(p.location, bool) else p.location - {n}
    ),
    lambda p, n: replace(p, environments=without(p.environments, n)),
    lambda p, _: replace(p, environments=frozenset()),
    lambda p, _: replace(p, most=PROFILES.profiles["small"]),
    lambda p, _: replace(p, quiet=QuietHours((*p.quiet.spans, Span(60, 120)), UTC)),
)


def allows(policy: Policy, asked: OnboardOrder, code: Module, now: float) -> bool:
    granted, _ = PROFILES.granted(code.limits)
    found = (
        policy.of_order(asked, {}),
        policy.of_moment(now),
        policy.of_module(code, granted) if asked.method == "custom" else None,
    )
    return found == (None, None, None)


@given(
    POLICIES,
    st.lists(
        st.tuples(
            st.sampled_from(STRICTER), st.sampled_from([*USERS, *SIGNALS, *ENVIRONMENTS])
        ),
        min_size=1, max_size=4,
    ),
    ORDERS, MODULES, st.floats(0, 4e9),
)  # fmt: skip
def test_a_stricter_policy_never_allows_more(
    policy: Policy,
    changes: list[tuple[Callable[[Policy, str], Policy], str]],
    asked: OnboardOrder,
    code: Module,
    now: float,
) -> None:
    stricter = policy
    for change, name in changes:
        stricter = change(stricter, name)
    if allows(stricter, asked, code, now):
        assert allows(policy, asked, code, now)


@given(POLICIES, ORDERS)
def test_location_is_computed_over_only_where_it_is_named(
    policy: Policy, asked: OnboardOrder
) -> None:
    if policy.of_order(asked, {}) is not None:
        return
    for signal in asked.signals:
        if tells_location(signal):
            named = policy.signals.allowed or frozenset[str]()
            at = policy.location
            assert signal in named or at is True or (at is not False and signal in at)


@given(POLICIES, ORDERS, MODULES, st.floats(0, 4e9))
def test_each_refusal_has_the_code_of_its_rule_and_says_that_it_is_the_policy(
    policy: Policy, asked: OnboardOrder, code: Module, now: float
) -> None:
    granted, _ = PROFILES.granted(code.limits)
    for refusal in (
        policy.of_order(asked, {}), policy.of_moment(now), policy.of_module(code, granted),
    ):  # fmt: skip
        if refusal is not None:
            assert refusal.code in POLICY_CODES - {"policy_refused"}
            assert "the vehicle's policy" in refusal.message.lower()
            assert len(refusal.message) <= 1000


@given(ORDERS, MODULES, st.floats(0, 4e9))
def test_without_a_file_everything_is_allowed_but_location(
    asked: OnboardOrder, code: Module, now: float
) -> None:
    places = any(tells_location(signal) for signal in asked.signals)
    assert allows(Policy(), asked, code, now) is not places


@given(POLICIES, ORDERS)
def test_what_is_denied_is_denied_however_it_is_spelt_and_wins_over_what_is_allowed(
    policy: Policy, asked: OnboardOrder
) -> None:
    denied = frozenset(s.lower() for s in asked.signals[:1])
    whatever = replace(policy, signals=Names(frozenset(asked.signals), denied), location=True)
    if policy.of_order(asked, {}) is None:
        assert isinstance(whatever.of_order(asked, {}), PolicySignal)


@pytest.mark.parametrize("code", sorted(POLICY_CODES))
def test_the_reference_tells_each_code(code: str) -> None:
    assert f"\n| `{code}` | `" in (ROOT / "docs/reference/errors.md").read_text()


def test_the_profile_that_counts_is_what_it_grants_and_not_its_name() -> None:
    policy = Policy(highest="default", most=PROFILES.profiles["default"])
    for profile, allowed in (("small", True), ("default", True), ("large", False)):
        granted, _ = PROFILES.granted(LimitsAsked(profile=profile))
        refusal = policy.of_module(module(profile=profile), granted)
        assert (refusal is None) is allowed
    lowered = LimitsAsked(
        profile="large",
        lower=dict(PROFILES.profiles["default"]),
    )
    assert policy.of_module(module(profile="large"), PROFILES.granted(lowered)[0]) is None


# --- which signals tell the location ------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "GPS_LAT", "gpsLat2", "CurrentLocation.Latitude", "Vehicle.CurrentLocation.Heading",
        "GPSSpeed", "GPSlat", "gpsspeed", "vehiclelatitude", "Position", "Vehicle.Position",
        "pos_x",
        "Altitude", "alt", "Bearing", "lon", "lng", "GNSS-fix", "NavigationDestinationSet", "nmea",
    ],
)  # fmt: skip
def test_a_name_that_says_location_is_one(name: str) -> None:
    assert tells_location(name)


@pytest.mark.parametrize(
    "name",
    [
        "RELATIVE_THROTTLE_POSITION", "OBD.ThrottlePosition", "Seat.Row1.DriverSide.Position",
        "LONG_TERM_FUEL_TRIM_BANK_1", "ABSOLUTE_BAROMETRIC_PRESSURE", "LONGITUDINAL_ACCELERATION",
        "DISTANCE_TRAVELED_WITH_MIL_ON", "MEMORY_ALLOCATION", "ALT_VOLTAGE", "WHEEL_BEARING_TEMP",
        "VEHICLE_SPEED", "PEDAL_D", "POSITIVE_CRANKCASE", "VELOCITY", "CAPACITY", "PLATE",
    ],
)  # fmt: skip
def test_a_name_that_only_looks_like_it_is_none(name: str) -> None:
    assert not tells_location(name)


def test_the_unit_counts_as_well() -> None:
    assert tells_location("P1", "latitude")
    assert not tells_location("P1", "deg")
    policy = Policy()
    assert policy.of_order(order("ada", "mean", "P1"), {"P1": "GPS fix"}) is not None
    assert policy.of_order(order("ada", "mean", "P1"), {"P1": "deg"}) is None


@given(st.text(max_size=100))
def test_any_name_has_words_in_capitals(name: str) -> None:
    assert all(word for word in words(name))
    tells_location(name)


def test_no_signal_of_the_recordings_is_taken_for_the_location(recordings: Path) -> None:
    from edge_runtime.signals import open_source

    files = sorted(recordings.rglob("*.csv"))
    assert files
    for file in files:
        found = open_source(file, "car-1").signals
        assert [name for name, unit in found.items() if tells_location(name, unit)] == []


# --- quiet hours ----------------------------------------------------------------------------------


@given(SPANS, st.integers(0, 1439))
def test_a_span_holds_what_is_between_also_over_midnight(
    span: tuple[int, int], minute: int
) -> None:
    start, end = span
    walked = {(start + step) % 1440 for step in range((end - start) % 1440 or 1440)}
    assert Span(start, end).holds(minute) is (minute in walked)


@given(SPANS)
def test_a_span_is_read_as_it_is_written(span: tuple[int, int]) -> None:
    assert Span.parse(str(Span(*span))) == Span(*span)


def test_quiet_hours_follow_the_clock_of_their_zone_over_a_change_of_summer_time() -> None:
    quiet = QuietHours((Span.parse("22:00-06:00"),), zone_of("Europe/Stockholm"))

    def at(month: int, hour: int, minute: int) -> bool:
        return quiet.at(datetime(2026, month, 15, hour, minute, tzinfo=UTC).timestamp()) is not None

    assert [at(1, 20, 59), at(1, 21, 0), at(1, 4, 59), at(1, 5, 0)] == [False, True, True, False]
    assert [at(7, 19, 59), at(7, 20, 0), at(7, 3, 59), at(7, 4, 0)] == [False, True, True, False]


def test_local_is_the_clock_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = QuietHours((Span.parse("00:00-01:00"),), zone_of("local"))
    noon = datetime(2026, 1, 15, 12, 30, tzinfo=UTC).timestamp()
    try:
        for zone, held in (("UTC", False), ("Etc/GMT+12", True)):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert (quiet.at(noon) is not None) is held
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["2:00-3:00", "22:00-22:00", "25:00-26:00", "22:00", "", "24:00-06:00"]
)
def test_what_is_no_span_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"HH:MM|whole day"):
        Span.parse(text)
