"""Distance on the sphere: every kilometre in geolane is along a great circle on a ball of radius
6,371.0088 km (IUGG)."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

EARTH_KM = 6371.0088
# cosines closer than this to the best are compared by haversine, which is exact at small distances
CLOSE = 1e-9
ROWS = 1 << 16

Floats: TypeAlias = npt.NDArray[np.float64]


def is_on_earth(lat: float, lon: float) -> bool:
    """Whether these degrees are a place: finite, latitude within 90, longitude within 180 (ends
    included)."""
    return -90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0


def haversine_km(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """Kilometres between two places in degrees, by the haversine formula; also accurate near
    antipodes and poles."""
    a, b = math.radians(lat_a), math.radians(lat_b)
    h = (
        math.sin((b - a) / 2) ** 2
        + math.cos(a) * math.cos(b) * math.sin(math.radians(lon_b - lon_a) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, h)))


def haversine_km_rows(lat_a: Floats, lon_a: Floats, lat_b: Floats, lon_b: Floats) -> Floats:
    """Kilometres between places row by row. The four inputs are in degrees; the result is float64
    of the shape to which they broadcast."""
    a, b = np.radians(lat_a), np.radians(lat_b)
    h = (
        np.sin((b - a) / 2) ** 2
        + np.cos(a) * np.cos(b) * np.sin(np.radians(lon_b - lon_a) / 2) ** 2
    )
    km: Floats = 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(1.0, h)))
    return km


def haversine_km_matrix(lat_a: Floats, lon_a: Floats, lat_b: Floats, lon_b: Floats) -> Floats:
    """Kilometres between each of A places and each of B places, float64[A, B]. The inputs are in
    degrees, float64[A] or float64[B]."""
    return haversine_km_rows(lat_a[:, None], lon_a[:, None], lat_b[None, :], lon_b[None, :])


def unit_vectors(lat: Floats, lon: Floats) -> Floats:
    """Vectors from the centre of the ball to its surface, float64[A, 3] of length 1, for degrees
    float64[A]."""
    north, east = np.radians(lat), np.radians(lon)
    return np.stack(
        (np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)), axis=-1
    )


def find_nearest(lat: Floats, lon: Floats, lat_b: Floats, lon_b: Floats) -> npt.NDArray[np.int32]:
    """For each of A places, the row of the nearest of B > 0 places (the first among equals),
    int32[A]: the argmin of `haversine_km_matrix`, several times as fast."""
    out = np.empty(len(lat), dtype=np.int32)
    places = unit_vectors(lat_b, lon_b)
    for start in range(0, len(lat), ROWS):
        part = slice(start, start + ROWS)
        cosines = unit_vectors(lat[part], lon[part]) @ places.T
        close = cosines >= cosines.max(axis=1, keepdims=True) - CLOSE
        best = close.argmax(axis=1)
        unsure = np.flatnonzero(close.sum(axis=1) > 1)
        if len(unsure):
            km = haversine_km_matrix(lat[part][unsure], lon[part][unsure], lat_b, lon_b)
            best[unsure] = np.where(close[unsure], km, np.inf).argmin(axis=1)
        out[part] = best
    return out
