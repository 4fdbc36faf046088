"""The ways whose traffic stands for a lane's: from the middle of its events to other places of its
own, or, if it has only one, to points around it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from h3.api import basic_str

from agents.core.lanes.lane_map import LaneMap
from agents.core.model.geo import DESTINATIONS_AT_MOST, LaneRoutes, Point
from kernels.geo import EARTH_KM, haversine_km_rows
from kernels.tables import Floats

REACH_KM = 300.0
"""Cells that are farther apart have no road in common that traffic slows down alike."""
AROUND_KM = 10.0
_KM_PER_DEGREE = math.radians(1) * EARTH_KM


@dataclass(slots=True)
class LaneWays:
    """`lanemap`: which cells a lane has; None if that is not known. `lat`, `lon`: by lane, the
    middle of its events, weighted by rate, in degrees."""

    lanemap: LaneMap | None
    lat: tuple[float, ...]
    lon: tuple[float, ...]
    _cells: dict[int, list[str]] = field(default_factory=dict)
    _known: dict[int, LaneRoutes] = field(default_factory=dict)

    def routes_of(self, lane: int) -> LaneRoutes:
        """The lane's ways. Its origin is the cell that is nearest to the middle of its events: the
        map has no rates of single cells, and heavy cells pull the middle to themselves."""
        if lane not in self._known:
            self._known[lane] = self._find_routes(lane)
        return self._known[lane]

    def _find_routes(self, lane: int) -> LaneRoutes:
        middle = (self.lat[lane], self.lon[lane])
        cells = sorted(basic_str.cell_to_latlng(cell) for cell in self._cells_of(lane))
        if not cells:
            return LaneRoutes(lane, middle, points_around(middle))
        places: Floats = np.array(cells, dtype=np.float64)
        first = int(_km(middle, places).argmin())
        km = _km(cells[first], places)
        nearest = np.argsort(km, kind="stable")[1 : DESTINATIONS_AT_MOST + 1]
        near = tuple(cells[i] for i in nearest if km[i] <= REACH_KM)
        return LaneRoutes(lane, cells[first], near or points_around(cells[first]))

    def _cells_of(self, lane: int) -> list[str]:
        if not self._cells and self.lanemap is not None:
            for cell, lanes in self.lanemap.cell_lanes.items():
                for n in lanes:
                    self._cells.setdefault(n, []).append(cell)
        return self._cells.get(lane, [])


def _km(here: Point, places: Floats) -> Floats:
    """Kilometres to each of these (latitude, longitude), float64[P, 2]."""
    lat, lon = np.array(here[:1]), np.array(here[1:])
    return haversine_km_rows(lat, lon, places[:, 0], places[:, 1])


def points_around(at: Point, km: float = AROUND_KM) -> tuple[Point, ...]:
    """The points `km` north, east, south and west; fewer at a pole."""
    lat, lon = at
    up = km / _KM_PER_DEGREE
    aside = up / max(0.01, math.cos(math.radians(lat)))
    points = ((lat + up, lon), (lat, lon + aside), (lat - up, lon), (lat, lon - aside))
    return tuple((y, (x + 180) % 360 - 180) for y, x in points if -90 <= y <= 90)
