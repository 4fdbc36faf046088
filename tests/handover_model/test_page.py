"""docs/handover.md says what the code does."""

from __future__ import annotations

from tests.handover_model.page import PAGE, PARTS, made


def test_the_page_is_made_from_the_table_of_the_core() -> None:
    page = PAGE.read_text("utf-8")
    assert made(page) == page, "docs/handover.md is old: run python -m tests.handover_model.page"
    assert all(f"<!-- made: {name} -->" in page for name in PARTS)
