"""What is taken in of each sender, and in which order it is handled."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator import intake
from orchestrator.bucket import Bucket, Rate
from orchestrator.intake import Intake
from orchestrator.limits import PRESENCES, WORK, Limits
from protocol import topics
from protocol.link import Incoming

LIMITS = Limits(requests_per_s=10, reports_per_s=10)
BURST = 100
ADA, EVE, CAR = topics.requests("ada"), topics.requests("eve"), topics.reports("vehicles", "car-1")


class Sent:
    """Messages as the broker gives them, and which of them were acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[bytes] = []

    def make(self, topic: str, payload: bytes = b"") -> Incoming:
        return Incoming(topic, payload, "", None, None, lambda: self.acknowledged.append(payload))


def taken(from_: Intake, most: int = 500, now: float = 0.0) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in from_.take(most, now)]


@given(
    st.floats(0.1, 1000), st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=60),
)  # fmt: skip
def test_a_bucket_gives_no_more_than_its_rate(
    per_s: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    rate, now, given_ = Rate(per_s, burst), 0.0, 0.0
    bucket = Bucket(burst, 0.0)
    for pause, cost in steps:
        now += pause
        bucket = bucket.now(rate, now)
        left = bucket.without(cost)
        if left is None:
            assert bucket.now(rate, now + bucket.wait_s(rate, cost) + 1e-6).left >= min(
                burst, cost - 1e-6
            )
        else:
            bucket, given_ = left, given_ + cost
        assert 0 <= bucket.left <= burst
    assert given_ <= burst + per_s * now + 1e-6


def test_one_message_of_each_before_the_second_of_any() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    for number in range(50):
        assert waiting.put(sent.make(EVE, b"%d" % number), 0.0) is None
    assert waiting.put(sent.make(ADA, b"a"), 0.0) is None
    assert waiting.put(sent.make(CAR, b"c"), 0.0) is None
    assert taken(waiting, 4) == [(EVE, b"0"), (ADA, b"a"), (CAR, b"c"), (EVE, b"1")]


def test_of_an_analyst_only_a_share_is_in_one_turn_and_the_rest_in_the_next_ones() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    for number in range(25):
        waiting.put(sent.make(EVE, b"%d" % number), 0.0)
    turns = [taken(waiting) for _ in range(6)]
    assert [len(turn) for turn in turns] == [5, 5, 5, 5, 5, 0]
    assert [int(payload) for turn in turns for _, payload in turn] == list(range(25))
    assert not waiting


def test_what_is_too_much_is_dropped_and_acknowledged_and_told_once_a_burst() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    results = [waiting.put(sent.make(EVE, b"%d" % n), 0.0) for n in range(BURST + 50)]
    dropped = [one for one in results if one is not None]
    assert len(dropped) == 50
    assert [one.first for one in dropped] == [True] + [False] * 49
    assert 0 < sum(one.answer for one in dropped) < 50
    # Nothing of it stands in the way of what the broker has for the others.
    held = BURST - len([p for p in sent.acknowledged if int(p) < BURST])
    assert held == intake.HELD
    assert {b"%d" % n for n in range(BURST, BURST + 50)} <= set(sent.acknowledged)
    # It goes on as soon as there is something in its bucket again; later it is another burst.
    assert waiting.put(sent.make(ADA), 0.0) is None
    while taken(waiting):
        pass
    assert waiting.put(sent.make(EVE, b"500"), 1.0) is None
    later = 1000.0
    again = [waiting.put(sent.make(EVE, b"600"), later) for _ in range(BURST + 1)]
    assert next(one.first for one in again if one is not None)


def test_bytes_are_bounded_too() -> None:
    sent, waiting = Sent(), Intake()
    large = b"x" * (8 * 2**20)
    results = [waiting.put(sent.make(CAR, large), 0.0) for _ in range(20)]
    kept = sum(one is None for one in results)
    assert kept * len(large) <= intake.WAITING
    assert waiting.put(sent.make(ADA, large), 0.0) is None


def test_of_presences_that_come_too_often_the_newest_is_told_later() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    topic, many = topics.presence("vehicles", "car-1"), int(PRESENCES.burst) + 20
    for number in range(many):
        waiting.put(sent.make(topic, b"%d" % number), 0.0)
    told: list[bytes] = []
    for second in range(100):
        told += [payload for _, payload in taken(waiting, now=float(second))]
    assert told[-1] == b"%d" % (many - 1)
    assert len(told) == PRESENCES.burst + 1


def test_senders_without_end_are_not_remembered_without_end() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    for number in range(intake.SENDERS + 5000):
        waiting.put(sent.make(topics.requests(f"u{number}")), number / 100)
        waiting.take(500, number / 100)
    assert len(waiting._senders) <= intake.SENDERS
    assert waiting.put(sent.make("oodida/v1/vehicles/\u00fc/reports", b"no"), 0.0) is None
    assert sent.acknowledged == [b"no"]
    assert not waiting


@given(
    st.lists(st.tuples(st.sampled_from([ADA, EVE, CAR]), st.booleans()), max_size=80),
    st.integers(1, 7),
)
def test_nothing_is_lost_or_doubled_and_each_senders_order_is_kept(
    events: list[tuple[str, bool]], most: int
) -> None:
    sent, waiting = Sent(), Intake()
    put: list[tuple[str, bytes]] = []
    got: list[tuple[str, bytes]] = []
    for number, (topic, look) in enumerate(events):
        payload = b"%d" % number
        assert waiting.put(sent.make(topic, payload), 0.0) is None
        put.append((topic, payload))
        if look:
            got += taken(waiting, most)
    while more := taken(waiting, most):
        assert len(more) <= most
        got += more
    assert Counter(got) == Counter(put)
    for topic in (ADA, EVE, CAR):
        assert [p for t, p in got if t == topic] == [p for t, p in put if t == topic]


def test_of_one_sender_no_more_bytes_are_in_a_turn_than_others_can_wait_for() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    for _ in range(4):
        assert waiting.put(sent.make(EVE, bytes(intake.PART // 2)), 0.0) is None
    assert waiting.put(sent.make(CAR, bytes(4 * intake.PART)), 0.0) is None  # one is always taken
    assert waiting.put(sent.make(CAR, b"more"), 0.0) is None
    assert Counter(topic for topic, _ in taken(waiting)) == {EVE: 2, CAR: 1}
    assert Counter(topic for topic, _ in taken(waiting)) == {EVE: 2, CAR: 1}


def test_whose_messages_take_long_is_dropped_until_that_is_paid() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    for number in range(5):
        assert waiting.put(sent.make(EVE, b"%d" % number), 0.0) is None
    assert waiting.put(sent.make(ADA, b"a"), 0.0) is None
    waiting.took({EVE: WORK.burst + 1.0, ADA: 0.1}, 0.0)
    assert sent.acknowledged == [b"0", b"1", b"2", b"3", b"4"]  # it sends them again, or gives up
    assert taken(waiting) == [(ADA, b"a")]
    dropped = waiting.put(sent.make(EVE, b"5"), 1.0)
    assert dropped is not None
    assert dropped.wait_s == 1.0
    assert waiting.put(sent.make(EVE, b"6"), 1.0 / WORK.per_s + 0.1) is None


def test_a_worker_works_for_everybody_and_is_not_held_to_that() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    reports = topics.reports("workers", "w-1")
    assert waiting.put(sent.make(reports, b"0"), 0.0) is None
    waiting.took({reports: 100.0, "oodida/v1/analysts/gone/requests": 1.0}, 0.0)
    assert waiting.put(sent.make(reports, b"1"), 0.0) is None
    assert len(taken(waiting)) == 2


def test_all_together_have_so_many_bytes_waiting_and_small_ones_still_come() -> None:
    sent, waiting = Sent(), Intake(LIMITS)
    large, number = bytes(8 * 2**20), intake.ALL_WAITING // (8 * 2**20)
    cars = [topics.reports("vehicles", f"car-{n}") for n in range(number + 1)]
    told = [waiting.put(sent.make(car, large), 0.0) for car in cars]
    assert [one is None for one in told] == [True] * number + [False]
    assert waiting.put(sent.make(ADA, b"a"), 0.0) is None
    assert len(taken(waiting)) == number + 1
    assert waiting.put(sent.make(cars[0], large), 0.0) is None
