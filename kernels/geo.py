"""Distance on the sphere: every kilometre in geolane is a great circle on a ball of radius 6,371.0088 km (IUGG)."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

EARTH_KM = 6371.0088

Floats: TypeAlias = npt.NDArray[np.float64]


def on_earth(lat: float, lon: float) -> bool:
    """Whether these degrees name a place: finite, latitude within 90, longitude within 180 (either end)."""
    return -90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0


def haversine_km(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """Kilometres between two places in degrees, by the haversine formula; good near antipodes and poles too."""
    a, b = math.radians(lat_a), math.radians(lat_b)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, h)))


def haversine_km_matrix(lat_a: Floats, lon_a: Floats, lat_b: Floats, lon_b: Floats) -> Floats:
    """Kilometres between each of A places and each of B places: float64[A, B]; degrees in, each float64[A] or
    float64[B]."""
    a, b = np.radians(lat_a)[:, None], np.radians(lat_b)[None, :]
    half_lon = np.radians(lon_b[None, :] - lon_a[:, None]) / 2
    h = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(half_lon) ** 2
    km: Floats = 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(1.0, h)))
    return km
