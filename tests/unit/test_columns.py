"""Columns of a table: no word is broken where there is room."""

from __future__ import annotations

from oodida.cli.columns import LONGEST_WORD, widths


def test_what_fits_is_as_wide_as_it_wants_to_be() -> None:
    assert widths(["id", "state"], [["abc", "still at work"]], 40, whole=1) == [3, 13]


def test_what_wants_most_is_wrapped_between_words() -> None:
    row = ["0123456789abcdef", "succeeded", "a reason of several words"]
    found = widths(["id", "state", "reason"], [row], 40, whole=1)
    assert found == [16, 9, 15]


def test_where_words_would_be_broken_there_is_no_table() -> None:
    row = ["0123456789abcdef", "custom:harsh_braking"]
    assert widths(["id", "on-board"], [row], 36, whole=1) == [16, 20]
    assert widths(["id", "on-board"], [row], 35, whole=1) is None
    assert widths(["id", "on-board"], [["a b c d", "x"]], 10, whole=1) is None


def test_a_word_without_end_may_be_broken() -> None:
    assert widths(["id", "said"], [["a", "x" * 500]], 60, whole=1) == [2, 58]
    assert widths(["id", "said"], [["a", "x" * 500]], LONGEST_WORD + 1, whole=1) is None
