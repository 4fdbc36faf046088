"""The traffic index: what is not known is left out, never read as 0."""

from __future__ import annotations

import math

import pytest

from agents.core.model.geo import traffic_index
from agents.core.model.places import TravelTime


def way(expected_s: float, static_s: float | None) -> TravelTime:
    return TravelTime(expected_s, static_s, 1000.0, live=True)


def test_long_ways_weigh_more() -> None:
    assert traffic_index([way(200, 100), way(1000, 900)]) == pytest.approx(1.2)


def test_a_way_without_a_static_time_is_left_out() -> None:
    assert traffic_index([way(200, 100), way(900, None), None, way(900, 0)]) == 2.0


@pytest.mark.parametrize(
    "times",
    [
        [],
        [None],
        [way(100, None)],
        [way(math.nan, 1.0)],
        [way(0, 100)],
        [way(1.5e308, 1.5e308)] * 2,  # their sums are infinite
    ],
)
def test_no_way_gives_no_index(times: list[TravelTime | None]) -> None:
    assert traffic_index(times) is None


def test_it_is_clipped() -> None:
    assert traffic_index([way(1e6, 1)]) == 16.0
    assert traffic_index([way(1, 100)]) == 0.25
