"""Problems to try kernels on, random and adversarial, and what every exact kernel must hand back
for them.

The invariants have names: each is a function that a kernel's test asserts with the oracle's answer
beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from kernels.geo import EARTH_KM, haversine_km_matrix
from kernels.reference import MatrixCosts, compute_matrix_costs
from kernels.tables import (
    MOST_PATH_MS,
    Bools,
    Candidates,
    Costs,
    Floats,
    Ints,
    Problem,
    RttModel,
    Weights,
    lane_table,
    make_problem,
    no_rtt_table,
    node_table,
)

A_MS, B_MS_PER_KM = 5.0, 0.015


def rtt_model(rng: np.random.Generator, regions: int, measured: float = 0.5) -> RttModel:
    """Regions anywhere, a share of whose pairs were measured."""
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, regions))), rng.uniform(-180, 180, regions)
    line = A_MS + B_MS_PER_KM * haversine_km_matrix(lat, lon, lat, lon)
    known: Bools = rng.random((regions, regions)) < measured
    ms = np.where(known, line * rng.uniform(0.5, 2.0, line.shape), line)
    return RttModel(tuple(f"r{i}" for i in range(regions)), lat, lon, ms, known, A_MS, B_MS_PER_KM)


def random_problem(
    seed: int,
    lanes: int,
    nodes: int,
    *,
    regions: int = 6,
    measured: float = 0.5,
    rules: int = 3,
    taking: float = 0.9,
) -> Problem:
    """Every term and filter in use: clusters of lanes and nodes, a few values of traffic, owners,
    warm caches, rules."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-80, 80, 12), rng.uniform(-180, 180, 12)
    lane_at, node_at = rng.integers(0, 12, lanes), rng.integers(0, 12, nodes)
    rtt = rtt_model(rng, regions, measured)
    allowed: Bools = rng.random((rules, nodes)) < 0.7
    return make_problem(
        lane_table(
            middle[0][lane_at] + rng.normal(0, 2, lanes),
            np.clip(middle[1][lane_at] + rng.normal(0, 2, lanes), -180, 180),
            owner=rng.integers(-1, nodes, lanes).astype(np.int32),
            warm=rng.integers(-1, nodes, lanes).astype(np.int32),
            traffic=rng.choice([0.25, 1.0, 1.0, 1.0, 1.3, 16.0], lanes),
            rule=rng.integers(-1, rules, lanes).astype(np.int32),
        ),
        node_table(
            middle[0][node_at] + rng.normal(0, 1, nodes),
            np.clip(middle[1][node_at] + rng.normal(0, 1, nodes), -180, 180),
            site=rng.integers(-1, regions, nodes).astype(np.int32),
            takes=rng.random(nodes) < taking,
            keeps=rng.random(nodes) < 0.95,
            egress_ms=rng.choice([0.0, 1.5, 20.0], nodes),
            degraded_ms=rng.choice([0.0, 0.0, 7.25], nodes),
        ),
        rtt,
        Weights(2.0, 3.0),
        allowed,
    )


def with_brokers(p: Problem, brokers: int, seed: int = 0, share: float = 0.7) -> Problem:
    """The problem with the data of this share of its lanes at brokers, some of them at a node."""
    rng = np.random.default_rng([seed, brokers])
    lanes, nodes = len(p.lanes.lat), len(p.nodes.lat)
    source = np.where(rng.random(lanes) < share, rng.integers(0, brokers, lanes), -1)
    path_ms = rng.choice([0.0, 0.25, 12.5, 80.0, 300.0], (brokers, nodes))
    path_ms *= rng.choice([1.0, 1.0, 1.1], (brokers, nodes))
    weights = p.weights._replace(round_trips=float(rng.choice([0.0, 1.0, 5.5])))
    return p._replace(
        lanes=p.lanes._replace(source=source.astype(np.int32)), path_ms=path_ms, weights=weights
    )


def price(seed: int, nodes: int) -> Floats:
    """Prices as an auction leaves them: mostly none, some high."""
    rng = np.random.default_rng(seed)
    return rng.choice([0.0, 0.0, 3.0, 40.0], nodes) * rng.uniform(0.5, 1.5, nodes)


def _plain(
    lat: list[float], lon: list[float], node_lat: list[float], node_lon: list[float], **nodes: Any
) -> Problem:
    return make_problem(
        lane_table(lat, lon),
        node_table(node_lat, node_lon, **nodes),
        no_rtt_table(A_MS, B_MS_PER_KM),
        Weights(),
    )


