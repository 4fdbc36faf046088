"""A place is named after the city that people know it by, wherever on Earth it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.geodata.cities import name_place, read_cities


@pytest.mark.parametrize(
    ("lat", "lon", "name"),
    [
        (32.9, -97.0, "Dallas, US"),
        (51.5, -0.1, "London, GB"),
        (-33.9, 151.2, "Sydney, AU"),
        (40.7, -74.0, "New York City, US"),
        (0.0, 0.0, "579 km south of Takoradi, GH"),
        (-40.0, 179.9, "262 km east of Napier, NZ"),
    ],
)
def test_the_largest_city_in_reach_names_a_place_else_the_nearest(
    lat: float, lon: float, name: str
) -> None:
    assert name_place(lat, lon, 40.0) == name


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_place_on_earth_has_a_name_in_one_line(lat: float, lon: float) -> None:
    assert name_place(lat, lon, 40.0).isprintable()


def test_a_wider_reach_finds_a_larger_city() -> None:
    assert name_place(33.364, -96.761, 40.0) == "Plano, US"
    assert name_place(33.364, -96.761, 70.0) == "Dallas, US"


def test_every_city_has_a_printable_name() -> None:
    assert [n for n in read_cities().name if not n.isprintable() or len(n) > 60] == []
