"""The scores against DESIGN 7 written out by hand, and bad numbers refused by column and row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.data import read_rtt
from kernels import LaneTable, NodeTable, candidates, score
from kernels.geo import haversine_km

RTT = read_rtt()
EAST, WEST, MEXICO = (RTT.regions.index(name) for name in ("East US", "West US", "Mexico Central"))


def lanes(*rows: tuple[float, float, float, int]) -> LaneTable:
    numbers = np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3)
    return LaneTable(numbers[:, 0], numbers[:, 1], numbers[:, 2], np.array([row[3] for row in rows], dtype=np.int32))


def nodes(*sites: int, takes: list[bool] | None = None) -> NodeTable:
    rows = np.array(sites, dtype=np.int32)
    places = np.where(rows < 0, 0, rows)
    return NodeTable(
        RTT.lat[places],
        RTT.lon[places],
        rows,
        np.full(len(rows), 2000.0),
        np.array(takes or [True] * len(rows), dtype=bool),
    )


def by_hand(lat: float, lon: float, site: int) -> float:
    km = [haversine_km(lat, lon, *at) for at in zip(RTT.lat, RTT.lon, strict=True)]
    near = km.index(min(km))
    return RTT.a_ms + RTT.b_ms_per_km * km[near] + float(RTT.rtt_ms[near, site])


def test_rtt_is_the_line_to_the_nearest_region_plus_the_table() -> None:
    terms = score(lanes((40.6, -73.8, 10, -1), (34, -118, 10, 1)), nodes(EAST, WEST), RTT, move_ms=2)
    assert terms.rtt_ms[0, 0] == pytest.approx(by_hand(40.6, -73.8, EAST))
    assert terms.rtt_ms[1, 0] == pytest.approx(by_hand(34, -118, EAST))
    assert terms.rtt_ms[1, 1] < terms.rtt_ms[1, 0]


def test_node_outside_the_table_gets_the_line_alone() -> None:
    terms = score(lanes((10, 10, 1, -1)), nodes(-1), RTT, move_ms=0)
    km = haversine_km(10, 10, float(RTT.lat[0]), float(RTT.lon[0]))
    assert terms.rtt_ms[0, 0] == pytest.approx(RTT.a_ms + RTT.b_ms_per_km * km)


def test_move_costs_everywhere_but_at_home_and_total_is_the_sum() -> None:
    terms = score(lanes((34, -118, 10, 1), (34, -118, 10, -1)), nodes(EAST, WEST), RTT, move_ms=2.5)
    assert terms.move_ms.tolist() == [[2.5, 0.0], [2.5, 2.5]]
    assert (terms.total_ms == terms.rtt_ms + terms.move_ms).all()


def test_candidates_are_sorted_and_leave_out_who_takes_none_but_the_owner() -> None:
    table = lanes((34, -118, 10, 0))
    fleet = nodes(EAST, WEST, MEXICO, takes=[False, True, False])
    cand = candidates(table, fleet, RTT, move_ms=2)
    assert cand.node[0].tolist() == [1, 0, -1]
    assert cand.total_ms[0, 2] == math.inf
    assert (np.diff(cand.total_ms[0, :2]) >= 0).all()


def test_own_node_is_among_the_k_however_far() -> None:
    cand = candidates(lanes((34, -118, 10, 0), (34, -118, 10, -1)), nodes(EAST, WEST, MEXICO), RTT, move_ms=2, k=2)
    assert cand.node.tolist() == [[1, 0], [1, 2]]


def test_prices_change_the_order_and_not_the_figures() -> None:
    table, fleet = lanes((34, -118, 10, -1)), nodes(EAST, WEST)
    plain = candidates(table, fleet, RTT, move_ms=2)
    priced = candidates(table, fleet, RTT, move_ms=2, price_ms=np.array([0.0, 500.0]))
    assert (plain.node[0].tolist(), priced.node[0].tolist()) == ([1, 0], [0, 1])
    assert priced.rtt_ms[0].tolist() == plain.rtt_ms[0, ::-1].tolist()


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=5),
    st.lists(st.integers(0, 11), min_size=1, max_size=6),
    st.integers(1, 6),
)
def test_the_k_cheapest_are_the_head_of_all(places: list[tuple[float, float]], sites: list[int], k: int) -> None:
    table, fleet = lanes(*((lat, lon, 1.0, -1) for lat, lon in places)), nodes(*sites)
    everyone, few = (candidates(table, fleet, RTT, move_ms=2, k=n) for n in (None, k))
    width = min(k, len(sites))
    assert (few.node == everyone.node[:, :width]).all()
    assert (few.total_ms == everyone.total_ms[:, :width]).all()


@pytest.mark.parametrize(
    ("rows", "sites"),
    [
        pytest.param([(90, 0), (-90, 180)], [EAST, EAST], id="poles"),
        pytest.param([(-37.4, 100.2)], [EAST], id="antipode"),
        pytest.param([], [EAST], id="no lane"),
        pytest.param([(1, 1)], [], id="no node"),
    ],
)
def test_adversarial_places_give_finite_scores(rows: list[tuple[float, float]], sites: list[int]) -> None:
    fleet = nodes(*sites)
    table = lanes(*((lat, lon, 1.0, -1) for lat, lon in rows))
    assert np.isfinite(score(table, fleet, RTT, move_ms=2).total_ms).all()
    assert candidates(table, fleet, RTT, move_ms=2).node.shape == (len(rows), len(fleet.lat))


LANE, NODE = lanes((1, 2, 3, 0), (4, 5, 6, -1)), nodes(EAST)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lanes": LANE._replace(rate_eps=np.array([1.0, math.nan]))}, r"lanes\.rate_eps\[1\] is nan"),
        ({"lanes": LANE._replace(lat=np.array([math.inf, 0.0]))}, r"lanes\.lat\[0\] is inf"),
        ({"lanes": LANE._replace(lon=np.array([0.0, 181.0]))}, r"lanes\.lon\[1\] is 181"),
        ({"lanes": LANE._replace(owner=np.array([1, 0], dtype=np.int32))}, r"lanes\.owner\[0\] is 1"),
        ({"lanes": LANE._replace(rate_eps=np.array([1.0]))}, r"lanes\.rate_eps has 1 rows"),
        ({"nodes": NODE._replace(capacity_eps=np.array([-1.0]))}, r"nodes\.capacity_eps\[0\] is -1"),
        ({"nodes": NODE._replace(site=np.array([12], dtype=np.int32))}, r"nodes\.site\[0\] is 12"),
        ({"rtt": RTT._replace(b_ms_per_km=math.nan)}, r"rtt\.b_ms_per_km\[0\] is nan"),
        ({"rtt": RTT._replace(rtt_ms=np.full((12, 12), math.nan))}, r"rtt\.rtt_ms \(row by row\)\[0\]"),
        ({"move_ms": math.nan}, "move_ms is nan"),
    ],
)
def test_bad_numbers_are_refused_by_name(change: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"lanes": LANE, "nodes": NODE, "rtt": RTT, "move_ms": 2.0} | change
    with pytest.raises(ValueError, match=says):
        score(given["lanes"], given["nodes"], given["rtt"], move_ms=given["move_ms"])


def test_no_candidate_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        candidates(LANE, NODE, RTT, move_ms=2, k=0)
