"""The table of the audit log fits a terminal of 100 columns."""

from __future__ import annotations

from typing import Any, Final

import pytest

from oodida.cli.auditing import COLUMNS, row
from oodida.cli.columns import widths
from protocol.audit import GENESIS, Entry

#: What 100 columns leave for the cells.
ROOM: Final = 100 - 3 * len(COLUMNS) - 1


def entry(number: int = 1, **facts: Any) -> Entry:
    given = {"actor": "analyst:ada", "action": "submit", "allowed": True, **facts}
    return Entry(
        number=number, at="2026-11-26T03:05:47.942078Z", orchestrator="o-1", before=GENESIS,
        hash="0" * 64, **given,
    )  # fmt: skip


HELD = entry(2, actor="orchestrator", action="hold_module", subject="35b280c1083381dc")
REFUSED = entry(
    123, action="approve", allowed=False, subject="35b280c1083381dc", code="not_awaiting",
    reason=f"the deployment 35b280c1083381dc has the digest {'a' * 64}, and not {'b' * 64}",
)  # fmt: skip
TOO_MANY = entry(
    9999, actor="vehicle:a-lorry-with-a-long-name", action="reports", allowed=False,
    subject="35b280c1083381dc-12-lorry", code="too_many_assignments", reason="x " * 400,
)  # fmt: skip


@pytest.mark.parametrize("entries", [[HELD, REFUSED], [HELD, REFUSED, TOO_MANY]])
def test_it_fits_and_no_time_is_wrapped(entries: list[Entry]) -> None:
    found = widths(COLUMNS, [row(each) for each in entries], ROOM, whole=2)
    assert found is not None
    assert sum(found) <= ROOM


def test_what_is_short_is_whole() -> None:
    assert row(HELD) == [
        "2", "11-26 03:05:47", "orchestrator", "hold_module", "35b280c1083381dc", "allowed",
    ]  # fmt: skip
    assert row(entry(code="forbidden", allowed=False, reason="no role"))[2:] == [
        "ada", "submit", "", "forbidden: no role",
    ]  # fmt: skip


def test_what_is_long_is_cut_off_where_it_can_be_seen() -> None:
    assert "has the digest aaaaaaaaaaaa… and not bbbbbbbbbbbb…" in row(REFUSED)[-1]
    assert row(TOO_MANY)[2:5] == ["vehicle:a-lor…", "reports", "35b280c1083381d…"]
