"""The audit log's chain: each entry has the hash of the one before, so no change goes unseen.

An entry is one line of JSON, written in one way only. Its hash is the SHA-256 of that line without
the hash itself; the hash of the entry before is in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field, ValidationError

from protocol.outcome import Frozen

#: What the first entry has in place of a hash before it.
GENESIS: Final = "0" * 64
#: Characters that an entry's text does not hold: controls, and halves of a character.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: Findings that are told of one log; after so many, what is wrong is everything.
MOST: Final = 1000

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Act(Frozen):
    """Who did what, and whether it was allowed.

    ``actor`` is ``role:name``; ``action`` is a request's mode or what else was done; ``subject`` is
    the id or name that it is about. ``code`` and ``reason`` say why it was refused. ``topic`` is
    where it came in, and ``client`` the one of the actor's programs that asked, as it says.
    """

    actor: str = Field(max_length=100)
    action: str = Field(max_length=64)
    allowed: bool
    subject: str = Field(default="", max_length=200)
    code: str = Field(default="", max_length=64)
    reason: str = Field(default="", max_length=1000)
    topic: str = Field(default="", max_length=300)
    client: str = Field(default="", max_length=64)
    details: dict[str, str | int] = Field(default_factory=dict)


class Entry(Act):
    """An act in its place in the log.

    ``at`` is a time in ISO 8601, in UTC. ``orchestrator`` is who wrote it. Made by `after`, its
    hash is right; one that was read may be anything.
    """

    number: int = Field(ge=1)
    at: str = Field(max_length=32)
    orchestrator: str = Field(max_length=64)
    before: Hash
    hash: Hash


class Head(NamedTuple):
    """Where a log ends: the last entry's number and hash."""

    number: int = 0
    hash: str = GENESIS


class Finding(NamedTuple):
    """Something that is wrong with a log, at the entry of this number or from it on."""

    number: int
    problem: str


class Verdict(NamedTuple):
    """What a log is found to be: how many entries, where it ends, and what is wrong with it."""

    entries: int
    head: Head
    findings: tuple[Finding, ...]


def text(words: str, longest: int) -> str:
    """Words as an entry may hold them: in bounds, on one line."""
    clean = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", words)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def canonical(tree: dict[str, Any]) -> str:
    """The one way to write it. All but ASCII is escaped, so no encoding plays a part."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


def after(head: Head, act: Act, at: str, orchestrator: str) -> Entry:
    """The entry that follows a log's head."""
    tree = {
        **act.model_dump(),
        "number": head.number + 1,
        "at": at,
        "orchestrator": orchestrator,
        "before": head.hash,
    }
    return Entry.model_validate({**tree, "hash": _hash(tree)})


def line(entry: Entry) -> str:
    """An entry as an export has it, without the end of the line."""
    return canonical(entry.model_dump())


def verify(lines: Iterable[str], known_head: str | None = None) -> Verdict:
    """Check a whole log, given line by line. Every difference from what was written is found.

    ``known_head`` is the hash of an entry that was noted earlier: with it, it is found too if the
    log's end was cut off, or all of it written anew. Without it these two cannot be seen.
    """
    head, count, findings, missed = Head(), 0, list[Finding](), known_head
    for place, one in enumerate(lines, start=1):
        count += 1
        try:
            entry = _read(one)
        except ValueError as problem:
            findings.append(Finding(head.number + 1, f"line {place} is no entry: {problem}"))
            continue
        findings += (Finding(entry.number, problem) for problem in _problems(head, entry))
        head = Head(entry.number, entry.hash)
        if entry.hash == missed:
            missed = None
        if len(findings) >= MOST:
            findings.append(Finding(entry.number, "there is more; this is told no further"))
            return Verdict(count, head, tuple(findings))
    if missed is not None and missed != GENESIS:
        cut = f"no entry has the hash {missed}: the log was cut off before it, or written anew"
        findings.append(Finding(head.number + 1, cut))
    return Verdict(count, head, tuple(findings))


def _problems(head: Head, entry: Entry) -> Iterable[str]:
    expected = head.number + 1
    if entry.number > expected:
        gone = f"entry {expected} is" if entry.number == expected + 1 else (
            f"entries {expected} to {entry.number - 1} are"
        )  # fmt: skip
        yield f"{gone} missing before entry {entry.number}"
    elif entry.number < expected:
        yield f"entry {entry.number} stands after entry {head.number}: moved or put in"
    elif entry.before != head.hash:
        yield (
            f"entry {entry.number} does not follow entry {head.number}: one of the two was replaced"
            if head.number
            else "entry 1 does not begin a log"
        )
    if _hash(entry.model_dump(exclude={"hash"})) != entry.hash:
        yield f"entry {entry.number} was changed: its hash is another"


def _read(one: str) -> Entry:
    """Read a line. Raises ValueError; also for what means the same but was not written so."""
    try:
        entry = Entry.model_validate(json.loads(one), strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if line(entry) != one.removesuffix("\n"):
        raise ValueError("it is not written as this log writes")
    return entry


def _hash(tree: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(tree).encode()).hexdigest()
