"""The page of life cycles is the one that the tables make."""

from __future__ import annotations

from protocol.diagram import page
from tests.conftest import ROOT


def test_the_page_is_not_stale() -> None:
    written = (ROOT / "docs" / "reference" / "life-cycles.md").read_text()
    assert written == page(), "write it again: python -m protocol.diagram"
