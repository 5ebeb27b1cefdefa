"""From words on the command line to a request."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from oodida.environment import Environment
from protocol.account import Budget
from protocol.assignment import CUSTOM, Assignment, Attribute, Offboard, Onboard, Select, explain
from protocol.errors import BadRequest
from protocol.topics import is_name

_TASK = "a method that `oodida methods` lists, or custom:MODULE"
_OPTIONS: Final = {
    "Select.names": ("--ids", "vehicles' names, with commas between them: car-1,car-2"),
    "Select.attributes": ("--where", "an attribute's NAME=VALUE, as `oodida vehicles` lists them"),
    "Select.size": ("--sample", "how many vehicles, 1 or more"),
    "Onboard.method": ("--onboard", _TASK),
    "Onboard.module": ("--onboard", _TASK),
    "Onboard.isolation": ("--isolation", "call or assignment"),
    "Onboard.params": ("--param", "NAME=JSON, at most 32 times"),
    "Onboard.signals": ("--signals", "a signal's name, or several: A,B"),
    "Onboard.samples": ("--samples", "how many samples, from 1 to 1000000"),
    "Onboard.rate_hz": ("--rate-hz", "samples a second, above 0 and at most 10000"),
    "Onboard.gaps": ("--gaps", "allow or forbid"),
    "Offboard.method": ("--offboard", _TASK),
    "Offboard.module": ("--offboard", _TASK),
    "Offboard.params": ("--offboard-param", "NAME=JSON, at most 32 times"),
    "Assignment.iterations": ("--iterations", "how many rounds, from 1 to 1000000"),
    "Assignment.consistency": ("--consistency", "majority, newest, pinned or any"),
    "Assignment.deadline_s": ("--deadline", "seconds, from 0.1 to 604800 (a week)"),
    "Assignment.late": ("--late", "drop or next"),
}


@contextlib.contextmanager
def options() -> Iterator[None]:
    """What a request refuses, said in the words of the option that it comes from."""
    try:
        yield
    except BadRequest as error:
        field = error.details.get("field")
        if field not in _OPTIONS:
            raise
        option, takes = _OPTIONS[field]
        given = error.details["given"]
        instead = "nothing" if given in {"()", "''"} else given
        raise BadRequest(f"{option} takes {takes} (given: {instead})") from None


def vehicles_from(words: list[str]) -> dict[str, str | None]:
    """``NAME=RECORDING`` or ``NAME`` each."""
    found: dict[str, str | None] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if name in found:
            raise BadRequest(f"the vehicle {name} is given twice")
        found[name] = path if equals else None
    return found


def attributes_from(words: list[str] | None) -> dict[str, dict[str, Attribute]]:
    """``VEHICLE:NAME=VALUE`` each."""
    found: dict[str, dict[str, Attribute]] = {}
    for word in words or []:
        vehicle, colon, pair = word.partition(":")
        if not colon or not vehicle:
            raise BadRequest(
                f"--attribute {word!r:.60}: say of which vehicle, such as car-1:region=eu"
            )
        name, value = _pair(pair)
        if not isinstance(value, bool | int | float | str):
            raise BadRequest(f"--attribute {word!r:.60}: a value is text, a number, true or false")
        found.setdefault(vehicle, {})[name] = value
    return found


def select_from(ids: str | None, where: list[str] | None, sample: int | None, seed: int) -> Select:
    """Which vehicles are meant."""
    if ids is not None:
        if where or sample is not None:
            raise BadRequest("--ids goes with neither --where nor --sample")
        names = [word.strip() for word in ids.split(",") if word.strip()]
        if not names:
            raise BadRequest("--ids names no vehicle: car-1, or car-1,car-2")
        return Select.ids(names)
    attributes = dict(_pair(word) for word in where or [])
    if sample is not None:
        return Select(size=sample, seed=seed, attributes=attributes)
    return Select(attributes=attributes)


def _pair(word: str) -> tuple[str, Any]:
    """``NAME=VALUE``, where a VALUE that is JSON is what it says, and any other is text."""
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise BadRequest(f"{word!r:.60} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def limits_from(words: list[str] | None) -> dict[str, float]:
    """``NAME=NUMBER`` each."""
    found = {}
    for name, value in map(_pair, words or []):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRequest(f"--limit {name} is a number, not {value!r:.60}")
        found[name] = value
    return found


def quorum_from(word: str | None) -> int | float | None:
    """A number such as ``20``, or a share such as ``0.8`` or ``80%``."""
    if word is None:
        return None
    share = word.endswith("%") or "." in word
    with contextlib.suppress(ValueError):
        wanted = _share(word) if share else int(word)
        if wanted > 0 and (not share or wanted <= 1):
            return wanted
    raise BadRequest(
        f"--quorum {word!r:.60}: a number such as 20, or a share such as 0.8 or 80%, at most 100%"
    )


def halt_from(word: str) -> float | None:
    """A share such as ``0.3`` or ``30%``, or ``never``."""
    if word == "never":
        return None
    with contextlib.suppress(ValueError):
        if 0 < (share := _share(word)) <= 1:
            return share
    raise BadRequest(
        f"--halt-on-failure {word!r:.60}: a share such as 0.3 or 30%, at most 100%, or never"
    )


def _share(word: str) -> float:
    return float(word[:-1]) / 100 if word.endswith("%") else float(word)


def budget_from(word: str | None) -> Budget | None:
    """``NAME=NUMBER`` each, with commas between them."""
    if word is None:
        return None
    found = dict(_pair(part.strip()) for part in word.split(",") if part.strip())
    try:
        return Budget.model_validate(found)
    except ValidationError as problem:
        names = ", ".join(Budget.model_fields)
        raise BadRequest(f"--budget: {explain(problem)}; there are {names}") from None


def schema_from(path: Path | None) -> dict[str, Any] | None:
    """The JSON object in a file."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise BadRequest(f"{path} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise BadRequest(f"{path} is not JSON: {problem}") from None
    if not isinstance(found, dict):
        raise BadRequest(f'{path} is no JSON schema: an object such as {{"type": "number"}}')
    return found


