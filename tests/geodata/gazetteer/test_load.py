"""The table is made once and kept; a damaged file is made again, and where no folder can be written
it is made aside."""

from __future__ import annotations

import random
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.base.errors import GeoError
from agents.geodata.gazetteer import build, load
from agents.geodata.gazetteer.columns import Columns, read_columns, write_columns
from agents.geodata.gazetteer.index import PlaceIndex


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Columns:
    """Cities of at least 15,000 inhabitants: quick to make."""
    return build.build_columns(15000)


@pytest.fixture
def built(table: Columns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that were made. The cache is in `tmp_path`."""
    files: list[Path] = []

    def make(file: Path) -> None:
        files.append(file)
        write_columns(table, file)

    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "_build", make)
    load._load.cache_clear()
    yield files
    load._load.cache_clear()


def test_a_smaller_table_finds_the_same(table: Columns) -> None:
    place = PlaceIndex(table).find("Springfield, Illinois")
    assert (place.lat, place.lon, place.country) == (39.80172, -89.64371, "US")


def test_it_is_made_once_and_only_its_owner_can_read_it(built: list[Path], tmp_path: Path) -> None:
    assert len(load.load_place_index()) > 30_000
    load._load.cache_clear()
    load.load_place_index()
    (file,) = built
    assert file.parent == tmp_path / "cache"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_with_one_wrong_bit_is_read_or_made_again(table: Columns, tmp_path: Path) -> None:
    """The bits of the headers, which no checksum protects: their readers raise anything."""
    file = tmp_path / "table.npz"
    write_columns(table, file)
    data, dice = file.read_bytes(), random.Random(14)
    with zipfile.ZipFile(file) as parts:
        headers = [
            at for x in parts.infolist() for at in range(x.header_offset, x.header_offset + 200)
        ]
    outcomes = set()
    for _ in range(200):
        changed = bytearray(data)
        changed[dice.choice(headers)] ^= 1 << dice.randrange(8)
        file.write_bytes(changed)
        outcomes.add(read_columns(file) is None)
    assert True in outcomes


def test_a_table_of_an_older_version_is_removed(built: list[Path], tmp_path: Path) -> None:
    old = tmp_path / "cache" / "places-0-1-1.npz"
    old.parent.mkdir()
    old.write_bytes(b"")
    load.load_place_index()
    assert list(old.parent.iterdir()) == built


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99999])
def test_a_file_that_was_cut_is_made_again(built: list[Path], keep: float) -> None:
    load.load_place_index()
    data = built[0].read_bytes()
    built[0].write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    load._load.cache_clear()
    assert len(load.load_place_index()) > 30_000
    assert len(built) == 2


def test_a_bit_that_changed_is_noticed(built: list[Path]) -> None:
    load.load_place_index()
    data = bytearray(built[0].read_bytes())
    data[len(data) // 2] ^= 1
    built[0].write_bytes(data)
    assert read_columns(built[0]) is None


def test_without_a_folder_it_is_made_aside(
    built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("CACHE_DIRECTORY", str(file / "below"))
    assert len(load.load_place_index()) > 30_000
    assert not built[0].exists()


def test_on_a_full_disk_it_is_made_aside(
    built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = load._build

    def fill(file: Path) -> None:
        if file.parent == tmp_path / "cache":
            raise GeoError("OSError: [Errno 28] No space left on device")
        make(file)

    monkeypatch.setattr(load, "_build", fill)
    assert len(load.load_place_index()) > 30_000
    assert len(built) == 1


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PACKAGES", ("no-such-package",))
    load._load.cache_clear()
    with pytest.raises(GeoError, match="no-such-package is not installed; run: pip install"):
        load.load_place_index()


def test_a_process_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(GeoError, match=f"could not be made in {tmp_path}: exit code 1"):
        load._build(tmp_path / "places.npz")
