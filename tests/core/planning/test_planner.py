"""What the planner does in named situations: where orphans go, who waits, when a lane moves and
when it must not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as with_

from agents.core.model.plan import (
    AllowedNodes,
    Lane,
    Memory,
    Moment,
    Node,
    NodePlace,
    Plan,
    PlanningFrame,
)
from agents.core.planning.planner import make_plan
from agents.settings.calm import Calm
from kernels import MatrixCosts, Numerics, Problem, Weights, no_rtt_table
from kernels.placement.assign import solve
from kernels.reference import compute_feasible_pairs

CALM, WEIGHTS = Calm(), Weights()
IDS = 1000
Rtts = Sequence[Sequence[float]]


def frame_of(
    nodes: Sequence[Node],
    calm: Calm,
    weights: Weights,
    rules: Sequence[AllowedNodes] = (),
    rule: int = -1,
) -> PlanningFrame:
    """Lanes 0 to 999, all in one place; `rule` binds them all."""
    zeros = (0.0,) * IDS
    places = tuple(NodePlace(n.id, 0.0, 0.0) for n in nodes)
    return PlanningFrame(
        zeros, zeros, (rule,) * IDS, places, tuple(rules), no_rtt_table(1.0, 0.02), calm, weights
    )


def by_matrix(rtt: Rtts) -> Numerics:
    """Numerics whose RTT is what the test says: `rtt[l][n]` in ms."""

    def costs(p: Problem) -> MatrixCosts:
        lanes, nodes = len(p.lanes.lat), len(p.nodes.lat)
        way = np.array(rtt, dtype=np.float64).reshape(lanes, nodes)
        own = p.lanes.owner[:, None] == np.arange(nodes)[None, :]
        warm = own | (p.lanes.warm[:, None] == np.arange(nodes)[None, :])
        total = way + np.where(own, 0.0, p.weights.move_ms) + np.where(warm, 0.0, p.weights.miss_ms)
        total = total + p.nodes.degraded_ms
        return MatrixCosts(
            np.where(compute_feasible_pairs(p), total, np.inf).astype(np.float32), p.lanes.owner
        )

    return Numerics("matrix", "the test says so", costs, solve)


def decide(
    lanes: Sequence[Lane],
    nodes: Sequence[Node],
    rtt: Rtts,
    *,
    calm: Calm = CALM,
    now_s: float = 0.0,
    memory: Memory | None = None,
    orphans_only: bool = False,
    eager: bool = False,
    rules: Sequence[AllowedNodes] = (),
    rule: int = -1,
    weights: Weights = WEIGHTS,
) -> Plan:
    moment = Moment(now_s, tuple(lanes), tuple(nodes), memory or Memory(), orphans_only, eager)
    return make_plan(frame_of(nodes, calm, weights, rules, rule), moment, by_matrix(rtt))


def twice(lanes: Sequence[Lane], nodes: Sequence[Node], rtt: Rtts, calm: Calm = CALM) -> Plan:
    """The plan when the same has been seen for two windows."""
    seen = decide(lanes, nodes, rtt, calm=calm)
    return decide(lanes, nodes, rtt, calm=calm, now_s=calm.window_s, memory=seen.memory)


def fleet(*capacity_eps: float) -> list[Node]:
    return [Node(f"n{i}", c) for i, c in enumerate(capacity_eps)]


def given(p: Plan) -> dict[int, int]:
    return {a.lane: a.to for a in p.assignments}


# ---- orphans ----


def test_orphan_goes_to_its_cheapest_node_at_once() -> None:
    p = decide([Lane(7, 100)], fleet(2000, 2000), [[30, 10]])
    assert given(p) == {7: 1}
    assert p.assignments[0].rtt_ms == 10
    assert p.after.mean_rtt_ms == 10


def test_orphan_goes_elsewhere_when_the_cheapest_is_full() -> None:
    lanes = [Lane(0, 1600, owner=0), Lane(1, 200)]
    assert given(decide(lanes, fleet(2000, 2000), [[5, 50], [5, 50]])) == {1: 1}


def test_capacity_is_a_hard_limit_and_the_least_important_wait() -> None:
    lanes = [
        Lane(0, 600, priority=0),
        Lane(1, 600, priority=2),
        Lane(2, 600, priority=1),
        Lane(3, 600, priority=2),
    ]
    p = decide(lanes, fleet(1200), [[5]] * 4)
    assert set(given(p)) == {1, 3}
    assert p.waiting == (2, 0)


def test_packing_finds_room_that_the_nearest_choice_would_waste() -> None:
    """The small lane first takes the near small node, and the next one fits nowhere: packed
    tightly, all fit."""
    lanes = [Lane(0, 50, priority=1), Lane(1, 100)]
    p = decide(lanes, fleet(100, 60), [[1, 9], [1, 9]], calm=with_(CALM, target_utilisation=1.0))
    assert given(p) == {0: 1, 1: 0}


def test_lane_too_heavy_for_any_node_gets_an_empty_largest_one_and_stays_alone() -> None:
    lanes = [Lane(0, 9000), Lane(1, 10)]
    p = decide(lanes, fleet(1000, 2000, 1000), [[1, 5, 9], [9, 1, 5]])
    assert given(p) == {0: 1, 1: 2}
    assert decide(
        [lanes[0], Lane(1, 10, owner=1)], fleet(1000, 2000), [[1, 5], [5, 1]]
    ).waiting == (0,)


def test_lane_too_heavy_for_any_node_leaves_for_an_empty_one_only() -> None:
    nodes = [Node("n0", 2000, empty="draining"), *fleet(2000)]
    p = decide([Lane(0, 9000, owner=0)], nodes, [[1, 5]])
    assert [(m.lane, m.to, m.reason) for m in p.moves] == [(0, 1, "draining")]
    p = decide([Lane(0, 9000, owner=0), Lane(1, 10, owner=1)], nodes, [[1, 5]] * 2)
    assert (p.moves, p.stuck) == ((), (0,))


@pytest.mark.parametrize(
    "node",
    [Node("a", 2000, takes=False), Node("a", 2000, empty="draining"), Node("a", 0)],
    ids=["dnd", "draining", "zero"],
)
def test_nothing_goes_to_a_node_that_takes_none(node: Node) -> None:
    assert decide([Lane(0, 1)], [node], [[5]]).waiting == (0,)


def test_silent_lanes_are_spread_over_equal_nodes() -> None:
    lanes = [Lane(i, None) for i in range(12)]
    p = decide(lanes, fleet(2000, 2000, 2000), [[5, 5, 5]] * 12)
    assert sorted(list(given(p).values()).count(n) for n in range(3)) == [4, 4, 4]


def test_expected_rate_stands_in_for_an_unknown_one_and_for_all_before_the_stream_begins() -> None:
    lanes = [Lane(0, None, 40), Lane(1, 20.0, 30), Lane(2, 90, 30)]
    assert decide(lanes, fleet(2000), [[5]] * 3).load_eps == (40, 20, 90)
    lanes = [Lane(0, None, 40), Lane(1, 0.0, 30), Lane(2, 5.0, 30)]
    assert decide(lanes, fleet(2000), [[5]] * 3).load_eps == (40, 30, 30)


def test_full_fleet_shares_its_reserve_evenly() -> None:
    """Both nodes would be above target_utilisation: they are filled alike, and nobody waits while
    there is capacity."""
    lanes = [Lane(i, 100) for i in range(18)]
    p = decide(lanes, fleet(1000, 1000), [[5, 6]] * 18)
    assert p.waiting == ()
    assert p.after.utilisation <= 0.9 * CALM.settle_to


def test_expected_rates_alone_leave_nobody_waiting() -> None:
    lanes = [Lane(i, None, 1e6) for i in range(8)]
    assert decide(lanes, fleet(2000, 2000), [[5, 6]] * 8).waiting == ()


def test_lane_on_its_way_goes_where_it_was_meant_to_go() -> None:
    p = decide([Lane(0, 100, target=1)], fleet(2000, 2000), [[5, 50]])
    assert [(a.to, a.reason) for a in p.assignments] == [(1, "move")]
    gone = [Node("n0", 2000), Node("n1", 2000, takes=False)]
    assert given(decide([Lane(0, 100, target=1)], gone, [[5, 50]])) == {0: 0}


def test_the_best_placement_leaves_a_lane_on_its_way_where_it_goes() -> None:
    p = decide([Lane(0, 100, owner=0, target=1, moving=True)], fleet(2000, 2000), [[5, 50]])
    assert (p.optimum.objective, p.optimum.moves, p.moves) == (100 * 50, 0, ())


def test_room_is_kept_for_a_lane_on_its_way() -> None:
    lanes = [Lane(0, 1000, owner=0, target=1, moving=True), Lane(1, 1000)]
    p = decide(lanes, [Node("n0", 2000, takes=False), *fleet(2000)], [[5, 5], [5, 5]])
    assert p.waiting == (1,)


def test_emergency_touches_orphans_only() -> None:
    lanes = [Lane(0, 100), Lane(1, 100, owner=0)]
    nodes = [Node("n0", 2000, empty="draining"), Node("n1", 2000)]
    p = decide(lanes, nodes, [[5, 5], [5, 5]], eager=True)
    assert (given(p), p.moves) == ({0: 1}, ())


# ---- moves ----


def test_draining_node_is_emptied_at_once_within_the_budget() -> None:
    lanes = [Lane(i, 100, owner=0) for i in range(20)]
    nodes = [Node("n0", 4000, empty="draining"), Node("n1", 4000)]
    p = decide(lanes, nodes, [[5, 7.1]] * 20)
    assert [(m.lane, m.reason, round(m.delta_ms, 6)) for m in p.moves] == [(0, "draining", 2.1)]
    assert (
        decide(lanes[:2], nodes, [[5, 7.1]] * 2).moves[0].lane == 0
    )  # one lane, however large its share


def test_no_move_while_the_budget_is_on_the_move() -> None:
    lanes = [Lane(i, 100, owner=0) for i in range(5)]
    lanes[0] = replace(lanes[0], moving=True, target=1)
    assert (
        decide(lanes, [Node("n0", 4000, empty="draining"), Node("n1", 4000)], [[5, 5]] * 5).moves
        == ()
    )


def test_at_most_five_moves_in_flight_per_node() -> None:
    lanes = [Lane(i, 10, owner=0) for i in range(10)] + [Lane(99, 3000, owner=2)]
    nodes = [Node("n0", 4000, empty="unhealthy"), *fleet(4000), Node("n2", 4000, takes=False)]
    assert len(decide(lanes, nodes, [[5, 5, 5]] * 11).moves) == 5
    nodes[0] = replace(nodes[0], in_flight=3)
    assert len(decide(lanes, nodes, [[5, 5, 5]] * 11).moves) == 2


def test_lane_that_must_leave_and_fits_nowhere_is_named_and_stays() -> None:
    p = decide(
        [Lane(4, 1000, owner=0)], [Node("n0", 2000, empty="draining"), Node("n1", 100)], [[5, 5]]
    )
    assert (p.moves, p.stuck) == ((), (4,))


def test_hot_node_is_relieved_after_two_windows_and_not_before() -> None:
    lanes = [Lane(i, 300, owner=0) for i in range(5)]
    nodes, rtt = fleet(2000, 2000), [[5, 9], [5, 7], [5, 8], [5, 9], [5, 9]]
    seen = decide(lanes, nodes, rtt)
    assert seen.moves == ()
    assert decide(lanes, nodes, rtt, now_s=CALM.window_s / 2, memory=seen.memory).moves == ()
    p = decide(lanes, nodes, rtt, now_s=CALM.window_s, memory=seen.memory)
    assert [(m.lane, m.to, m.reason) for m in p.moves] == [(1, 1, "hot")]


def test_a_gap_in_watching_is_no_window() -> None:
    lanes, nodes, rtt = [Lane(i, 300, owner=0) for i in range(5)], fleet(2000, 2000), [[5, 5]] * 5
    seen = decide(lanes, nodes, rtt)
    assert decide(lanes, nodes, rtt, now_s=60, memory=seen.memory).moves == ()


def test_heat_that_passes_starts_the_windows_anew() -> None:
    hot, nodes, rtt = [Lane(i, 300, owner=0) for i in range(5)], fleet(2000, 2000), [[5, 5]] * 5
    cool = [replace(lane, rate_eps=10) for lane in hot]
    seen = decide(hot, nodes, rtt)
    seen = decide(cool, nodes, rtt, now_s=3, memory=seen.memory)
    assert decide(hot, nodes, rtt, now_s=CALM.window_s, memory=seen.memory).moves == ()


def test_idle_imbalance_is_left_alone() -> None:
    """All on one node, at a sixteenth of its capacity: nobody waits for anything, so nothing is
    worth a move."""
    assert (
        twice([Lane(i, 25, owner=0) for i in range(5)], fleet(2000, 2000), [[5, 5]] * 5).moves == ()
    )


def test_nodes_that_are_away_count_for_nothing_in_the_mean() -> None:
    """Two of four are away: the two that work are busy alike, and neither is hot beside the
    other."""
    lanes = [Lane(i, 400, owner=i % 2) for i in range(6)]
    nodes = [*fleet(2000, 2000), Node("n2", 2000, takes=False), Node("n3", 2000, takes=False)]
    assert twice(lanes, nodes, [[5, 5, 1, 1]] * 6).memory.hot_since_s == {}


def test_node_over_capacity_is_relieved_even_when_all_are_busy() -> None:
    lanes = [
        Lane(0, 900, owner=0),
        Lane(1, 900, owner=0),
        Lane(2, 200, owner=0),
        Lane(3, 1400, owner=1),
    ]
    p = twice(lanes, fleet(2000, 2000), [[5, 5]] * 4)
    assert [(m.lane, m.reason) for m in p.moves] == [(2, "over capacity")]


def test_all_others_leave_the_node_of_a_lane_that_alone_is_more_than_it_settles_to() -> None:
    """Node 0 settles to 0.5 of its capacity, and lane 0 has 0.75 of it."""
    lanes = [Lane(0, 300, owner=0), *(Lane(i, 30, owner=0) for i in (1, 2, 3))]
    lanes += [Lane(3 + n, 100, owner=n) for n in (1, 2, 3)]
    calm = with_(CALM, budget_share=1.0)
    p = twice(lanes, fleet(400, 400, 400, 400), [[5] * 4] * 7, calm)
    assert {(m.lane, m.frm) for m in p.moves} == {(1, 0), (2, 0), (3, 0)}


def test_lane_too_heavy_for_its_node_goes_to_a_larger_one_where_others_are() -> None:
    p = twice([Lane(0, 500, owner=0), Lane(1, 100, owner=1)], fleet(400, 2000), [[5, 9]] * 2)
    assert [(m.lane, m.to, m.reason) for m in p.moves] == [(0, 1, "over capacity")]


def test_lane_that_is_nearer_elsewhere_moves_after_two_windows_if_it_pays() -> None:
    lanes = [Lane(0, 100, owner=0), Lane(1, 100, owner=0)]
    p = twice(lanes, fleet(2000, 2000), [[30, 10], [5, 4]])  # lane 1 would gain less than move_ms
    assert [(m.lane, m.delta_ms, m.reason) for m in p.moves] == [(0, -20, "nearer")]
    short = with_(CALM, horizon_s=1, pause_ms=300)  # 20 ms for 1 s < 45 ms s
    assert twice(lanes, fleet(2000, 2000), [[30, 10], [5, 4]], short).moves == ()


def test_cooldown_is_kept_unless_somebody_asks() -> None:
    lanes = [Lane(0, 100, owner=0, cooldown_until_s=100)]
    assert twice(lanes, fleet(2000, 2000), [[30, 10]]).moves == ()
    assert len(decide(lanes, fleet(2000, 2000), [[30, 10]], eager=True).moves) == 1
    assert decide(lanes, fleet(2000, 2000), [[30, 10]], eager=True, orphans_only=True).moves == ()


def test_the_next_plan_begins_with_the_prices_that_this_one_reports() -> None:
    lanes = [Lane(i, 600 + i, owner=0) for i in range(4)]
    p = decide(lanes, fleet(2000, 2000), [[5 + i / 7, 9 + i / 3] for i in range(4)])
    assert max(p.price_ms) > 0
    assert p.memory.price_ms == {f"n{n}": ms for n, ms in enumerate(p.price_ms) if ms > 0}


def test_losing_the_memory_only_delays() -> None:
    lanes, nodes = [Lane(0, 100, owner=0)], fleet(2000, 2000)
    assert decide(lanes, nodes, [[30, 10]], now_s=1000).moves == ()
    assert len(twice(lanes, nodes, [[30, 10]]).moves) == 1


# ---- bad numbers, determinism, speed ----


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_bad_numbers_are_refused_by_name(bad: float) -> None:
    with pytest.raises(ValueError, match="lane 3: rate_eps"):
        decide([Lane(3, bad)], fleet(10), [[5]])
    with pytest.raises(ValueError, match="lane 3: expected_eps"):
        decide([Lane(3, 1, bad)], fleet(10), [[5]])
    with pytest.raises(ValueError, match="node n0: capacity_eps"):
        decide([Lane(3, 1)], fleet(bad), [[5]])


def test_nobody_at_all() -> None:
    assert decide([], [], []).waiting == ()
    assert decide([Lane(0, 1)], [], [[]]).waiting == (0,)
    assert decide([], fleet(2000), []).moves == ()
