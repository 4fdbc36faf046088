"""Names a place after a city: of those within reach the largest, else the nearest with the distance
and direction to it."""

from __future__ import annotations

import csv
import functools
import gzip
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernels.geo import EARTH_KM, unit_vectors
from kernels.tables import Floats

CITIES = Path(__file__).with_name("cities.csv.gz")
_WINDS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")


class Gazetteer(NamedTuple):
    """C cities. `name`: with the country's ISO 3166 code (`Dallas, US`). `place`: unit vectors,
    float64[C, 3]. `people`: inhabitants, float64[C]."""

    name: tuple[str, ...]
    lat: Floats
    lon: Floats
    place: Floats
    people: Floats

    def name_place(self, lat: float, lon: float, reach_km: float) -> str:
        """`Dallas, US`, or `120 km north of Perth, AU`, for a place in degrees."""
        here = unit_vectors(np.array([lat]), np.array([lon]))[0]
        km: Floats = EARTH_KM * np.arccos(np.clip(self.place @ here, -1.0, 1.0))
        near: Floats = np.where(km <= reach_km, self.people, 0.0)
        if near.any():
            return self.name[int(near.argmax())]
        city = int(km.argmin())
        wind = _direction(float(self.lat[city]), float(self.lon[city]), lat, lon)
        return f"{km[city]:,.0f} km {wind} of {self.name[city]}"


def _direction(lat: float, lon: float, to_lat: float, to_lon: float) -> str:
    """The direction of the great circle from one place to another, one of eight."""
    a, b, turn = np.radians(lat), np.radians(to_lat), np.radians(to_lon - lon)
    east = np.sin(turn) * np.cos(b)
    north = np.cos(a) * np.sin(b) - np.sin(a) * np.cos(b) * np.cos(turn)
    return _WINDS[round(float(np.degrees(np.arctan2(east, north))) / 45) % 8]


@functools.cache
def read_cities() -> Gazetteer:
    """The cities that geolane ships. The first call blocks for about 50 ms."""
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(CITIES.read_bytes()).decode("utf-8"))))
    lat, lon, people = (
        np.array([float(row[name]) for row in rows]) for name in ("lat", "lon", "people")
    )
    names = tuple(f"{row['name']}, {row['country']}" for row in rows)
    return Gazetteer(names, lat, lon, unit_vectors(lat, lon), people)


@functools.lru_cache(maxsize=10_000)
def name_place(lat: float, lon: float, reach_km: float) -> str:
    """The name of a place in degrees, as `Gazetteer.name_place` gives it."""
    return read_cities().name_place(lat, lon, reach_km)
