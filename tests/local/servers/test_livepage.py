"""The live page's folder: what is in it, what its policy lets in, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.__main__ import main
from agents.base.errors import SettingsError
from agents.local.servers import livepage
from agents.local.servers.livepage import LivePlace, install_live_page

OWN = LivePlace("example.org", "wss://xmpp.example.org/ws")


def names(folder: Path) -> set[str]:
    return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}


def test_each_file_that_the_page_names_is_in_its_folder(tmp_path: Path) -> None:
    assert install_live_page(tmp_path / "page", OWN)
    there = names(tmp_path / "page")
    asked = set()
    for name in there:
        if name.startswith("lib/"):
            continue
        text = (tmp_path / "page" / name).read_text("utf-8")
        asked |= set(re.findall(r'(?:from|src=|href=|fetch\()\s*"(?:\./)?([\w./-]+)"', text))
    assert {"main.js", "page.css", "lib/ol/ol.js", "lib/world-atlas/land-50m.json"} <= asked
    assert asked - there == set()
    assert {"lib/ol/LICENSE.md", "lib/uplot/LICENSE", "lib/world-atlas/LICENSE"} <= there
    assert not {n for n in there if n.endswith(".sha512") or ".complete" in n}
    modes = {f.stat().st_mode & 0o777 for f in (tmp_path / "page").rglob("*") if f.is_file()}
    assert modes == {0o644}


def test_the_policy_lets_in_own_files_and_the_one_server(tmp_path: Path) -> None:
    assert install_live_page(tmp_path, OWN)
    page = (tmp_path / "index.html").read_text("utf-8")
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None
    policy = found[1].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "connect-src 'self' wss://xmpp.example.org/ws" in policy
    assert "unsafe" not in found[1]
    assert "$" not in page
    assert 'data-domain="example.org"' in page


def test_an_earlier_page_is_replaced_and_another_folder_is_left_alone(tmp_path: Path) -> None:
    assert install_live_page(tmp_path / "page", OWN)
    assert install_live_page(tmp_path / "page", LivePlace("two.example", "/ws"))
    assert 'data-domain="two.example"' in (tmp_path / "page" / "index.html").read_text("utf-8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(SettingsError, match="choose another folder"):
        install_live_page(tmp_path / "other", OWN)
    assert names(tmp_path / "other") == {"mine.txt"}


@pytest.mark.parametrize(
    ("domain", "websocket"),
    [
        ('x" onload="y', "/ws"),
        ("example.org", "https://example.org/ws"),
        ("example.org", "wss://x/ws; script-src *"),
        ("example.org", 'wss://x/ws"'),
        ("example.org", ""),
        ("", "/ws"),
    ],
)
def test_nothing_that_would_change_the_page_or_its_policy_is_taken(
    domain: str, websocket: str
) -> None:
    with pytest.raises(SettingsError):
        LivePlace(domain, websocket)


def test_the_command_writes_it_and_says_so_where_the_libraries_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["live-page", str(tmp_path / "page"), "--domain", "example.org"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0
    assert (tmp_path / "page" / "index.html").exists()
    monkeypatch.setattr(livepage, "LIBRARIES", tmp_path / "never")
    missing = CliRunner().invoke(main, words)
    assert missing.exit_code == 2
    assert "make install" in missing.output
