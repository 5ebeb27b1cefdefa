"""What is decided about environments without an engine: reasons, progress, and what may go."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.environments.compiled import cache_place, compile_all
from edge_runtime.environments.complaint import complaint
from edge_runtime.environments.pull import Progress, Tally
from edge_runtime.environments.usage import DAY_S, Usage, unused
from edge_runtime.sandbox.engine import EngineFailure
from edge_runtime.sandbox.image_failures import (
    DiskFull,
    NotPublished,
    RegistryUnreachable,
    failure,
)
from protocol import values
from protocol.errors import EnvironmentRefused
from protocol.limits import Limits
from protocol.outcome import Exceeded, Kind, Limit, Outcome

NONE = "ERROR: Could not find a version that satisfies the requirement {} (from versions: {})\n"
SAID = {
    "unknown_package": [NONE.format("zzz", "none")],
    "no_version": [NONE.format("six<1.4 (from python-dateutil)", "1.5.0, 1.17.0, odd")],
    "no_wheel": [
        "  Skipping link: No sources permitted for docopt: https://h/docopt-0.6.2.tar.gz (from https://h)\n"
        + NONE.format("docopt", "none"),
        "  Skipping link: No binaries permitted for a-b: https://h/a_b-1-py3-none-any.whl\n"
        + NONE.format("A.B", "none"),
        "  Skipping link: none of the wheel's tags (cp39-cp39-win32) are compatible (run pip debug "
        "--verbose): https://h/pywin32-312-cp39-cp39-win32.whl (from https://h/)\n"
        + NONE.format("pywin32", "none"),
        "ERROR: x-1-cp27-none-any.whl is not a supported wheel on this platform.\n",
    ],
    "index_unreachable": [
        "Could not fetch URL http://h/simple/zzz/: connection error: [Errno 111] - skipping\n"
        + NONE.format("zzz", "none"),
        "Could not fetch URL http://h/simple/zzz/: 503 Server Error: x - skipping\n"
        + NONE.format("zzz", "none"),
        "ERROR: Could not install packages due to an OSError: ReadTimeoutError\n",
    ],
    "conflict": [
        (
            "ERROR: Cannot install a\n\nThe conflict is caused by:\n    a 1 depends on b<1\n"
            "    The user requested b>2\n\nERROR: ResolutionImpossible: visit https://h/x\n"
        )
    ],
    "hash_differs": [
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. x\n"
            "    six==1.17.0 from https://h/six.whl:\n"
        )
    ],
    "no_space": ["ERROR: [Errno 28] No space left on device\n"],
    "too_large": ["OSError: [Errno 27] File too large\n"],
    "bad_wheel": ["ERROR: Wheel 'x' located at /tmp/x.whl is invalid.\n"],
    "build_failed": ["", "\n", "Killed", "ERROR: something at http://user:secret@h/x \x1b[31m\n"],
}


@pytest.mark.parametrize(("reason", "said"), [(r, s) for r, all_ in SAID.items() for s in all_])
def test_what_pip_said_has_a_reason_and_a_sentence(reason: str, said: str) -> None:
    error = complaint(said, "3.13", "linux_x86_64")
    assert isinstance(error, EnvironmentRefused)
    assert error.details["reason_code"] == reason
    assert error.message.isprintable()
    assert "http" not in error.message
    assert "/tmp" not in error.message  # noqa: S108


def test_a_missing_page_is_no_broken_network() -> None:
    said = "Could not fetch URL https://h/simple/zzz/: 404 Client Error: Not Found - skipping\n"
    error = complaint(said + NONE.format("zzz", "none"), "3.13", "linux_x86_64")
    assert isinstance(error, EnvironmentRefused)
    assert error.details["reason_code"] == "unknown_package"


def test_the_sentence_names_what_does_not_go_together() -> None:
    said = complaint(SAID["conflict"][0], "3.13", "linux_x86_64")
    assert "a 1 depends on b<1; The user requested b>2" in str(said)
    assert "1.17.0" in str(complaint(SAID["no_version"][0], "3.13", "linux_x86_64"))


@given(st.text(max_size=300))
def test_whatever_pip_says_there_is_an_answer(said: str) -> None:
    assert str(complaint(said, "3.13", "linux_x86_64")).isprintable()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("write /var/lib/docker/x: no space left on device", DiskFull),
        ("manifest for h/x@sha256:0 not found: manifest unknown: manifest unknown", NotPublished),
        (
            'Get "http://h/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
            RegistryUnreachable,
        ),
        ('Get "http://h/v2/": net/http: TLS handshake timeout', RegistryUnreachable),
        ("received unexpected HTTP status: 503 Service Unavailable", RegistryUnreachable),
        ("something else", EngineFailure),
    ],
)
def test_what_the_engine_said_has_a_meaning(said: str, kind: type[EngineFailure]) -> None:
    assert type(failure("pull", said)) is kind


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(
                ["Downloading", "Download complete", "Pull complete", "Extracting"]
            )
        },
        optional={
            "id": st.sampled_from("abc"),
            "progressDetail": st.one_of(
                st.just({}),
                st.just(None),
                st.fixed_dictionaries({"current": st.integers(0, 99), "total": st.integers(0, 99)}),
            ),
        },
    ),
    max_size=20,
)


@given(EVENTS)
def test_progress_is_never_more_than_all(events: list[dict[str, object]]) -> None:
    tally = Tally()
    for event in events:
        now = tally.add(event)
        assert 0 <= now.done <= now.total


def test_progress_is_the_sum_of_the_layers() -> None:
    tally = Tally()

    def event(layer: str, status: str, current: int = 0, total: int = 0) -> Progress:
        detail = {"current": current, "total": total} if total else {}
        return tally.add({"id": layer, "status": status, "progressDetail": detail})

    assert event("a", "Already exists") == Progress(0, 0)
    assert event("b", "Downloading", 5, 10) == Progress(5, 10)
    assert event("c", "Downloading", 1, 100) == Progress(6, 110)
    assert event("b", "Download complete") == Progress(11, 110)
    assert event("c", "Downloading", 0, 100) == Progress(11, 110), "begun again, and not told so"
    assert event("c", "Pull complete") == Progress(110, 110)


DIGESTS = st.sampled_from("abcdef")
TIMES = st.floats(0, 100 * DAY_S)


@given(st.lists(DIGESTS), st.dictionaries(DIGESTS, TIMES), st.sets(DIGESTS), TIMES, TIMES)
def test_only_what_is_old_and_not_in_use_may_go(
    there: list[str], used: dict[str, float], in_use: set[str], now: float, keep: float
) -> None:
    going = unused(there, used, in_use, now, keep)
    assert set(going) <= set(there) - in_use
    assert all(digest in used and now - used[digest] > keep for digest in going)
    stays = set(there) - in_use - set(going)
    assert all(now - used.get(digest, now) <= keep for digest in stays)


def test_usage_is_kept_over_a_restart_and_its_loss_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "state" / "usage.json"
    usage = Usage(path)
    usage.touch("a", 1000.0)
    usage.touch("a", 1001.0)
    assert Usage(path).used() == {"a": 1000.0}, "written once an hour"
    usage.touch("a", 5000.0)
    usage.keep_only({"a", "b"}, 6000.0)
    assert Usage(path).used() == {"a": 5000.0, "b": 6000.0}
    usage.keep_only({"b"}, 10.0)
    assert Usage(path).used() == {"b": 10.0}, "a clock that was set back"
    for damaged in (b"", b"[]", b"\xff", b'{"a": "x"}', b'{"a": null}', b"{"):
        path.write_bytes(damaged)
        assert Usage(path).used() == {}
    assert [p.name for p in path.parent.iterdir()] == ["usage.json"]


# --- answers of the compiler, which comes from a container ------------------------------------

GOOD = b"\xf3\r\r\n" + b"\x01\0\0\0" + b"12345678" + b"code"


def answered(value: object) -> list[tuple[str, bytes]]:
    import zlib

    def packed(item: object) -> object:
        return zlib.compress(item) if isinstance(item, bytes) else item

    tree = values.pack([packed(i) for i in value] if isinstance(value, list) else value)

    def run(source: str, argument: values.Tree, limits: Limits) -> Outcome:
        assert "custom_code" in source
        assert argument
        assert limits.time_s
        return Outcome(kind=Kind.VALUE, value=tree)

    return list(compile_all([("a.py", b"x"), ("p/b.py", b"y")], run))


def test_a_compiled_file_goes_beside_its_source() -> None:
    assert cache_place("a.py", "3.13") == "__pycache__/a.cpython-313.pyc"
    assert cache_place("p/q/b.py", "3.13") == "p/q/__pycache__/b.cpython-313.pyc"
    assert answered([GOOD, GOOD]) == [("a.py", GOOD), ("p/b.py", GOOD)]
    assert answered([None, GOOD]) == [("p/b.py", GOOD)]


@pytest.mark.parametrize(
    "value",
    [None, 1, [], [GOOD], [GOOD] * 3, [GOOD, "text"], [GOOD, GOOD[:10]], [GOOD, b"\0" * 10**6],
     [GOOD, b"x" + GOOD[1:]], [GOOD, GOOD[:4] + b"\0" + GOOD[5:]]],
)  # fmt: skip
def test_what_the_compiler_may_not_answer(value: object) -> None:
    with pytest.raises(EnvironmentRefused) as refusal:
        answered(value)
    assert refusal.value.details["reason_code"] == "build_failed"


def test_a_compiler_that_hits_a_limit_or_an_engine_that_fails() -> None:
    exceeded = Exceeded(limit=Limit.TIME, configured=1, unit="s")
    slow = Outcome(kind=Kind.LIMIT_EXCEEDED, exceeded=exceeded)
    with pytest.raises(EnvironmentRefused, match="time limit"):
        list(compile_all([("a.py", b"")], lambda *_: slow))
    broken = Outcome(kind=Kind.ENGINE_FAILURE, reason="gone")
    with pytest.raises(EngineFailure, match="gone"):
        list(compile_all([("a.py", b"")], lambda *_: broken))
