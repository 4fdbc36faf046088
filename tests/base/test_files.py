"""A password is made once, whoever comes at once and whatever a full disk left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents.base import files
from agents.base.errors import SettingsError
from agents.base.files import read_or_make_password


@pytest.mark.parametrize("empty", [False, True])
def test_of_many_who_come_at_once_all_have_the_same(tmp_path: Path, empty: bool) -> None:
    with ThreadPoolExecutor(8) as threads:
        for n in range(20):
            file = tmp_path / f"node-{n}"
            if empty:
                file.touch(mode=0o600)
            found = set(threads.map(read_or_make_password, [file] * 8))
            assert found == {file.read_text().strip()}
            assert len(found.pop()) >= 43, "256 bits"
            assert file.stat().st_mode & 0o777 == 0o600
    assert {f.name for f in tmp_path.iterdir()} == {f"node-{n}" for n in range(20)}, (
        "nothing else is left"
    )


def test_one_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "node-1").write_text("correct horse\n")
    assert read_or_make_password(tmp_path / "node-1") == "correct horse"


def test_what_cannot_be_written_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agents.base.files.os.fsync", full)
    with pytest.raises(
        SettingsError, match=r"node-1: cannot be written \(No space left on device\)"
    ):
        read_or_make_password(tmp_path / "node-1")
    assert not list(tmp_path.iterdir())


def test_who_waits_too_long_is_told_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_S", 0.05)
    with (
        files.locked_folder(tmp_path / "a"),
        pytest.raises(SettingsError, match="node-1: another process"),
    ):
        read_or_make_password(tmp_path / "node-1")


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text("a")
    (tmp_path / "nodes.toml").chmod(0o640)
    files.replace_file(tmp_path / "nodes.toml", "b")
    assert (tmp_path / "nodes.toml").read_text() == "b"
    assert (tmp_path / "nodes.toml").stat().st_mode & 0o777 == 0o640