def adversarial() -> dict[str, Problem]:
    """Where formulas, sorting, padding and filters break, by name."""
    some = random_problem(5, 40, 30)
    lanes, nodes = some.lanes, some.nodes
    everywhere, none = (
        np.ones(nodes.takes.shape, dtype=bool),
        np.zeros(nodes.takes.shape, dtype=bool),
    )
    poles = _plain(
        [90, 90, -90, -90, 0], [0, 133, -180, 180, 180], [90, -90, 90, 0], [77, 0, -77, -180]
    )
    known = np.ones(some.rtt.measured.shape, dtype=bool)
    site = np.abs(nodes.site)
    same = np.full(len(lanes.lat), 12.5), np.full(len(lanes.lat), -33.0)
    return {
        "one lane, one node": _plain([1], [2], [3], [4]),
        "one node": random_problem(1, 50, 1),
        "one lane": random_problem(2, 1, 100),
        "no lane": random_problem(3, 0, 10),
        "identical places": some._replace(
            lanes=lanes._replace(lat=same[0], lon=same[1]),
            nodes=nodes._replace(
                lat=np.full(30, 12.5), lon=np.full(30, -33.0), egress_ms=np.zeros(30)
            ),
        ),
        "identical nodes far away": _plain([10, 20, -30], [5, 5, 100], [50.1] * 70, [8.7] * 70),
        "antipodes": _plain(
            [10, -45, 0, 0.001],
            [20, 170, 0, 0],
            [-10, 45, 0, -10, 0],
            [-160, -10, 180, -160.0001, 179.999],
        ),
        "poles and the date line": poles,
        "nobody takes lanes": some._replace(nodes=nodes._replace(takes=none)),
        "everything filtered": some._replace(nodes=nodes._replace(takes=none, keeps=none)),
        "takes but does not keep": some._replace(
            nodes=nodes._replace(takes=everywhere, keeps=none)
        ),
        "a rule that no node meets": some._replace(
            allowed=np.zeros(some.allowed.shape, dtype=bool)
        ),
        "no RTT table": some._replace(
            rtt=no_rtt_table(A_MS, B_MS_PER_KM),
            nodes=nodes._replace(site=np.full(30, -1, np.int32)),
        ),
        "all pairs measured": some._replace(
            rtt=some.rtt._replace(measured=known), nodes=nodes._replace(site=site)
        ),
        "all pairs measured, and nobody may stay": some._replace(
            rtt=some.rtt._replace(measured=known),
            nodes=nodes._replace(site=site, takes=everywhere, keeps=none),
        ),
        "no pair measured": some._replace(rtt=some.rtt._replace(measured=~known)),
        "each lane its own traffic": random_problem(6, 300, 90)._replace(
            lanes=random_problem(6, 300, 90).lanes._replace(traffic=np.linspace(0.25, 16, 300))
        ),
        "distance costs nothing": some._replace(rtt=some.rtt._replace(b_ms_per_km=0.0)),
        "distance costs next to nothing": some._replace(rtt=some.rtt._replace(b_ms_per_km=1e-30)),
        "distance costs a fortune": some._replace(rtt=some.rtt._replace(b_ms_per_km=50.0)),
        "a slow network": some._replace(rtt=some.rtt._replace(a_ms=1e5)),
        "nothing costs anything": _plain([1, 1, 2], [2, 2, 2], [1] * 9, [2] * 9)._replace(
            rtt=no_rtt_table(0.0, 0.0), weights=Weights(0.0, 0.0)
        ),
        **{f"{n} nodes": random_problem(n, 64, n) for n in (2, 63, 64, 65, 128, 129)},
        "data at brokers": with_brokers(some, 3),
        "all data at one broker": with_brokers(some, 1, share=1.0),
        "data at brokers, and no RTT table": with_brokers(
            some._replace(
                rtt=no_rtt_table(A_MS, B_MS_PER_KM),
                nodes=nodes._replace(site=np.full(30, -1, np.int32)),
            ),
            2,
        ),
        "brokers as far from everywhere": with_brokers(random_problem(8, 64, 129), 2)._replace(
            path_ms=np.full((2, 129), 33.3)
        ),
        "brokers as far as can be": with_brokers(some, 2)._replace(
            path_ms=np.full((2, 30), MOST_PATH_MS)
        ),
    }


PLACES = st.tuples(st.floats(-90, 90, width=32), st.floats(-180, 180, width=32))
SPECIAL = st.sampled_from(
    [(90.0, 0.0), (-90.0, 12.0), (0.0, 180.0), (0.0, -180.0), (10.0, 20.0), (-10.0, -160.0)]
)


