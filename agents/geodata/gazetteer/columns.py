"""The table as columns: a few arrays instead of a million objects, kept in one file between
starts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

FORMAT = 3
"""Grows with every change of what the file holds or of how names are folded."""


class Region(msgspec.Struct, frozen=True):
    """The first-level division of a country. `code`: GeoNames' own (`IL`, `08`). `name`: empty
    where it is not known. `lat`, `lon`: degrees, the middle of its people."""

    country: str
    code: str
    name: str
    people: int
    lat: float
    lon: float


class Country(msgspec.Struct, frozen=True):
    """`code`, `code3`: ISO 3166. `lat`, `lon`: degrees, the middle of its people."""

    code: str
    code3: str
    name: str
    capital: str
    people: int
    lat: float
    lon: float


class AirportRow(msgspec.Struct, frozen=True):
    """`city`, `region`: names for people, or empty."""

    name: str
    city: str
    region: str
    country: str
    lat: float
    lon: float


class Directory(msgspec.Struct, frozen=True):
    """What is small. `airports`: by IATA code. `metropolises`: city and country, by the IATA
    code of a city that has several airports (`LON`)."""

    regions: list[Region]
    countries: list[Country]
    airports: dict[str, AirportRow]
    metropolises: dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Columns:
    """C cities from south to north, and K keys of their names in the order of their hashes.

    `lat`, `lon`: degrees, float32[C]. `people`: inhabitants, uint32[C]. `region`: row of
    `directory.regions`, uint16[C]. `name`: UTF-8 of all names, uint8; that of city c begins at
    `begins[c]`, uint32[C + 1]. `hashes`: uint64[K]. `cities`: row of the city, uint32[K]. `own`:
    whether the key is the city's first name rather than one of its others, bool[K]."""

    lat: npt.NDArray[np.float32]
    lon: npt.NDArray[np.float32]
    people: npt.NDArray[np.uint32]
    region: npt.NDArray[np.uint16]
    name: npt.NDArray[np.uint8]
    begins: npt.NDArray[np.uint32]
    hashes: npt.NDArray[np.uint64]
    cities: npt.NDArray[np.uint32]
    own: npt.NDArray[np.bool_]
    directory: Directory

    def name_of(self, city: int) -> str:
        """The first name of that city."""
        return self.name[self.begins[city] : self.begins[city + 1]].tobytes().decode("utf-8")


_ARRAYS = tuple(f.name for f in fields(Columns) if f.name != "directory")


def read_columns(file: Path) -> Columns | None:
    """The table in the file, or None if the file is not there or is damaged: each part of it has a
    checksum. Blocks for some 50 ms."""
    try:
        with file.open("rb") as f, np.load(f, allow_pickle=False) as parts:
            arrays: dict[str, Any] = {name: parts[name] for name in _ARRAYS}  # Any: dtypes differ
            directory = msgspec.json.decode(parts["directory"].tobytes(), type=Directory)
        return Columns(**arrays, directory=directory)
    except Exception:  # noqa: BLE001 - in a damaged file, the readers of zip and npy raise anything
        return None


def write_columns(columns: Columns, file: Path) -> None:
    """Replace the file; only its owner may read it. Older tables in its folder are removed. Raises
    OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    directory = np.frombuffer(msgspec.json.encode(columns.directory), np.uint8)
    arrays: dict[str, Any] = {name: getattr(columns, name) for name in _ARRAYS}
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            np.savez(f, directory=directory, **arrays)
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    for old in _list_older_files(file):
        old.unlink(missing_ok=True)


def _list_older_files(file: Path) -> Iterator[Path]:
    stem = file.name.partition("-")[0]
    yield from (f for f in file.parent.glob(f"{stem}-*{file.suffix}") if f != file)
