"""docs/planning.md is true: every calm rule stands in it with its default, and nothing else
does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from agents.settings.calm import Calm

PAGE = Path(__file__).parent.parent / "docs" / "planning.md"


def test_the_page_has_every_calm_rule_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    assert {k: float(v) for k, v in rows.items()} == {
        k: float(v) for k, v in msgspec.structs.asdict(Calm()).items()
    }
