"""Distances against known ones, and the places where formulas break: poles, antipodes, the date
line."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.geo import (
    EARTH_KM,
    find_nearest,
    haversine_km,
    haversine_km_matrix,
    is_on_earth,
    unit_vectors,
)

LAT = st.floats(-90, 90)
LON = st.floats(-180, 180)
PLACES = st.lists(
    st.tuples(LAT, LON) | st.sampled_from([(90.0, 0.0), (90.0, 5.0), (0.0, 180.0), (0.0, -180.0)]),
    min_size=1,
)
HALF_WAY_ROUND_KM = math.pi * EARTH_KM


def test_known_distance_between_two_airports() -> None:
    assert haversine_km(40.6398, -73.7789, 33.9425, -118.4081) == pytest.approx(
        3974, abs=5
    )  # JFK, LAX


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
def test_matrix_agrees_with_one_at_a_time(
    lat_a: float, lon_a: float, lat_b: float, lon_b: float
) -> None:
    a = np.array([lat_a]), np.array([lon_a])
    b = np.array([lat_b]), np.array([lon_b])
    km = haversine_km_matrix(*a, *b)
    assert km.shape == (1, 1)
    assert km[0, 0] == pytest.approx(haversine_km(lat_a, lon_a, lat_b, lon_b), rel=1e-9, abs=1e-6)
    assert 0 <= km[0, 0] <= HALF_WAY_ROUND_KM


@given(PLACES, PLACES)
def test_nearest_is_the_first_of_the_least_distances(
    of: list[tuple[float, float]], to: list[tuple[float, float]]
) -> None:
    a, b = np.array(of), np.array(to + to)
    found = find_nearest(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
    km = haversine_km_matrix(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
    assert found.dtype == np.int32
    assert found.tolist() == km.argmin(axis=1).tolist()


def test_nearest_of_many_places_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.stack((rng.uniform(-90, 90, n), rng.uniform(-180, 180, n))) for n in (1000, 40))
    monkeypatch.setattr("kernels.geo.ROWS", 64)
    assert find_nearest(*a, *b).tolist() == haversine_km_matrix(*a, *b).argmin(axis=1).tolist()
    assert find_nearest(*a[:, :0], *b).tolist() == []


@given(LAT, LON)
def test_unit_vectors_are_of_length_one(lat: float, lon: float) -> None:
    vector = unit_vectors(np.array([lat]), np.array([lon]))
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert vector[0, 2] == pytest.approx(math.sin(math.radians(lat)))


def test_what_is_a_place() -> None:
    assert is_on_earth(90, 180)
    assert is_on_earth(-90, -180)
    for lat, lon in ((91, 0), (0, 181), (math.nan, 0), (0, math.inf)):
        assert not is_on_earth(lat, lon)
