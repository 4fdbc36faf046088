"""How often the offline gazetteer finds the right place, judged by lists that were not made from
it: airports and their cities, 242 cities, regions of clouds, and a day of edits of Wikipedia
with the city of each anonymous author."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.base.errors import PlaceUnknown
from agents.core.model.places import Place
from agents.geodata.gazetteer.index import PlaceIndex
from agents.geodata.gazetteer.names import fold_name
from benchmarks.recorded import AIRPORTS as FLIGHTS
from benchmarks.recorded import CITIES, DATA
from kernels.geo import haversine_km

AIRPORTS = DATA / "geo" / "airports_iata_world.csv.gz"
CLOUDS = DATA / "geo" / "cloud_regions.csv"
WIKI = DATA / "events" / "wikiticker-2015-09-12-sampled.json.gz"
NEAR_KM = 50.0
SAME_NAMES = frozenset({"US", "CA", "AU"})
"""Countries whose regions the edits call as the gazetteer does; elsewhere they mean districts."""

Row = Mapping[str, str]
Ask = tuple[str, str]  # a text, and a country's code or nothing


def read_airports() -> list[Row]:
    """Those of a named city: iata, city, subd, country, lat, lon."""
    with gzip.open(AIRPORTS, "rt", encoding="utf-8") as f:
        return [row for row in csv.DictReader(f) if row["city"]]


def read_cities() -> list[Row]:
    """city, country_region, lat, lon."""
    with CITIES.open(encoding="utf-8") as f:
        return list(csv.DictReader(f))


def read_flights() -> list[Row]:
    """city, state, lat, lon of airports in the United States."""
    with FLIGHTS.open(encoding="utf-8") as f:
        return [row for row in csv.DictReader(f) if row["city"]]


def read_clouds() -> list[Row]:
    """location, lat, lon."""
    with CLOUDS.open(encoding="utf-8") as f:
        return list(csv.DictReader(f))


def read_edits() -> list[Row]:
    """Those with a city: cityName, regionName, countryName, countryIsoCode."""
    with gzip.open(WIKI, "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [{k: v or "" for k, v in row.items()} for row in rows if row["cityName"]]


def joined(*parts: str) -> str:
    """`Paris, Texas, US`, without the parts that are empty."""
    return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Forward:
    """`asked` texts, of which `found` have an answer; `near` of these are within NEAR_KM of the
    true place, whose distance has this median and 90th percentile."""

    asked: int
    found: int
    near: int
    median_km: float
    p90_km: float


def judge_by_distance(index: PlaceIndex, rows: Iterable[Row], ask: Callable[[Row], Ask]) -> Forward:
    """Against the coordinates of each row."""
    rows = list(rows)
    places = [(row, find(index, *ask(row))) for row in rows]
    km = [
        haversine_km(place.lat, place.lon, float(row["lat"]), float(row["lon"]))
        for row, place in places
        if place is not None
    ]
    far = np.array(km)
    near = int((far <= NEAR_KM).sum())
    return Forward(len(rows), len(km), near, float(np.median(far)), float(np.percentile(far, 90)))


@dataclass(frozen=True, slots=True)
class ByCountry:
    """`asked` texts, of which `found` have an answer, `right` of these in the true country; of
    `judged` of them the region is known, and `region_right` are in it."""

    asked: int
    found: int
    right: int
    judged: int
    region_right: int


def judge_by_country(
    index: PlaceIndex, rows: Sequence[Row], ask: Callable[[Row], Ask]
) -> ByCountry:
    """Against the country and region of each edit."""
    found = right = judged = region_right = 0
    for row in rows:
        place = find(index, *ask(row))
        if place is None:
            continue
        found += 1
        right += place.country == row["countryIsoCode"]
        if row["countryIsoCode"] in SAME_NAMES and row["regionName"]:
            judged += 1
            region_right += fold_name(place.region) == fold_name(row["regionName"])
    return ByCountry(len(rows), found, right, judged, region_right)


@dataclass(frozen=True, slots=True)
class Reverse:
    """`asked` coordinates, of which `found` have a name: that of the true city, in the true
    country."""

    asked: int
    found: int
    same_city: int
    same_country: int


def judge_names(index: PlaceIndex, rows: Sequence[Row]) -> Reverse:
    """What `name_at` says of the coordinates of each row. The same city: what the row's city is
    found as, in the country of the answer."""
    found = city = country = 0
    for row in rows:
        try:
            place = index.name_at(float(row["lat"]), float(row["lon"]))
        except PlaceUnknown:
            continue
        found += 1
        country += row.get("country", place.country) == place.country
        same = find(index, joined(row["city"], place.region), place.country)
        city += same is not None and (same.lat, same.lon) == (place.lat, place.lon)
    return Reverse(len(rows), found, city, country)


def find(index: PlaceIndex, text: str, country: str = "") -> Place | None:
    try:
        return index.find(text, country)
    except PlaceUnknown:
        return None
