"""Which results may be combined: the laws, and the cases that the design names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.consistency import Made, choose

A, B, C = "a" * 64, "b" * 64, "c" * 64
RESULTS = st.lists(
    st.builds(
        Made,
        st.from_regex("car-[0-9]", fullmatch=True),
        st.sampled_from([A, B, C]),
        st.integers(1, 5),
    ),
    max_size=10,
    unique_by=lambda made: made.vehicle,
)
MODES = st.sampled_from(["majority", "newest", "pinned", "any"])


@given(MODES, RESULTS, st.sampled_from([A, B, None]), st.sampled_from([A, C, None]))
def test_everyone_is_kept_or_left_out_with_a_reason_and_code_is_mixed_only_knowingly(
    mode: str, results: list[Made], current: str | None, pinned: str | None
) -> None:
    choice = choose(mode, results, current=current, pinned=pinned)  # type: ignore[arg-type]
    assert sorted([*choice.kept, *choice.left_out]) == sorted(m.vehicle for m in results)
    assert not set(choice.kept) & set(choice.left_out)
    assert all(choice.left_out.values())
    code = {m.vehicle: m.digest for m in results}
    kept = {code[vehicle] for vehicle in choice.kept}
    if mode != "any":
        assert len(kept) <= 1
        assert not kept & {code[vehicle] for vehicle in choice.left_out}


@given(RESULTS, st.randoms())
def test_the_order_in_which_results_came_changes_nothing(
    results: list[Made], random: object
) -> None:
    shuffled = list(results)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose("majority", results, current=None, pinned=None) == choose(
        "majority", shuffled, current=None, pinned=None
    )


def test_majority_keeps_the_largest_group() -> None:
    made = [Made("car-1", A, 2), Made("car-2", B, 1), Made("car-3", B, 1)]
    choice = choose("majority", made, current=A, pinned=None)
    assert choice.kept == ("car-2", "car-3")
    assert A[:12] in choice.left_out["car-1"]


def test_a_tie_goes_to_the_higher_generation() -> None:
    made = [Made("car-1", B, 1), Made("car-2", A, 2)]
    assert choose("majority", made, current=A, pinned=None).kept == ("car-2",)


def test_newest_keeps_the_current_generation_only() -> None:
    made = [Made("car-1", A, 1), Made("car-2", A, 1), Made("car-3", B, 2)]
    assert choose("newest", made, current=B, pinned=None).kept == ("car-3",)
    assert choose("newest", made, current=C, pinned=None).kept == ()


def test_pinned_keeps_one_digest_whatever_is_current() -> None:
    made = [Made("car-1", A, 1), Made("car-2", B, 2), Made("car-3", B, 2)]
    assert choose("pinned", made, current=B, pinned=A).kept == ("car-1",)


def test_any_mixes_knowingly() -> None:
    made = [Made("car-1", A, 1), Made("car-2", B, 2)]
    assert choose("any", made, current=B, pinned=None).kept == ("car-1", "car-2")


def test_newest_of_a_built_in_method_is_the_majority() -> None:
    made = [Made("car-1", A, 0), Made("car-2", B, 0), Made("car-3", B, 0)]
    assert choose("newest", made, current=None, pinned=None).kept == ("car-2", "car-3")
