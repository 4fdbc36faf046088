"""Rows come into the inventory's file and go out of it, and every other line stays as somebody
wrote it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agents.admin import inventory_file
from agents.admin.inventory_file import Row
from agents.base.errors import SettingsError

FILE = """\
# ours, since 2024
[[site]]
name = "iad"   # the old one
region = "East US"
lat = 37.4
lon = -79.8

# rented
[[node]]
name = "iad-1"
site = "iad"
capacity_eps = 2_000.0     # measured

# behind it
[[router]]
name = "1"
site = "iad"
capacity_eps = 5000.0
"""
NEW = Row("iad-2", "iad", 1500.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.toml"
    path.write_text(FILE, "utf-8")
    path.chmod(0o640)
    return path


def test_a_row_stands_behind_the_last_of_its_kind(file: Path) -> None:
    assert inventory_file.add_row(file, NEW)
    assert file.read_text("utf-8") == FILE.replace("# measured\n", f"# measured\n\n{NEW.toml}")
    assert file.stat().st_mode & 0o777 == 0o640
    assert [f.name for f in file.parent.iterdir()] == [file.name]


def test_added_twice_it_is_there_once(file: Path) -> None:
    assert [inventory_file.add_row(file, NEW) for _ in range(2)] == [True, False]
    assert file.read_text("utf-8").count("iad-2") == 1


def test_added_and_removed_is_as_before(file: Path) -> None:
    inventory_file.add_row(file, NEW)
    assert [inventory_file.remove_row(file, "iad-2") for _ in range(2)] == [True, False]
    assert file.read_text("utf-8") == FILE


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (Row("ric-1", "ric", 10), "there is no site 'ric'"),
        (Row("iad-1", "iad", 10), "with capacity_eps = 2000. Change its row"),
        (Row("iad-9", "iad", -1), "capacity_eps"),
    ],
)
def test_what_cannot_be_changes_nothing(file: Path, row: Row, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        inventory_file.add_row(file, row)
    assert file.read_text("utf-8") == FILE


def test_a_file_of_another_form_is_left_to_its_writer(file: Path) -> None:
    text = FILE.replace(
        '[[node]]\nname = "iad-1"\nsite = "iad"\ncapacity_eps = 2_000.0     # measured\n', ""
    ).replace("# ours", 'node = [{name = "iad-1", site = "iad", capacity_eps = 1.0}]\n# ours')
    file.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match="edit it by hand"):
        inventory_file.add_row(file, NEW)
    with pytest.raises(SettingsError, match="edit it by hand"):
        inventory_file.remove_row(file, "iad-1")
    assert file.read_text("utf-8") == text


def test_many_at_once_are_all_there(file: Path) -> None:
    threads = [
        threading.Thread(target=inventory_file.add_row, args=(file, Row(f"iad-{n}", "iad", 1.0)))
        for n in range(2, 12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(inventory_file.read_inventory(file).workers) >= {
        f"node-iad-{n}" for n in range(1, 12)
    }