def environment_from(
    name: str | None, requirements: list[str] | None, wheels: Path | None, lock: Path | None
) -> str | Environment | None:
    """Which environment is meant."""
    if not requirements and wheels is None and lock is None:
        return name
    if name is not None:
        raise BadRequest("--environment goes with none of --requirement, --wheels and --lock")
    return Environment(requirements or (), wheels or (), lock or "")


def assignment_from(
    onboard: str,
    signals: str,
    samples: int,
    offboard: str,
    param: list[str] | None,
    offboard_param: list[str] | None,
    *,
    rate_hz: float | None,
    isolation: str = "call",
    gaps: str = "allow",
    **rest: Any,
) -> Assignment:
    """An assignment; BadRequest for what is none."""
    names = [word.strip() for word in signals.split(",") if word.strip()]
    method, module = _task("--onboard", onboard)
    off_method, off_module = _task("--offboard", offboard)
    return Assignment(
        onboard=Onboard(
            method,
            module=module,
            isolation=isolation,  # type: ignore[arg-type]  # whatever else it is, it says so
            signals=names[0] if len(names) == 1 else tuple(names),
            samples=samples,
            rate_hz=rate_hz,
            gaps=gaps,  # type: ignore[arg-type]
            params=dict(_pair(word) for word in param or []),
        ),
        offboard=Offboard(
            off_method, module=off_module, params=dict(_pair(word) for word in offboard_param or [])
        ),
        **rest,
    )


def _task(option: str, word: str) -> tuple[str, str | None]:
    """``custom:NAME`` or a method's name."""
    method, colon, module = word.partition(":")
    if method == CUSTOM and not is_name(module):
        raise BadRequest(f"{option} {word!r:.80} names no module: {CUSTOM}:NAME, as it is deployed")
    return (CUSTOM, module) if colon and method == CUSTOM else (word, None)
