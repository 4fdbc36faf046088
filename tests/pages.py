"""Parts of the pages in docs/ are made from the code: `python -m tests.pages` makes them anew,
tests/test_pages.py says which are old.

A part stands between `<!-- made: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from agents.core.operators.command import Access
from agents.core.operators.registry import COMMANDS
from tests.handover_model import page as handover

DOCS = Path(__file__).parents[1] / "docs"
_WHO = {Access.LOOK: "member", Access.ACT: "admin", Access.TUNE: "owner"}


def commands() -> str:
    """Every operator command: what it does, how it goes, who may."""
    rows = ["| command | does | who |", "|---|---|---|"]
    for c in COMMANDS.values():
        who = _WHO[c.access] + (
            f"; to change: {_WHO[c.highest_access]}" if c.highest_access > c.access else ""
        )
        usage, helps = (text.replace("|", r"\|") for text in (c.usage, c.help))
        rows.append(f"| `{usage}` | {helps} | {who} |")
    return "\n".join(rows)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "handover.md": handover.PARTS,
    "fronts.md": {"commands": commands},
}


def made(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The page with each of its parts made anew."""

    def part(m: re.Match[str]) -> str:
        return f"<!-- made: {m.group(1)} -->\n{parts[m.group(1)]()}\n<!-- end -->"

    return re.sub(r"<!-- made: (\w+) -->\n.*?<!-- end -->", part, page, flags=re.DOTALL)


def main() -> None:
    for name, parts in PAGES.items():
        page = DOCS / name
        page.write_text(made(page.read_text("utf-8"), parts), "utf-8")


if __name__ == "__main__":
    main()
