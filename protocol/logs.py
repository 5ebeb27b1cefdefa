"""How our programs log; the only file that imports python-json-logger.

What a line is about (`assignment`, `task`, `vehicle` and so on) is said once, around the work, and
stands in every line of it as fields of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

#: The fields that say what a line is about, in the order in which they are written.
FIELDS: Final = (
    "orchestrator", "vehicle", "worker", "user", "assignment", "iteration", "task", "attempt",
)  # fmt: skip
Format = Literal["text", "json"]

_about: ContextVar[Mapping[str, str | int] | None] = ContextVar("about", default=None)


@contextmanager
def about(**ids: str | int) -> Iterator[None]:
    """Every line that is logged inside, by this task or thread, is about these."""
    token = _about.set({**(_about.get() or {}), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def start_logging(level: str, style: Format = "text", **ids: str) -> None:
    """Log to standard error, one line an event; ``ids`` are what all of them are about."""
    logging.basicConfig(level=level.upper(), handlers=[handler(style, ids)])


def handler(style: Format, ids: Mapping[str, str]) -> logging.Handler:
    """What writes the lines of a program, all of which are about ``ids``."""
    made = logging.StreamHandler()
    made.addFilter(_Ids(ids))
    made.setFormatter(_json() if style == "json" else _Text())
    return made


class Seldom(logging.Filter):
    """Of many that say the same, lets one through in a while; ``every_s`` is that in seconds."""

    def __init__(self, every_s: float = 10.0) -> None:
        super().__init__()
        self._every_s = every_s
        self._told_at: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True if nobody has said this for a while."""
        same, now = (record.name, record.msg), time.monotonic()
        if now - self._told_at.get(same, -self._every_s) < self._every_s:
            return False
        self._told_at[same] = now
        return True


class _Ids(logging.Filter):
    """Puts what a line is about into its record."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        super().__init__()
        self._ids = ids

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in {**self._ids, **(_about.get() or {})}.items():
            if not hasattr(record, name):  # what the line itself says is nearer
                setattr(record, name, value)
        return True


class _Text(logging.Formatter):
    """For people: the ids behind the message, and what others have sent on one line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        line = super().formatMessage(record)
        found = [f"{name}={value}" for name in FIELDS if (value := getattr(record, name, None))]
        line += f" [{' '.join(found)}]" if found else ""
        # A stranger's message must not look like a line of ours.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _json() -> logging.Formatter:
    """For programs: one JSON object a line."""
    from pythonjsonlogger.json import JsonFormatter

    formatter = JsonFormatter(
        "{asctime}{levelname}{name}{message}",
        style="{",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
    )
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    return formatter
