"""The numba kernel against the oracle, and to the bit against itself: whatever the threads, rows
and pieces."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.reference import MatrixCosts, compute_matrix_costs
from kernels.scoring import cpu, prepare, scan
from kernels.scoring.cpu import CpuCosts
from kernels.tables import (
    Candidates,
    Problem,
    Weights,
    lane_table,
    make_problem,
    no_rtt_table,
    node_table,
)
from tests.kernels import support

ADVERSARIAL = support.adversarial()


@pytest.mark.parametrize("k", [1, 2, 8, 1000])
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_problems_agree_with_the_oracle(name: str, k: int) -> None:
    p = ADVERSARIAL[name]
    support.check(p, CpuCosts(p), k)
    support.check(p, CpuCosts(p), k, support.price(1, len(p.nodes.lat)))


@settings(max_examples=150, deadline=None)
@given(support.problems(), st.integers(1, 80), st.integers(0, 5))
def test_any_problem_agrees_with_the_oracle(p: Problem, k: int, seed: int) -> None:
    support.check(p, CpuCosts(p), k, support.price(seed, len(p.nodes.lat)) if seed else None)


@pytest.mark.parametrize(
    ("lanes", "nodes", "k"), [(5000, 300, 8), (3000, 1500, 16), (700, 3000, 3)]
)
@pytest.mark.parametrize("measured", [0.15, 0.6])
def test_large_problems_agree_with_the_oracle(
    lanes: int, nodes: int, k: int, measured: float
) -> None:
    p = support.random_problem(lanes, lanes, nodes, regions=20, measured=measured, rules=2)
    kernel = CpuCosts(p)
    support.check(p, kernel, k)
    rows = np.random.default_rng(0).integers(0, lanes, 900).astype(np.int32)
    support.check(p, kernel, k, support.price(3, nodes), rows)


@pytest.mark.parametrize("nodes", [40, 700])
def test_paths_of_brokers_change_nothing_for_lanes_that_have_none(nodes: int) -> None:
    """To the bit: with brokers that no lane has, and for the lanes without one among others."""
    p = support.random_problem(12, 400, nodes, regions=9)
    prices = support.price(1, nodes)
    expected = CpuCosts(p).find_candidates(8, prices)
    some = support.with_brokers(p, 4)
    none = np.flatnonzero(some.lanes.source < 0).astype(np.int32)
    idle = some._replace(lanes=p.lanes)
    assert 0 < len(none) < 400
    for q, rows in ((idle, np.arange(400, dtype=np.int32)), (some, none)):
        found = CpuCosts(q).find_candidates(8, prices, rows)
        assert found.node.tobytes() == expected.node[rows].tobytes()
        assert found.cost_ms.tobytes() == expected.cost_ms[rows].tobytes()
        assert (compute_matrix_costs(q).cost[rows] == compute_matrix_costs(p).cost[rows]).all()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_large_problems_with_brokers_agree_with_the_oracle(share: float) -> None:
    p = support.with_brokers(
        support.random_problem(3, 3000, 700, regions=20, rules=2), 5, share=share
    )
    support.check(p, CpuCosts(p), 8)
    support.check(p, CpuCosts(p), 8, support.price(3, 700))


@settings(max_examples=40, deadline=None)
@given(support.problems(lanes=30))
def test_at_agrees_with_the_oracle_everywhere(p: Problem) -> None:
    oracle = compute_matrix_costs(p)
    lane, node = (a.ravel().astype(np.int32) for a in np.indices(oracle.shape))
    at, expected = CpuCosts(p).costs_at(lane, node), oracle.costs_at(lane, node)
    assert (np.isfinite(at) == np.isfinite(expected)).all()
    some = np.isfinite(at)
    assert np.abs(at[some] - expected[some]).max(initial=0.0) <= support.slack_ms(p)


def lowest_of_all(p: Problem, k: int) -> Candidates:
    """What `find_candidates` must be, to the bit, by `costs_at` of every pair; nobody owns a
    lane."""
    lanes, nodes = len(p.lanes.lat), len(p.nodes.lat)
    lane, node = (a.ravel().astype(np.int32) for a in np.indices((lanes, nodes)))
    return MatrixCosts(
        CpuCosts(p).costs_at(lane, node).reshape(lanes, nodes), p.lanes.owner
    ).find_candidates(k)


@pytest.mark.parametrize("spread_deg", [0.001, 0.03, 1.0, 30.0])
@pytest.mark.parametrize(
    ("k", "weights"), [(1, Weights()), (8, Weights()), (20, Weights(0.0, 0.0))]
)
def test_nobody_is_passed_over_who_is_better_by_one_bit(
    spread_deg: float, k: int, weights: Weights
) -> None:
    """Nodes so close to each other, and to the lanes, that the slack of every bound is needed; for
    all nodes the same share, and for each its own."""
    rng = np.random.default_rng(k)
    p = support.random_problem(8, 1500, 700, regions=3, measured=0.2, taking=1.0)
    lanes = p.lanes._replace(
        owner=np.full(1500, -1, np.int32), traffic=rng.choice([0.25, 1.0, 1.0, 16.0], 1500)
    )
    lanes = lanes._replace(
        lat=rng.normal(50, 2 * spread_deg, 1500).clip(-90, 90),
        lon=rng.normal(8, 2 * spread_deg, 1500).clip(-180, 180),
    )
    nodes = p.nodes._replace(
        lat=rng.normal(50, spread_deg, 700).clip(-90, 90),
        lon=rng.normal(8, spread_deg, 700).clip(-180, 180),
    )
    for shares in (nodes.egress_ms, np.zeros(700)):
        p = p._replace(lanes=lanes, nodes=nodes._replace(egress_ms=shares), weights=weights)
        found, best = CpuCosts(p).find_candidates(k), lowest_of_all(p, k)
        assert found.cost_ms.tobytes() == best.cost_ms.tobytes()
        assert found.node.tobytes() == best.node.tobytes()


def test_ties_go_to_the_lower_row_wherever_it_is() -> None:
    """Four nodes in the four winds of a lane, as far to the bit, in every order."""
    for order in itertools.permutations([(10.0, 0.0), (-10.0, 0.0), (0.0, 10.0), (0.0, -10.0)]):
        lat, lon = zip(*order, strict=True)
        p = make_problem(
            lane_table([0.0], [0.0]), node_table(lat, lon), no_rtt_table(5.0, 0.01), Weights()
        )
        for k in (1, 2, 3, 4):
            assert CpuCosts(p).find_candidates(k).node.tolist() == [list(range(k))]


@pytest.mark.parametrize("measured", [0.0, 0.3, 0.7, 1.0])
def test_ties_between_measured_and_fitted_nodes_go_to_the_lower_row(measured: float) -> None:
    """Nothing costs anything but being at an odd node: whichever way a node is found, its row
    decides."""
    p = support.random_problem(9, 60, 90, regions=4, measured=measured, rules=1, taking=1.0)
    odd = np.arange(90) % 2
    p = p._replace(
        lanes=p.lanes._replace(owner=np.full(60, -1, np.int32), traffic=np.ones(60)),
        nodes=p.nodes._replace(egress_ms=odd.astype(np.float64), degraded_ms=np.zeros(90)),
        rtt=p.rtt._replace(rtt_ms=np.zeros((4, 4)), a_ms=0.0, b_ms_per_km=0.0),
        weights=Weights(0.0, 0.0),
    )
    for k in (1, 2, 5, 30, 60, 90):
        found = CpuCosts(p).find_candidates(k)
        assert found.node.tolist() == lowest_of_all(p, k).node.tolist()
        assert (np.diff(found.cost_ms[:, : min(k, 20)], axis=1) == 0).all()


def test_ties_go_to_the_lower_row() -> None:
    """Identical nodes, measured and not: equal to the bit, so the order of the rows decides, as in
    the oracle."""
    for name in ("identical nodes far away", "nothing costs anything"):
        p = ADVERSARIAL[name]
        for k in (1, 3, 7):
            assert CpuCosts(p).find_candidates(k).node.tolist() == [list(range(k))] * len(
                p.lanes.lat
            )


def test_a_node_that_is_not_better_never_comes_before_the_own_one() -> None:
    """Two identical nodes never trade a lane: moving costs, and without a price of moving the costs
    are equal."""
    p = ADVERSARIAL["identical nodes far away"]
    owner = np.array([69, 3, 40], dtype=np.int32)
    p = p._replace(lanes=p.lanes._replace(owner=owner))
    assert CpuCosts(p).find_candidates(1).node[:, 0].tolist() == owner.tolist()
    both = np.array([owner, [0, 0, 0]], dtype=np.int32)
    free = CpuCosts(p._replace(weights=p.weights._replace(move_ms=0.0)))
    here, there = (free.costs_at(np.arange(3, dtype=np.int32), node) for node in both)
    assert here.tobytes() == there.tobytes()


def test_results_do_not_depend_on_threads_pieces_or_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    p = support.random_problem(11, 6000, 200)
    plain, rows = CpuCosts(p, threads=1), np.arange(6000, dtype=np.int32)
    expected = plain.find_candidates(6)
    for least, threads in ((1024, 2), (100, 3), (7, 8), (100, 1)):
        monkeypatch.setattr(cpu, "LEAST_LANES", least)
        for _ in range(3):
            found = CpuCosts(p, threads=threads).find_candidates(6)
            assert found.node.tobytes() == expected.node.tobytes()
            assert found.cost_ms.tobytes() == expected.cost_ms.tobytes()
    for shuffled in (rows[::-1].copy(), np.random.default_rng(1).permutation(rows)):
        found = plain.find_candidates(6, rows=shuffled)
        assert found.node.tobytes() == expected.node[shuffled].tobytes()
        assert found.cost_ms.tobytes() == expected.cost_ms[shuffled].tobytes()


def test_many_callers_at_once_get_what_each_gets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LEAST_LANES", 50)
    ps = [support.random_problem(seed, 2000, 90) for seed in range(6)]
    alone = [CpuCosts(p, threads=1).find_candidates(5) for p in ps]
    with ThreadPoolExecutor(6) as callers:
        for _ in range(4):
            together = callers.map(lambda p: CpuCosts(p, threads=4).find_candidates(5), ps)
            for a, b in zip(alone, together, strict=True):
                assert a.node.tobytes() == b.node.tobytes()
                assert a.cost_ms.tobytes() == b.cost_ms.tobytes()


def test_a_problem_that_changed_is_not_answered_from_memory() -> None:
    """The geometry is kept between ticks by its columns' contents: a column changed in place is
    another one."""
    p = support.random_problem(4, 100, 20)
    support.check(p, CpuCosts(p), 3)
    p.lanes.lat[:] = -p.lanes.lat
    support.check(p, CpuCosts(p), 3)
    same = p._replace(lanes=p.lanes._replace(lat=p.lanes.lat.copy()))
    assert prepare.prepare_tick(p).ground is prepare.prepare_tick(same).ground


def test_columns_of_other_types_and_strides_are_answered_by_the_same_code() -> None:
    """Compiling takes seconds: whatever the columns are, it is done once."""
    p = support.random_problem(4, 100, 20)
    odd = p._replace(
        lanes=p.lanes._replace(
            lat=np.repeat(p.lanes.lat, 2)[::2],
            lon=np.asfortranarray(p.lanes.lon),
            owner=p.lanes.owner.astype(np.int64)[::-1],  # type: ignore[arg-type]  # as a careless caller might
        ),
        allowed=np.asfortranarray(p.allowed),
    )
    odd.lanes.lat.flags.writeable = False
    support.check(odd, CpuCosts(odd), 3, rows=np.arange(0, 100, 7, dtype=np.int32)[::-1])
    assert len(scan.search_nodes.signatures) == len(scan.compute_costs_at.signatures) == 1  # type: ignore[attr-defined]  # numba's


def test_asking_for_no_lane_or_no_candidate() -> None:
    p = support.random_problem(4, 10, 20)
    assert CpuCosts(p).find_candidates(3, rows=np.zeros(0, dtype=np.int32)).node.shape == (0, 3)
    with pytest.raises(ValueError, match="k is 0"):
        CpuCosts(p).find_candidates(0)
    with pytest.raises(ValueError, match=r"price_ms\[1\] is nan"):
        CpuCosts(p).find_candidates(1, np.array([0.0, np.nan] + [0.0] * 18))
    with pytest.raises(ValueError, match=r"lanes\.lat\[0\] is nan"):
        CpuCosts(p._replace(lanes=p.lanes._replace(lat=np.full(10, np.nan))))
    nobody = make_problem(lane_table([1.0] * 10, [2.0] * 10), node_table([], []), p.rtt, Weights())
    assert (
        CpuCosts(nobody).find_candidates(3).node.shape
        == compute_matrix_costs(nobody).find_candidates(3).node.shape
        == (10, 0)
    )
