"""docs/ says what the code does."""

from __future__ import annotations

import pytest

from tests.pages import DOCS, PAGES, made


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_made_from_the_code(name: str) -> None:
    page = (DOCS / name).read_text("utf-8")
    assert made(page, PAGES[name]) == page, f"docs/{name} is old: run python -m tests.pages"
    assert all(f"<!-- made: {part} -->" in page for part in PAGES[name])


def test_every_page_is_found_from_the_readme() -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    assert [p.name for p in DOCS.glob("*.md") if f"docs/{p.name}" not in readme] == []
