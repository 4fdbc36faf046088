"""The page's files: what is laid, what goes, and what happens where converse.js was never
installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.local.servers import webchat
from agents.local.up import UpOptions


def names(folder: Path) -> set[str]:
    return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}


def test_the_page_knows_its_domain_and_room_and_nothing_of_before_stays(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "page.js").write_text("old")
    assert webchat.install_page(tmp_path, "d.test", "ops@conference.d.test")
    page = (tmp_path / "index.html").read_text("utf-8")
    assert 'data-room="ops@conference.d.test"' in page
    assert 'value="operator@d.test"' in page
    assert "$" not in page
    assert {"page.js", "page.css", "converse.min.js", "converse.min.css"} <= names(tmp_path)
    assert not names(tmp_path) & {"old/page.js", "axe.min.js", "packages.sha512"}
    assert all(f.stat().st_mode & 0o044 == 0o044 for f in tmp_path.rglob("*")), (
        "the server's user reads them"
    )


def test_without_converse_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert webchat.install_page(tmp_path, "d.test", "ops@conference.d.test")
    monkeypatch.setattr(webchat, "BROUGHT", tmp_path / "never")
    assert not webchat.install_page(tmp_path, "d.test", "ops@conference.d.test")
    assert names(tmp_path) == set()


def test_the_page_can_be_left_out() -> None:
    assert UpOptions().make_plan().web
    assert not UpOptions(no_web=True).make_plan().web
