"""Reading what a container says: whatever it is, nothing is lost, and nothing grows too large."""

from __future__ import annotations

import contextlib
import itertools
import struct
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.sandbox.frames import (
    Broken,
    Demultiplexer,
    Frames,
    Printed,
    Stream,
    clean,
    framed,
)

BLOCKS = st.lists(st.tuples(st.sampled_from(list(Stream)), st.binary(max_size=200)), max_size=20)


def block(stream: Stream, data: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(data)) + data


def cut(data: bytes, at: list[int]) -> list[bytes]:
    ends = [0, *sorted(min(n, len(data)) for n in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(ends)]


@given(BLOCKS, st.lists(st.integers(0, 4000), max_size=10))
def test_streams_are_the_same_however_they_are_cut(
    blocks: list[tuple[Stream, bytes]], at: list[int]
) -> None:
    demultiplexer = Demultiplexer()
    found = {Stream.STDOUT: b"", Stream.STDERR: b""}
    for piece in cut(b"".join(block(*b) for b in blocks), at):
        for stream, data in demultiplexer.feed(piece):
            found[stream] += data
    for stream in Stream:
        assert found[stream] == b"".join(data for s, data in blocks if s is stream)


@given(st.binary(min_size=8, max_size=8))
def test_head_that_is_none_is_broken(head: bytes) -> None:
    valid = head[0] in (1, 2) and head[1:4] == bytes(3)
    if valid:
        assert Demultiplexer().feed(head) == []
    else:
        with pytest.raises(Broken):
            Demultiplexer().feed(head)


def test_block_may_claim_much_and_takes_nothing() -> None:
    demultiplexer = Demultiplexer()
    assert demultiplexer.feed(b"\x01\0\0\0\xff\xff\xff\xff" + b"abc") == [(Stream.STDOUT, b"abc")]


@given(st.binary(max_size=50), st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=8))
def test_frames_are_the_same_however_they_are_cut(
    first: bytes, second: bytes, at: list[int]
) -> None:
    frames = Frames()
    for frame, budget in ((first, 50), (second, 300)):
        frames.expect(budget)
        for piece in cut(framed(frame), at):
            frames.feed(piece)
        assert frames.last == frame
        assert not frames.expecting


@given(st.integers(11, 2**32 - 1))
def test_frame_over_its_budget_is_broken_before_it_arrives(length: int) -> None:
    frames = Frames()
    frames.expect(10)
    with pytest.raises(Broken, match="at most 10"):
        frames.feed(length.to_bytes(4, "big"))


def test_frame_exactly_at_its_budget() -> None:
    frames = Frames()
    frames.expect(10)
    frames.feed(framed(bytes(10)))
    assert frames.last == bytes(10)


def test_a_byte_after_the_last_frame_is_broken() -> None:
    frames = Frames()
    frames.expect(10)
    frames.feed(framed(b"x"))
    with pytest.raises(Broken, match="after the last"):
        frames.feed(b"y")


def test_a_byte_before_a_frame_is_expected_is_broken() -> None:
    with pytest.raises(Broken):
        Frames().feed(b"y")


@given(st.binary(max_size=2000))
def test_whatever_arrives_is_frames_or_broken(data: bytes) -> None:
    frames = Frames()
    frames.expect(100)
    with contextlib.suppress(Broken):
        frames.feed(data)
    assert len(frames.last) <= 100


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_printed_keeps_the_beginning_and_counts_all(pieces: list[bytes]) -> None:
    printed = Printed(150)
    for piece in pieces:
        printed.feed(piece)
    whole = b"".join(pieces)
    assert printed.total == len(whole)
    note = f"\n[{len(whole) - 150} more bytes]" if len(whole) > 150 else ""
    assert printed.text() == clean(whole[:150].decode(errors="replace")) + note


@given(st.text())
def test_clean_text_has_no_controls_and_stays_clean(text: str) -> None:
    cleaned = clean(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\t\n" for c in cleaned)
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain ä 🚗\ttab\n", "plain ä 🚗\ttab\n"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1bP+q\x1b\\dcs\x1bc\x1b(B", "dcs"),
        ("\x1b[", ""),
        ("x\x1b", "x"),
        ("a\x00\x07\x08b", "ab"),
        ("\u202eevil\u2066", "evil"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
