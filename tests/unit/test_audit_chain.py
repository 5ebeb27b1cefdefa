"""Whatever is done to an audit log is found, and it is said where."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from protocol import audit
from protocol.audit import GENESIS, Act, Head

_TEXTS = st.text(max_size=20).map(lambda words: audit.text(words, 20))
_ACTS = st.builds(
    Act,
    actor=_TEXTS,
    action=_TEXTS,
    allowed=st.booleans(),
    subject=_TEXTS,
    reason=_TEXTS,
    details=st.dictionaries(_TEXTS, _TEXTS | st.integers(), max_size=3),
)


def _written(acts: list[Act]) -> list[str]:
    head, lines = Head(), []
    for act in acts:
        entry = audit.after(head, act, "2026-01-01T00:00:00.000Z", "one")
        head = Head(entry.number, entry.hash)
        lines.append(audit.line(entry))
    return lines


_LOGS = st.lists(_ACTS, min_size=1, max_size=6).map(_written)


def _hash(line: str) -> str:
    return str(json.loads(line)["hash"])


@given(_LOGS)
def test_what_was_written_is_whole(lines: list[str]) -> None:
    verdict = audit.verify(lines, _hash(lines[-1]))
    assert verdict.findings == ()
    assert verdict.entries == len(lines) == verdict.head.number
    assert verdict.head.hash == _hash(lines[-1])


@given(_LOGS, st.data())
def test_any_changed_character_is_found_at_its_entry(lines: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[at]) - 1))
    new = data.draw(st.characters())
    assume(new != lines[at][place])
    changed = lines[at][:place] + new + lines[at][place + 1 :]
    verdict = audit.verify([*lines[:at], changed, *lines[at + 1 :]])
    # A number or a link may be what was changed: then the entry after it does not fit, either.
    assert {finding.number for finding in verdict.findings} & {at + 1, at + 2} or any(
        f"line {at + 1} " in finding.problem or "missing" in finding.problem
        for finding in verdict.findings
    )


@given(_LOGS, st.data())
def test_a_changed_meaning_with_a_fitting_hash_is_found_at_the_next(
    lines: list[str], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    old = json.loads(lines[at])
    head = Head(old["number"] - 1, old["before"])
    act = data.draw(_ACTS)
    forged = audit.after(head, act, old["at"], "one")
    assume(forged.hash != old["hash"])
    changed = [*lines[:at], audit.line(forged), *lines[at + 1 :]]
    known = _hash(lines[-1])
    verdict = audit.verify(changed, known)
    (finding,) = verdict.findings
    # The last one has none after it: the head that was noted is what finds it.
    assert finding.number == at + 2


@given(_LOGS, st.data())
def test_a_removed_entry_is_named(lines: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    verdict = audit.verify(lines[:at] + lines[at + 1 :], _hash(lines[-1]))
    (finding,) = verdict.findings
    last = at == len(lines) - 1
    assert ("cut off" if last else f"entry {at + 1} is missing") in finding.problem


@given(_LOGS, st.data())
def test_swapped_entries_are_found(lines: list[str], data: st.DataObject) -> None:
    assume(len(lines) > 1)
    one = data.draw(st.integers(0, len(lines) - 2))
    other = data.draw(st.integers(one + 1, len(lines) - 1))
    swapped = list(lines)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    found = {finding.number for finding in audit.verify(swapped).findings}
    assert other + 1 in found
    assert one + 1 in found


@given(_LOGS, _ACTS, st.data())
def test_an_entry_put_in_is_found(lines: list[str], act: Act, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    old = json.loads(lines[at])
    added = audit.after(Head(old["number"] - 1, old["before"]), act, old["at"], "one")
    verdict = audit.verify([*lines[:at], audit.line(added), *lines[at:]])
    assert verdict.findings[0].number == at + 1


@given(_LOGS, st.data())
def test_an_end_that_was_cut_off_is_found_by_a_head_noted_before(
    lines: list[str], data: st.DataObject
) -> None:
    left = data.draw(st.integers(0, len(lines) - 1))
    (finding,) = audit.verify(lines[:left], _hash(lines[-1])).findings
    assert finding.number == left + 1
    # Without one, what is left is a log like any other.
    assert audit.verify(lines[:left]).findings == ()


@given(_LOGS, st.data())
def test_a_log_that_has_grown_since_a_head_was_noted_is_whole(
    lines: list[str], data: st.DataObject
) -> None:
    noted = data.draw(st.sampled_from([GENESIS, *map(_hash, lines)]))
    assert audit.verify(lines, noted).findings == ()


@given(st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_no_line_is_too_bad_to_be_read(lines: list[str]) -> None:
    assert len(audit.verify(lines).findings) == len(lines)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_that_is_no_entry_is_found(tree: Any) -> None:
    assert audit.verify([json.dumps(tree)]).findings


def test_deep_nesting_is_no_entry() -> None:
    assert audit.verify(["[" * 100_000]).findings


@given(st.text(alphabet=st.characters(categories=["Cs", "Cc", "L"])), st.integers(1, 30))
def test_text_is_on_one_line_and_in_bounds(words: str, longest: int) -> None:
    clean = audit.text(words, longest)
    assert len(clean) <= longest
    assert clean.encode().decode().isprintable()
