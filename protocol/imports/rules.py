"""Which modules and attributes a module may use: a policy, found in its text. Pure.

An early and readable word to the analyst, and never the boundary: that is the container.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from protocol.assignment import explain
from protocol.errors import BadRequest
from protocol.imports.names import used_names
from protocol.messages import Verdict
from protocol.module import MAX_SOURCE, Side
from protocol.outcome import Frozen

#: The policy that is shipped.
DEFAULT_FILE: Final = Path(__file__).with_name("rules.toml")
#: The code of a verdict that the rules gave.
CODE: Final = "import_denied"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
#: How much of a name, and how many of them, a person is shown.
_SHOWN_NAME: Final = 100
_SHOWN: Final = 5

#: A dotted name with * and ?, each within one part; a relative import begins with its dots.
Pattern = Annotated[str, Field(max_length=200, pattern=r"^\.*[\w*?]+(\.[\w*?]+)*$")]


class Rule(Frozen):
    """Allows or denies what matches one of its patterns; ``why`` is told to the analyst."""

    allow: tuple[Pattern, ...] = ()
    deny: tuple[Pattern, ...] = ()
    why: str = Field(default="", max_length=300)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.allow) == bool(self.deny):
            raise ValueError("a rule has either allow or deny, with at least one pattern")
        if self.deny and not self.why:
            raise ValueError("a rule that denies says why")
        return self


class _File(Frozen):
    onboard: tuple[Rule, ...] = ()
    offboard: tuple[Rule, ...] = ()
    both: tuple[Rule, ...] = ()


class Violation(NamedTuple):
    """A use that is denied: where (line and column from 1), of what, by which pattern, and why."""

    line: int
    column: int
    name: str
    rule: str
    why: str

    def __str__(self) -> str:
        name = self.name if len(self.name) <= _SHOWN_NAME else f"{self.name[:_SHOWN_NAME]}…"
        return f"{name} is not allowed here: {self.why}"


class _Entry(NamedTuple):
    """One pattern of a rule, at its place in the order."""

    place: int
    pattern: str
    parts: tuple[re.Pattern[str], ...]
    rule: Rule

    def fits(self, name: Sequence[str]) -> bool:
        """True if the parts match as far as both go: the one is then above or below the other."""
        return all(
            part.match(word) is not None for part, word in zip(self.parts, name, strict=False)
        )

    @property
    def denies(self) -> bool:
        return bool(self.rule.deny)

    @property
    def ends_in_star(self) -> bool:
        return self.pattern.endswith(".*")


class ImportRules:
    """Rules in order, for each side: the first that matches decides, and the default is allow."""

    def __init__(self, onboard: Sequence[Rule] = (), offboard: Sequence[Rule] = ()) -> None:
        self._tables = {Side.ONBOARD: _Table(onboard), Side.OFFBOARD: _Table(offboard)}

    def denied(self, side: Side, name: str, *, star: bool = False) -> tuple[str, str] | None:
        """The pattern that denies a name and why; None if it is allowed.

        With ``star`` it is asked for everything below the name at once, which is denied if any of
        it is.
        """
        return self._tables[side].denied(name, star=star)


class _Table:
    """The patterns of one side, found by their first word."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_word: dict[str, list[_Entry]] = {}
        self._others: list[_Entry] = []  # where the first word is not plain
        place = 0
        for rule in rules:
            for pattern in (*rule.allow, *rule.deny):
                words = pattern.split(".")
                parts = tuple(re.compile(fnmatch.translate(word)) for word in words)
                entry = _Entry(place, pattern, parts, rule)
                plain = words[0] and not {"*", "?"} & set(words[0])
                (self._by_word.setdefault(words[0], []) if plain else self._others).append(entry)
                place += 1

    def denied(self, name: str, *, star: bool) -> tuple[str, str] | None:
        words = name.split(".")
        entries = sorted([*self._by_word.get(words[0], ()), *self._others])
        for entry in entries:
            beyond = len(entry.parts) - len(words)
            if not entry.fits(words):
                continue
            if star and entry.denies:
                return entry.pattern, entry.rule.why
            covers = beyond <= 0 or (star and beyond == 1 and entry.ends_in_star)
            if covers:
                return (entry.pattern, entry.rule.why) if entry.denies else None
        return None


def parse(text: str, name: str = "the import rules") -> ImportRules:
    """Read a policy file. Raises BadRequest with what is wrong with it."""
    try:
        file = _File.model_validate(tomllib.loads(text))
    except ValidationError as problem:
        raise BadRequest(f"{name}: {explain(problem)}") from None
    except (ValueError, RecursionError) as problem:  # also a number of more digits than are read
        raise BadRequest(f"{name}: {problem}") from None
    return ImportRules([*file.onboard, *file.both], [*file.offboard, *file.both])


def read(path: str | Path) -> ImportRules:
    """Read a policy from a file. Raises BadRequest if there is none, or what is wrong with it."""
    try:
        return parse(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as problem:
        raise BadRequest(f"{path}: the import rules cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{path}: the import rules are not UTF-8 text") from None


@cache
def default() -> ImportRules:
    """The policy that is shipped."""
    return read(DEFAULT_FILE)


def check(source: str, side: Side, rules: ImportRules) -> list[Violation]:
    """What a source uses and may not, sorted by place.

    A source that cannot be parsed, or is longer than may be deployed, gives none: verification
    says what is wrong with it.
    """
    if len(source) > MAX_SOURCE:
        return []
    uses = used_names(source)
    denials = {
        (name, star): rules.denied(side, name, star=star)
        for name, star in {(use.name, use.star) for use in uses}
    }
    found = [(use, *d) for use in uses if (d := denials[use.name, use.star]) is not None]
    if not found:
        return []
    lines = _LINE_END.split(source.encode(errors="replace"))
    return sorted(
        Violation(
            use.line,
            len(lines[use.line - 1][: use.offset].decode(errors="replace")) + 1,
            f"{use.name}.*" if use.star else use.name,
            pattern,
            why,
        )
        for use, pattern, why in found
    )


@lru_cache(maxsize=64)  # asked again at each call
def verdict(source: str, side: Side, rules: ImportRules) -> Verdict | None:
    """The verdict on a source that uses what it may not; None if there is nothing against it."""
    found = check(source, side, rules)
    if not found:
        return None
    first, *others = found
    reason = str(first)
    if others:
        more = "; ".join(f"{v.name[:_SHOWN_NAME]} in line {v.line}" for v in others[:_SHOWN])
        reason += f". Nor is {more}{'; and more' if len(others) > _SHOWN else ''}"
    return Verdict(ok=False, code=CODE, reason=reason, line=first.line, column=first.column)
