"""The ways whose traffic stands for a lane's."""

from __future__ import annotations

import pytest
from h3.api import basic_str

from agents.core.geo.lane_ways import AROUND_KM, REACH_KM, LaneWays, points_around
from agents.core.lanes.lane_map import LaneMap
from kernels.geo import haversine_km, is_on_earth

FRANKFURT, MAINZ = (50.11, 8.68), (50.0, 8.27)


def cell(lat: float, lon: float) -> str:
    return str(basic_str.latlng_to_cell(lat, lon, 4))


def ways(cells: list[str], middle: tuple[float, float]) -> LaneWays:
    lanemap = LaneMap(1, 1, 4, dict.fromkeys(cells, (0,)), (1.0,), (middle,))
    return LaneWays(lanemap, (middle[0],), (middle[1],))


def test_they_go_from_the_cell_in_the_middle_to_the_nearest_others() -> None:
    home = cell(*FRANKFURT)
    around = sorted(basic_str.grid_disk(home, 2))
    routes = ways(around, FRANKFURT).routes_of(0)
    assert routes.origin == basic_str.cell_to_latlng(home)
    km = [haversine_km(*routes.origin, *at) for at in routes.destinations]
    assert len(km) == 10
    assert km == sorted(km)
    assert set(routes.destinations) < {basic_str.cell_to_latlng(c) for c in around}


def test_cells_beyond_reach_are_no_destination() -> None:
    near, far = cell(*MAINZ), cell(40.7, -74.0)
    routes = ways([cell(*FRANKFURT), near, far], FRANKFURT).routes_of(0)
    assert routes.destinations in (
        (basic_str.cell_to_latlng(near),),
        (basic_str.cell_to_latlng(cell(*FRANKFURT)),),
    )
    assert all(haversine_km(*routes.origin, *at) <= REACH_KM for at in routes.destinations)


def test_a_lane_of_one_cell_goes_around_it() -> None:
    routes = ways([cell(*FRANKFURT)], FRANKFURT).routes_of(0)
    assert routes.origin == basic_str.cell_to_latlng(cell(*FRANKFURT))
    for at in routes.destinations:
        assert haversine_km(*routes.origin, *at) == pytest.approx(AROUND_KM, rel=0.01)
    assert len(routes.destinations) == 4


def test_without_a_map_it_goes_around_the_middle() -> None:
    routes = LaneWays(None, (50.0,), (8.0,)).routes_of(0)
    assert (routes.origin, len(routes.destinations)) == ((50.0, 8.0), 4)


@pytest.mark.parametrize("at", [(90.0, 0.0), (-90.0, 0.0), (0.0, 180.0), (89.99, -180.0)])
def test_points_stay_on_earth(at: tuple[float, float]) -> None:
    points = points_around(at)
    assert len(points) >= 3
    assert all(is_on_earth(*p) for p in points)
