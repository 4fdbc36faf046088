"""Distances against known ones, and the places where formulas break: poles, antipodes, the date line."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.geo import EARTH_KM, haversine_km, haversine_km_matrix, on_earth

LAT = st.floats(-90, 90)
LON = st.floats(-180, 180)
HALF_WAY_ROUND_KM = math.pi * EARTH_KM


def test_known_distance_between_two_airports() -> None:
    assert haversine_km(40.6398, -73.7789, 33.9425, -118.4081) == pytest.approx(3974, abs=5)  # JFK, LAX


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        ((0, 0), (0, 180), HALF_WAY_ROUND_KM),
        ((90, 0), (-90, 77), HALF_WAY_ROUND_KM),
        ((90, 12), (90, -140), 0.0),
        ((0, 179.5), (0, -179.5), HALF_WAY_ROUND_KM / 180),
        ((12, 34), (12, 34), 0.0),
    ],
)
def test_edges_of_the_map(a: tuple[float, float], b: tuple[float, float], km: float) -> None:
    assert haversine_km(*a, *b) == pytest.approx(km, abs=1e-6)


@given(LAT, LON, LAT, LON)
def test_matrix_agrees_with_one_at_a_time(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> None:
    a = np.array([lat_a]), np.array([lon_a])
    b = np.array([lat_b]), np.array([lon_b])
    km = haversine_km_matrix(*a, *b)
    assert km.shape == (1, 1)
    assert km[0, 0] == pytest.approx(haversine_km(lat_a, lon_a, lat_b, lon_b), rel=1e-9, abs=1e-6)
    assert 0 <= km[0, 0] <= HALF_WAY_ROUND_KM


def test_what_is_a_place() -> None:
    assert on_earth(90, 180)
    assert on_earth(-90, -180)
    for lat, lon in ((91, 0), (0, 181), (math.nan, 0), (0, math.inf)):
        assert not on_earth(lat, lon)
