"""docs/ and README.md say what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agents.__main__ import main
from tests.pages import DOCS, PAGES, made

README = DOCS.parent / "README.md"
_CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^(?:[$#>] )?(?:\S*/)?geolane +([a-z][^#|&;\n]*)", re.MULTILINE)
_CHAT = re.compile(r"^\w+ +!\w", re.MULTILINE)  # somebody in the room; there, `geolane` is the bot


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_made_from_the_code(name: str) -> None:
    page = (DOCS / name).read_text("utf-8")
    assert made(page, PAGES[name]) == page, f"docs/{name} is old: run python -m tests.pages"
    assert all(f"<!-- made: {part} -->" in page for part in PAGES[name])


def test_every_page_is_found_from_the_readme() -> None:
    readme = README.read_text("utf-8")
    assert [p.name for p in DOCS.glob("*.md") if f"docs/{p.name}" not in readme] == []


def test_every_command_of_the_pages_exists_with_its_options() -> None:
    used = {(page.name, c) for page in (README, *DOCS.glob("*.md")) for c in _commands_in(page)}
    assert len(used) > 100
    assert [(page, c, bad) for page, c in sorted(used) if (bad := _unknown_word(c))] == []


def _commands_in(page: Path) -> Iterator[str]:
    for block, span in _CODE.findall(page.read_text("utf-8")):
        if _CHAT.search(block) is None:
            yield from _COMMAND.findall(block or span)


def _unknown_word(command: str) -> str | None:
    """The first sub-command or option that `geolane` does not have."""
    at: click.Command = main
    known: set[str] = set()
    for word in command.split():
        if isinstance(at, click.Group):
            if word not in at.commands:
                return word
            at = at.commands[word]
            known = {o for p in at.params for o in p.opts} | {"--help"}
        elif word == "--":
            break
        elif word.startswith("--") and word.partition("=")[0] not in known:
            return word
    return None