@st.composite
def problems(draw: st.DrawFn, lanes: int = 12, nodes: int = 70) -> Problem:
    """Any small problem; places repeat, and lie on poles, antipodes and the date line more often
    than not."""
    count, width, regions = (
        draw(st.integers(1, lanes)),
        draw(st.integers(1, nodes)),
        draw(st.integers(0, 4)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = np.array(draw(st.lists(PLACES | SPECIAL, min_size=1, max_size=8)), dtype=np.float64)
    lane_at, node_at = (
        pool[rng.integers(0, len(pool), count)],
        pool[rng.integers(0, len(pool), width)],
    )
    base = random_problem(
        draw(st.integers(0, 99)),
        count,
        width,
        regions=max(1, regions),
        measured=draw(st.floats(0, 1)),
    )
    brokers = draw(st.integers(0, 3))
    if brokers:
        base = with_brokers(base, brokers, draw(st.integers(0, 99)), draw(st.floats(0, 1)))
    weights = base.weights._replace(
        move_ms=draw(st.sampled_from([0.0, 2.0])), miss_ms=draw(st.sampled_from([0.0, 5.0]))
    )
    whole = base._replace(
        lanes=base.lanes._replace(lat=lane_at[:, 0], lon=lane_at[:, 1]),
        nodes=base.nodes._replace(lat=node_at[:, 0], lon=node_at[:, 1]),
        weights=weights,
    )
    if regions:
        return whole
    return whole._replace(
        rtt=no_rtt_table(A_MS, 0.02), nodes=whole.nodes._replace(site=np.full(width, -1, np.int32))
    )


def slack_ms(p: Problem) -> float:
    """By how much float32 may be off: 2 us, and a share of a thousandth of what crossing the Earth
    costs."""
    most = float(p.lanes.traffic.max(initial=1.0))
    ms = p.rtt.a_ms + p.rtt.b_ms_per_km * EARTH_KM + float(p.rtt.rtt_ms.max(initial=0.0))
    ms += p.weights.round_trips * float(p.path_ms.max(initial=0.0))
    return 2e-3 + 1e-6 * ms * most


def check(
    p: Problem, kernel: Costs, k: int, price_ms: Floats | None = None, rows: Ints | None = None
) -> None:
    """All invariants of `kernel.find_candidates`, against the oracle."""
    oracle, slack = compute_matrix_costs(p), slack_ms(p)
    found, best = (
        kernel.find_candidates(k, price_ms, rows),
        oracle.find_candidates(k, price_ms, rows),
    )
    lane = np.arange(oracle.shape[0], dtype=np.int32) if rows is None else rows
    shapes_are_right(found, best)
    none_comes_last_and_is_infinite(found)
    no_node_stands_twice(found)
    costs_are_the_oracles(found, oracle, lane, slack)
    none_better_is_left_out(found, best, oracle.shape[1], price_ms, slack)
    own_node_is_among_them(found, oracle, lane)
    at_agrees_to_the_bit(found, kernel, lane)


def shapes_are_right(found: Candidates, best: Candidates) -> None:
    assert found.node.dtype == np.int32
    assert found.cost_ms.dtype == np.float32
    assert found.node.shape == found.cost_ms.shape == best.node.shape


def none_comes_last_and_is_infinite(found: Candidates) -> None:
    none = found.node < 0
    assert (np.isinf(found.cost_ms) == none).all()
    assert (np.diff(none.astype(int), axis=1) >= 0).all()


def no_node_stands_twice(found: Candidates) -> None:
    row = np.sort(found.node, axis=1)
    assert not ((row[:, 1:] == row[:, :-1]) & (row[:, 1:] >= 0)).any()


def costs_are_the_oracles(found: Candidates, oracle: MatrixCosts, lane: Ints, slack: float) -> None:
    some = found.node >= 0
    expected = oracle.cost[lane[:, None], found.node]
    assert np.isfinite(expected[some]).all()
    assert np.abs(found.cost_ms[some] - expected[some]).max(initial=0.0) <= slack


def none_better_is_left_out(
    found: Candidates, best: Candidates, nodes: int, price_ms: Floats | None, slack: float
) -> None:
    """Place by place, cost plus price is the oracle's: who differs, ties."""
    price_ms = np.zeros(nodes) if price_ms is None else price_ms
    assert ((found.node >= 0) == (best.node >= 0)).all()
    ours, theirs = (np.where(c.node >= 0, c.cost_ms + price_ms[c.node], 0.0) for c in (found, best))
    assert np.abs(ours - theirs).max(initial=0.0) <= 2 * slack


def own_node_is_among_them(found: Candidates, oracle: MatrixCosts, lane: Ints) -> None:
    own = oracle.own[lane]
    at = np.flatnonzero((own >= 0) & np.isfinite(oracle.cost[lane, own]))
    assert (found.node[at] == own[at, None]).any(axis=1).all()


def at_agrees_to_the_bit(found: Candidates, kernel: Costs, lane: Ints) -> None:
    row, column = np.nonzero(found.node >= 0)
    at = kernel.costs_at(lane[row], found.node[row, column])
    assert at.dtype == np.float32
    assert at.tobytes() == found.cost_ms[row, column].tobytes()
