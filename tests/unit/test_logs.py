"""Lines of the log: what they are about, for people and for programs."""

from __future__ import annotations

import json
import logging

import pytest

from protocol.logs import Format, Seldom, about, handler


def line(style: Format, message: str, *args: object, **extra: str) -> str:
    made = handler(style, {"vehicle": "car-1"})
    record = logging.LogRecord("x.y", logging.INFO, "f.py", 1, message, args, None)
    record.__dict__.update(extra)
    made.filter(record)
    return made.format(record)


def test_a_json_line_has_the_ids_as_fields() -> None:
    with about(assignment="a1", iteration=2), about(task="t1"):
        found = json.loads(line("json", "it took %s s", 3))
    assert found["message"] == "it took 3 s"
    assert found["level"] == "INFO"
    assert found["logger"] == "x.y"
    assert found["time"].endswith("Z")
    ids = {"vehicle": "car-1", "assignment": "a1", "iteration": 2, "task": "t1"}
    assert ids.items() <= found.items()


def test_outside_a_line_is_about_the_program_alone() -> None:
    with about(assignment="a1"):
        pass
    found = json.loads(line("json", "stopped"))
    assert found["vehicle"] == "car-1"
    assert "assignment" not in found


def test_what_a_line_says_itself_is_nearer() -> None:
    assert json.loads(line("json", "refused", vehicle="car-2"))["vehicle"] == "car-2"


def test_a_text_line_has_the_ids_behind_the_message() -> None:
    with about(task="t1", assignment="a1"):
        assert line("text", "done").endswith("INFO x.y: done [vehicle=car-1 assignment=a1 task=t1]")


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_a_stranger_sent_makes_no_line_of_its_own(style: Format) -> None:
    found = line(style, "dropped: %s", "x\n2026-01-01 INFO all is well\x1b[2J\u2028")
    assert len(found.splitlines()) == 1
    assert "\x1b" not in found


def test_of_many_that_say_the_same_one_is_told() -> None:
    def record(words: str, who: int) -> logging.LogRecord:
        return logging.LogRecord("link", logging.WARNING, "", 0, words, (who,), None)

    seldom = Seldom(60.0)
    told = [seldom.filter(record("no connection of %s", who)) for who in range(1000)]
    assert told == [True] + [False] * 999
    assert seldom.filter(record("another thing of %s", 1))
    assert Seldom(0.0).filter(record("no connection of %s", 1))
