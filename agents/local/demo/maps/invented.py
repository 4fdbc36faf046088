"""Invented places and roads, in the form in which Apple Maps Server API gives its own. Where cities
are is true (agents/geodata/cities.py); streets, distances, times and traffic are made up, always in
the same way, so that a test or a demonstration can be repeated."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.base.errors import PlaceUnknown
from agents.geodata.cities import read_cities
from agents.geodata.gazetteer.index import PlaceIndex
from kernels.geo import haversine_km

Point = tuple[float, float]
Json = dict[str, Any]

MAX_ROAD_KM = 1000.0
"""The longest road; beyond it there are no routes."""
ROAD_PER_KM = 1.3
EMPTY_ROAD_M_S = 25.0
WAVE_S = 1800.0
"""Traffic comes and goes in this time; it takes up to 2.5 times as long."""
NEAR_KM = 50.0
MAX_RESULTS = 10
_RADIUS_M = 6_378_137.0


@dataclass(frozen=True, slots=True)
class City:
    """`lat`, `lon` in degrees."""

    name: str
    country: str
    lat: float
    lon: float

    @property
    def place_id(self) -> str:
        text = f"{self.name}|{self.country}|{self.lat}|{self.lon}"
        return "I" + hashlib.sha256(text.encode()).hexdigest()[:15].upper()


@dataclass(slots=True)
class Atlas:
    """The cities, the largest first; `index` knows more names. `unreachable`: points to which no
    road leads."""

    unreachable: set[Point] = field(default_factory=set)
    index: PlaceIndex | None = None
    _cities: list[City] = field(default_factory=list)
    _by_id: dict[str, City] = field(default_factory=dict)

    def read(self) -> None:
        """Blocks for some 50 ms."""
        table = read_cities()
        for i in np.argsort(-table.people, kind="stable"):
            name, _, country = table.name[i].rpartition(", ")
            city = City(name, country, float(table.lat[i]), float(table.lon[i]))
            self._cities.append(city)
            self._by_id[city.place_id] = city

    def find(self, text: str, countries: frozenset[str]) -> list[City]:
        """The cities of this name, `Dallas` or `Dallas, US`, the largest first; without one, the
        place that the index has."""
        name, _, code = (part.strip() for part in text.casefold().partition(","))
        found = [
            city
            for city in self._cities
            if city.name.casefold() == name
            and code in ("", city.country.casefold())
            and (not countries or city.country in countries)
        ][:MAX_RESULTS]
        return found or self._find_in_index(text, countries)

    def _find_in_index(self, text: str, countries: frozenset[str]) -> list[City]:
        if self.index is None:
            return []
        try:
            place = self.index.find(text)
        except PlaceUnknown:
            return []
        city = City(place.name, place.country, place.lat, place.lon)
        return [city] if not countries or city.country in countries else []

    def starting_with(self, text: str) -> list[City]:
        begin = text.casefold().strip()
        return [c for c in self._cities if c.name.casefold().startswith(begin)][:MAX_RESULTS]

    def near(self, point: Point) -> list[City]:
        """The nearest city, if there is one near."""
        nearest = min(self._cities, key=lambda c: haversine_km(c.lat, c.lon, *point))
        km = haversine_km(nearest.lat, nearest.lon, *point)
        return [nearest] if km <= NEAR_KM else []

    def by_id(self, place_id: str) -> City | None:
        return self._by_id.get(place_id)

    def eta(self, origin: Point, destination: Point, now: float) -> Json | None:
        """None without a route."""
        road_m = ROAD_PER_KM * 1000 * haversine_km(*origin, *destination)
        if destination in self.unreachable or road_m > MAX_ROAD_KM * 1000 * ROAD_PER_KM:
            return None
        static_s = max(60, round(road_m / EMPTY_ROAD_M_S))
        return {
            "destination": {"latitude": destination[0], "longitude": destination[1]},
            "transportType": "Automobile",
            "distanceMeters": round(road_m),
            "expectedTravelTimeSeconds": round(static_s * traffic(origin, now)),
            "staticTravelTimeSeconds": static_s,
        }


def traffic(origin: Point, now: float) -> float:
    """How many times longer the roads from here take: 1 to 2.5, in waves, each place with a phase
    of its own."""
    seed = f"{origin[0]:.2f},{origin[1]:.2f}"
    phase = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:2], "big") / 65_536
    return 1 + 1.5 * max(0.0, math.sin(2 * math.pi * (now / WAVE_S + phase)))


def place_of(city: City) -> Json:
    """A city as a result of Apple's."""
    return {
        "id": city.place_id,
        "coordinate": {"latitude": city.lat, "longitude": city.lon},
        "displayMapRegion": map_region((city.lat, city.lon)),
        "name": city.name,
        "formattedAddressLines": [city.name, city.country],
        "structuredAddress": {"locality": city.name},
        "country": city.country,
        "countryCode": city.country,
    }


def address_near(city: City, point: Point) -> Json:
    """An address in the city, at a point."""
    number = str(1 + int(abs(point[0] * 1000)) % 200)
    street = "Invented Street"
    return place_of(city) | {
        "coordinate": {"latitude": point[0], "longitude": point[1]},
        "displayMapRegion": map_region(point),
        "name": f"{number} {street}",
        "formattedAddressLines": [f"{number} {street}", city.name, city.country],
        "structuredAddress": {
            "locality": city.name,
            "thoroughfare": street,
            "subThoroughfare": number,
            "fullThoroughfare": f"{number} {street}",
        },
    }


def map_region(point: Point) -> Json:
    """500 m to each side."""
    lat = math.degrees(500 / _RADIUS_M)
    lon = lat / max(0.01, math.cos(math.radians(point[0])))
    return {
        "southLatitude": point[0] - lat,
        "westLongitude": point[1] - lon,
        "northLatitude": point[0] + lat,
        "eastLongitude": point[1] + lon,
    }


def route(origin: Json, destination: Json, eta: Json) -> Json:
    """What `directions` answers: one route of one step, a straight line."""
    metres, seconds = eta["distanceMeters"], eta["expectedTravelTimeSeconds"]
    return {
        "origin": origin,
        "destination": destination,
        "routes": [
            {
                "name": "Invented Road",
                "distanceMeters": metres,
                "durationSeconds": seconds,
                "transportType": "Automobile",
                "stepIndexes": [0],
                "hasTolls": False,
            }
        ],
        "steps": [{"stepPathIndex": 0, "distanceMeters": metres, "durationSeconds": seconds}],
        "stepPaths": [[origin["coordinate"], destination["coordinate"]]],
    }
