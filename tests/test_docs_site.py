"""README.md and docs/ make a site, as `make docs` does: every page is in its navigation, every link
and anchor leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    pages = {page.name: page.read_text("utf-8") for page in tmp_path.glob("*.html")}
    names = {"index.html", "404.html"} | {f"{p.stem}.html" for p in ROOT.glob("docs/*.md")}
    assert set(pages) == names
    loaded = re.compile(r'<(?:script|img|link|iframe|source)[^>]* (?:src|href)="?(?:https?:)?//')
    assert [name for name, html in pages.items() if loaded.search(html)] == []
    assert 'src="assets/mermaid.min.js"' in pages["handover.html"]
