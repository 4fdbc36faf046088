"""The oracle against the formula written out by hand, and bad numbers refused by column and row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.geodata import read_rtt
from kernels import (
    LaneTable,
    MatrixCosts,
    Problem,
    Weights,
    compute_terms,
    lane_table,
    make_problem,
    no_rtt_table,
    node_table,
)
from kernels.geo import haversine_km
from kernels.reference import compute_feasible_pairs, compute_matrix_costs
from kernels.tables import check_price, check_problem
from tests.kernels import support

RTT = read_rtt()
EAST, WEST, MEXICO = (RTT.regions.index(name) for name in ("East US", "West US", "Mexico Central"))
SITES = [EAST, WEST, MEXICO]
NODES = node_table(RTT.lat[SITES], RTT.lon[SITES], site=SITES)
LOS_ANGELES, NEW_YORK = (34.0, -118.0), (40.6, -73.8)


def lanes(*places: tuple[float, float], **columns: Any) -> LaneTable:
    return lane_table([lat for lat, _ in places], [lon for _, lon in places], **columns)


def line_ms(lat: float, lon: float, region_lat: float, region_lon: float) -> float:
    return RTT.a_ms + RTT.b_ms_per_km * haversine_km(lat, lon, float(region_lat), float(region_lon))


def by_hand(lat: float, lon: float, site: int) -> float:
    km = [haversine_km(lat, lon, *at) for at in zip(RTT.lat, RTT.lon, strict=True)]
    near = km.index(min(km))
    assert RTT.measured[near, site]
    return line_ms(lat, lon, RTT.lat[near], RTT.lon[near]) + float(RTT.rtt_ms[near, site])


def test_rtt_is_the_line_to_the_nearest_region_plus_the_table() -> None:
    found = compute_terms(make_problem(lanes(NEW_YORK, LOS_ANGELES), NODES, RTT, Weights())).rtt_ms
    assert found[0, 1] == pytest.approx(by_hand(*NEW_YORK, WEST))
    assert found[1, 0] == pytest.approx(by_hand(*LOS_ANGELES, EAST))
    assert found[1, 1] < found[1, 0]


def test_rtt_is_the_line_alone_where_either_end_was_not_measured() -> None:
    """A node outside the table; a pair that nobody measured; no table at all."""
    near_east = int(
        np.argmin([haversine_km(*NEW_YORK, *at) for at in zip(RTT.lat, RTT.lon, strict=True)])
    )
    measured = RTT.measured.copy()
    measured[near_east, WEST] = False
    outside = node_table([10.0], [20.0])
    for rtt, nodes, column, to in (
        (RTT, outside, 0, (10.0, 20.0)),
        (RTT._replace(measured=measured), NODES, 1, (RTT.lat[WEST], RTT.lon[WEST])),
        (
            no_rtt_table(RTT.a_ms, RTT.b_ms_per_km),
            NODES._replace(site=outside.site.repeat(3)),
            1,
            (RTT.lat[WEST], RTT.lon[WEST]),
        ),
    ):
        found = compute_terms(make_problem(lanes(NEW_YORK), nodes, rtt, Weights())).rtt_ms
        assert found[0, column] == pytest.approx(line_ms(*NEW_YORK, *to))


def test_every_term_stands_for_itself_and_the_total_is_their_sum() -> None:
    nodes = NODES._replace(
        egress_ms=np.array([0.0, 4.0, 0.0]), degraded_ms=np.array([0.0, 0.0, 9.0])
    )
    table = lanes(LOS_ANGELES, LOS_ANGELES, owner=[1, -1], warm=[0, 2], traffic=[1.5, 0.5])
    found = compute_terms(make_problem(table, nodes, RTT, Weights(move_ms=2.5, miss_ms=7.0)))
    assert found.traffic_ms[0] == pytest.approx(found.rtt_ms[0] * 0.5)
    assert found.traffic_ms[1] == pytest.approx(found.rtt_ms[1] * -0.5)
    assert found.move_ms.tolist() == [[2.5, 0.0, 2.5], [2.5, 2.5, 2.5]]
    assert found.miss_ms.tolist() == [[0.0, 0.0, 7.0], [7.0, 7.0, 0.0]]
    assert found.egress_ms.tolist() == [[0.0, 4.0, 0.0]] * 2
    assert found.degraded_ms.tolist() == [[0.0, 0.0, 9.0]] * 2
    assert found.total_ms == pytest.approx(sum(found[:-1]))
    assert found.total_ms[0, 1] == pytest.approx(1.5 * by_hand(*LOS_ANGELES, WEST) + 4.0)


def test_data_at_a_broker_costs_the_round_trips_to_it_and_not_the_way_from_where_events_arise() -> (
    None
):
    table = lanes(LOS_ANGELES, LOS_ANGELES, source=[1, -1], owner=[2, -1], traffic=[2.0, 1.0])
    paths = np.array([[1.0, 2.0, 3.0], [40.0, 0.0, 12.6]])
    p = make_problem(table, NODES, RTT, Weights(round_trips=5.0), path_ms=paths)
    found = compute_terms(p)
    assert found.rtt_ms[0].tolist() == [200.0, 0.0, 63.0]
    assert found.traffic_ms[0].tolist() == [200.0, 0.0, 63.0]
    assert found.total_ms[0].tolist() == [402.0, 2.0, 126.0]
    assert found.rtt_ms[1, 1] == pytest.approx(by_hand(*LOS_ANGELES, WEST))


def test_terms_of_chosen_rows_are_those_rows() -> None:
    p = support.random_problem(1, 20, 7)
    rows = np.array([5, 0, 19], dtype=np.int32)
    for part, whole in zip(compute_terms(p, rows), compute_terms(p), strict=True):
        assert (part == whole[rows]).all()
    assert (compute_feasible_pairs(p, rows) == compute_feasible_pairs(p)[rows]).all()


def test_filters_by_hand() -> None:
    """Own: keeps. Other: takes. Either: only where the rule allows."""
    nodes = NODES._replace(takes=np.array([True, False, True]), keeps=np.array([True, True, False]))
    p = make_problem(
        lanes(*[NEW_YORK] * 5, owner=[-1, 0, 1, 2, 1], rule=[-1, -1, -1, 0, 1]),
        nodes,
        RTT,
        Weights(),
        np.array([[True, True, True], [True, False, False]]),
    )
    expected = [
        [True, False, True],
        [True, False, True],
        [True, True, True],
        [True, False, False],
        [True, False, False],
    ]
    assert compute_feasible_pairs(p).tolist() == expected
    assert np.isfinite(compute_matrix_costs(p).cost).tolist() == expected


def test_costs_are_the_totals_rounded_once() -> None:
    p = support.random_problem(2, 30, 9)
    allowed = compute_feasible_pairs(p)
    assert (
        compute_matrix_costs(p).cost[allowed]
        == compute_terms(p).total_ms.astype(np.float32)[allowed]
    ).all()
    at = compute_matrix_costs(p).costs_at(
        np.array([3, 3], dtype=np.int32), np.array([0, 8], dtype=np.int32)
    )
    assert at.tolist() == compute_matrix_costs(p).cost[3, [0, 8]].tolist()


MATRIX = MatrixCosts(
    np.array([[5, 3, 3, 9], [math.inf, 1, 2, 4], [math.inf] * 4], dtype=np.float32),
    np.array([3, 0, 2], dtype=np.int32),
)


def test_candidates_are_the_cheapest_then_the_lower_row_and_the_own_node_is_kept() -> None:
    found = MATRIX.find_candidates(2)
    assert found.node.tolist() == [
        [1, 3],
        [1, 2],
        [-1, -1],
    ]  # lane 0: its own for the second; lane 1 may not stay
    assert found.cost_ms.tolist() == [[3, 9], [1, 2], [math.inf, math.inf]]
    assert MATRIX.find_candidates(9).node.tolist() == [[1, 2, 0, 3], [1, 2, 3, -1], [-1] * 4]
    assert MATRIX.find_candidates(1, rows=np.array([1], dtype=np.int32)).node.tolist() == [[1]]


def test_prices_change_the_order_and_not_the_figures() -> None:
    found = MATRIX.find_candidates(3, np.array([0.0, 4.0, 0.0, 0.0]))
    assert found.node.tolist() == [[2, 0, 3], [2, 3, 1], [-1] * 3]
    assert found.cost_ms.tolist()[:2] == [[3, 5, 9], [2, 4, 1]]


def test_no_candidate_and_bad_prices_are_refused() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        MATRIX.find_candidates(0)
    for bad, says in (
        ([0, math.nan, 0, 0], r"price_ms\[1\] is nan"),
        ([-1, 0, 0, 0], r"\[0\] is -1"),
        ([0], r"price_ms is \(1,\)"),
    ):
        with pytest.raises(ValueError, match=says):
            MATRIX.find_candidates(1, np.array(bad, dtype=np.float64))
    check_price(np.zeros(3), 3)


@settings(max_examples=50, deadline=None)
@given(support.problems(), st.integers(1, 9), st.integers(0, 3))
def test_the_oracle_keeps_its_own_invariants(p: Problem, k: int, seed: int) -> None:
    support.check(
        p, compute_matrix_costs(p), k, support.price(seed, len(p.nodes.lat)) if seed else None
    )


@settings(max_examples=50, deadline=None)
@given(support.problems(), st.integers(0, 11), st.integers(0, 69))
def test_any_cost_agrees_with_the_formula(p: Problem, lane: int, node: int) -> None:
    """cost = traffic * rtt + miss + egress + degraded + move, one pair at a time in plain
    Python."""
    lane, node = lane % len(p.lanes.lat), node % len(p.nodes.lat)
    at, to = (
        (float(p.lanes.lat[lane]), float(p.lanes.lon[lane])),
        (float(p.nodes.lat[node]), float(p.nodes.lon[node])),
    )
    km = [
        haversine_km(*at, *region)
        for region in zip(p.rtt.lat.tolist(), p.rtt.lon.tolist(), strict=True)
    ]
    least = min(km, default=0.0)
    # within rounding either of two regions at the same distance may count as the first
    nearest = [i for i, one in enumerate(km) if one <= least + 1e-6]
    source = int(p.lanes.source[lane])
    rtts = [p.weights.round_trips * float(p.path_ms[source, node])] if source >= 0 else []
    for near in (nearest or [-1]) if source < 0 else ():
        site = int(p.nodes.site[node])
        if near >= 0 and site >= 0 and p.rtt.measured[near, site]:
            rtts.append(p.rtt.a_ms + p.rtt.b_ms_per_km * km[near] + float(p.rtt.rtt_ms[near, site]))
        else:
            rtts.append(p.rtt.a_ms + p.rtt.b_ms_per_km * haversine_km(*at, *to))
    own, warm = p.lanes.owner[lane] == node, p.lanes.warm[lane] == node
    rest = float(p.nodes.egress_ms[node] + p.nodes.degraded_ms[node])
    rest += (0.0 if own else p.weights.move_ms) + (0.0 if own or warm else p.weights.miss_ms)
    found = float(compute_terms(p).total_ms[lane, node])
    assert any(
        found == pytest.approx(float(p.lanes.traffic[lane]) * rtt + rest, rel=1e-6) for rtt in rtts
    )


P = make_problem(
    lanes(NEW_YORK, LOS_ANGELES, owner=[0, -1], rule=[-1, 0]),
    NODES,
    RTT,
    Weights(),
    np.ones((1, 3), dtype=bool),
)
TWO: Callable[[float, float], Any] = lambda a, b: np.array([a, b])  # noqa: E731


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (P._replace(lanes=P.lanes._replace(lat=TWO(math.inf, 0))), r"lanes\.lat\[0\] is inf"),
        (P._replace(lanes=P.lanes._replace(lat=TWO(0, -90.1))), r"lanes\.lat\[1\] is -90\.1"),
        (P._replace(lanes=P.lanes._replace(lon=TWO(0, 181))), r"lanes\.lon\[1\] is 181"),
        (P._replace(lanes=P.lanes._replace(lon=TWO(math.nan, 0))), r"lanes\.lon\[0\] is nan"),
        (
            P._replace(lanes=P.lanes._replace(traffic=TWO(1, math.nan))),
            r"lanes\.traffic\[1\] is nan",
        ),
        (P._replace(lanes=P.lanes._replace(traffic=TWO(0.2, 1))), r"lanes\.traffic\[0\] is 0\.2"),
        (
            P._replace(lanes=P.lanes._replace(traffic=np.ones(3))),
            r"lanes\.traffic has 3 rows, lanes\.lat has 2",
        ),
        (
            P._replace(lanes=P.lanes._replace(owner=np.array([3, 0], dtype=np.int32))),
            r"lanes\.owner\[0\] is 3",
        ),
        (
            P._replace(lanes=P.lanes._replace(warm=np.array([0, -2], dtype=np.int32))),
            r"lanes\.warm\[1\] is -2",
        ),
        (
            P._replace(lanes=P.lanes._replace(rule=np.array([1, 0], dtype=np.int32))),
            r"lanes\.rule\[0\] is 1",
        ),
        (
            P._replace(nodes=NODES._replace(lat=np.array([0, 0, math.nan]))),
            r"nodes\.lat\[2\] is nan",
        ),
        (
            P._replace(nodes=NODES._replace(lon=np.array([-181.0, 0, 0]))),
            r"nodes\.lon\[0\] is -181",
        ),
        (
            P._replace(nodes=NODES._replace(site=np.array([0, 12, 0], dtype=np.int32))),
            r"nodes\.site\[1\] is 12",
        ),
        (
            P._replace(nodes=NODES._replace(egress_ms=np.array([0, 0, math.inf]))),
            r"nodes\.egress_ms\[2\] is inf",
        ),
        (
            P._replace(nodes=NODES._replace(degraded_ms=np.array([-1.0, 0, 0]))),
            r"nodes\.degraded_ms\[0\] is -1",
        ),
        (
            P._replace(nodes=NODES._replace(takes=np.ones(2, dtype=bool))),
            r"nodes\.takes has 2 rows, nodes\.lat has 3",
        ),
        (P._replace(rtt=RTT._replace(a_ms=math.nan)), r"rtt\.a_ms\[0\] is nan"),
        (P._replace(rtt=RTT._replace(b_ms_per_km=-0.1)), r"rtt\.b_ms_per_km\[0\] is -0\.1"),
        (
            P._replace(rtt=RTT._replace(rtt_ms=np.full((12, 12), math.nan))),
            r"rtt\.rtt_ms \(row by row\)\[0\] is nan",
        ),
        (
            P._replace(rtt=RTT._replace(measured=np.ones((12, 3), dtype=bool))),
            r"not square in its 12 regions",
        ),
        (P._replace(weights=Weights(math.inf)), r"move_ms\[0\] is inf"),
        (P._replace(weights=Weights(2.0, math.nan)), r"miss_ms\[0\] is nan"),
        (P._replace(allowed=np.ones((1, 4), dtype=bool)), r"allowed is \(1, 4\)"),
        (P._replace(path_ms=np.ones((1, 4))), r"path_ms is \(1, 4\)"),
        (P._replace(path_ms=np.ones(3)), r"path_ms is \(3,\)"),
        (
            P._replace(path_ms=np.array([[1, 2, math.nan]])),
            r"path_ms \(row by row\)\[2\] is nan",
        ),
        (P._replace(path_ms=np.array([[-0.1, 2, 3]])), r"path_ms \(row by row\)\[0\] is -0\.1"),
        (P._replace(path_ms=np.full((2, 3), 10_001.0)), r"\[0\] is 10001\.0: .* 0 to 10000"),
        (
            P._replace(lanes=P.lanes._replace(source=np.array([-1, 0], dtype=np.int32))),
            r"lanes\.source\[1\] is 0",
        ),
        (
            P._replace(lanes=P.lanes._replace(source=np.array([-2, -1], dtype=np.int32))),
            r"lanes\.source\[0\] is -2",
        ),
        (P._replace(weights=Weights(round_trips=math.nan)), r"round_trips\[0\] is nan"),
        (P._replace(weights=Weights(round_trips=100.5)), r"round_trips\[0\] is 100\.5"),
    ],
)
def test_bad_numbers_are_refused_by_name(bad: Problem, says: str) -> None:
    for refuse in (
        check_problem,
        compute_matrix_costs,
        compute_terms,
        lambda p: make_problem(p.lanes, p.nodes, p.rtt, p.weights, p.allowed, p.path_ms),
    ):
        with pytest.raises(ValueError, match=says):
            refuse(bad)
