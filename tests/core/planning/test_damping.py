"""The calm rules one by one: ramp, room that is made, moves that may be in flight, damping, who
waits when not all fit, residency; each in a named situation or as a property."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as with_

from agents.core.fleet.fleet import Fleet
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.placing_inputs import PlacingInputs, PlacingSettings
from agents.core.model.plan import AllowedNodes, Lane, LanePlaces, Memory, Node, Plan
from agents.core.model.topology import WorkerKind
from agents.core.planning.damping import MAKES_ROOM, MUST, OVER, RESIDENCY
from agents.core.planning.limits import ramp_share
from kernels import Weights
from tests.core.planning.test_planner import CALM, decide, fleet, twice
from tests.core.planning.test_planner import given as placed
from tests.core.world import RTT, inventory


def done(lanes: Sequence[Lane], p: Plan) -> list[Lane]:
    """The lanes once everything in the plan has happened."""
    to = {a.lane: a.to for a in p.assignments} | {m.lane: m.to for m in p.moves}
    return [replace(x, owner=to.get(x.id, x.owner)) for x in lanes]


# ---- ramp ----


def test_node_that_comes_back_gets_its_room_by_and_by() -> None:
    """All lanes are nearer to the one that came: at no moment has it more than the ramp allows, and
    in the end it has all."""
    lanes: Sequence[Lane] = [Lane(i, 50, owner=0) for i in range(10)]
    calm = with_(CALM, budget_share=1.0, in_flight=100)
    nodes, memory, had = [Node("n0", 2000), Node("n1", 1000, came_s=0.0)], Memory(), []
    for now_s in range(0, 100, 2):
        p = decide(lanes, nodes, [[50, 5]] * 10, calm=calm, now_s=float(now_s), memory=memory)
        lanes, memory = done(lanes, p), p.memory
        had.append(sum(50 for x in lanes if x.owner == 1))
        assert had[-1] <= 850 * ramp_share(now_s, calm)
    assert had == sorted(had)
    assert len(set(had)) > 3
    assert had[-1] == 500


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_ramp_never_falls_and_ends_at_one(age_s: float, more_s: float) -> None:
    assert CALM.ramp_from <= ramp_share(age_s, CALM) <= ramp_share(age_s + more_s, CALM) <= 1.0
    assert ramp_share(0.0, CALM) == ramp_share(-1.0, CALM) == CALM.ramp_from
    assert ramp_share(CALM.ramp_s, CALM) == 1.0
    assert ramp_share(0, with_(CALM, ramp_s=0.0)) == 1.0


def test_orphans_do_not_wait_for_the_ramp() -> None:
    lanes = [Lane(i, 300) for i in range(4)]
    assert decide(lanes, [Node("n0", 2000, came_s=0.0)], [[5]] * 4, now_s=1.0).waiting == ()


def test_lanes_that_must_leave_do_not_wait_for_the_ramp() -> None:
    nodes = [Node("n0", 2000, empty="draining"), Node("n1", 2000, came_s=0.0)]
    p = decide([Lane(0, 1500, owner=0)], nodes, [[5, 5]], now_s=1.0)
    assert [(m.lane, m.to) for m in p.moves] == [(0, 1)]
    p = decide([Lane(0, 1500, owner=0)], [Node("n0", 2000), nodes[1]], [[50, 5]], now_s=1.0)
    assert p.moves == (), "it would only be nearer"


# ---- what a move must earn, and what makes room ----


def test_lane_makes_room_for_one_that_gains_more() -> None:
    """Both nodes are as full as they may be: the heavy gain of one pays for the small loss of the
    other."""
    calm = with_(CALM, comfortable=0.85, budget_share=1.0)
    lanes = [Lane(0, 800, owner=0), Lane(1, 800, owner=1)]
    p = twice(lanes, fleet(1000, 1000), [[60, 5], [10, 12]], calm)
    assert {(m.lane, m.frm, m.to) for m in p.moves} == {(0, 0, 1), (1, 1, 0)}
    assert p.after.mean_rtt_ms < p.before.mean_rtt_ms


ROUND_THE_CORNER = [
    [5, 500, 900],
    [5, 10, 900],
    [900, 5, 20],
]  # node 1 has no room for lane 1 unless lane 2 goes to node 2
CROWDED = [Lane(0, 500, owner=0), Lane(1, 500, owner=0), Lane(2, 400, owner=1)]


def test_a_node_over_its_capacity_is_relieved_though_others_have_to_make_room() -> None:
    """At a loss, and beyond the budget when nothing else is on the move: these lanes are heavier
    than it each."""
    p = twice(CROWDED, fleet(1000, 1000, 1000), ROUND_THE_CORNER)
    assert {(m.lane, m.frm, m.to, m.reason) for m in p.moves} == {
        (1, 0, 1, OVER),
        (2, 1, 2, MAKES_ROOM),
    }
    busy = [replace(x, moving=True, target=2) if x.id == 2 else x for x in CROWDED]
    assert not [
        m
        for m in twice(busy, fleet(1000, 1000, 1000), ROUND_THE_CORNER).moves
        if m.reason == MAKES_ROOM
    ]


def test_nobody_makes_room_at_a_loss_for_a_node_that_is_only_hot() -> None:
    """Lanes of half the load: node 0 is above 1.25 x mean, and within its capacity."""
    calm = with_(CALM, comfortable=0.1, budget_share=1.0)
    light = [replace(x, rate_eps=(x.rate_eps or 0) / 2) for x in CROWDED]
    p = twice(light, fleet(1000, 440, 1000), ROUND_THE_CORNER, calm)
    assert not [m for m in p.moves if m.reason in (OVER, MAKES_ROOM)]


def test_warm_caches_draw_a_lane_back_and_cold_ones_cost() -> None:
    lanes = [Lane(0, 100, warm=1)]
    assert placed(decide(lanes, fleet(2000, 2000), [[5, 7]], weights=Weights(2.0, 3.0))) == {0: 1}
    assert placed(decide(lanes, fleet(2000, 2000), [[5, 7]], weights=Weights(2.0, 1.0))) == {0: 0}


def test_degraded_node_is_avoided_by_as_many_ms() -> None:
    nodes = [Node("n0", 2000, degraded_ms=20.0), Node("n1", 2000)]
    assert placed(decide([Lane(0, 100)], nodes, [[5, 24]])) == {0: 1}
    assert placed(decide([Lane(0, 100)], nodes, [[5, 26]])) == {0: 0}


def test_forecast_counts_before_the_events_are_there() -> None:
    """A wave is coming: what will arrive fills the near node, so the second lane goes elsewhere
    now."""
    lanes = [Lane(0, 100, forecast_eps=800), Lane(1, 100, forecast_eps=800)]
    assert sorted(placed(decide(lanes, fleet(1000, 1000), [[5, 9], [5, 9]])).values()) == [0, 1]
    calm = [replace(x, forecast_eps=None) for x in lanes]
    assert placed(decide(calm, fleet(1000, 1000), [[5, 9], [5, 9]])) == {0: 0, 1: 0}


# ---- who waits when not all fit ----


def test_lanes_that_matter_less_are_taken_off_a_full_fleet_and_equals_are_not() -> None:
    lanes = [Lane(0, 900, owner=0, priority=1), Lane(1, 900, owner=0)]
    p = twice(lanes, fleet(1100), [[5], [5]])
    assert (p.parked, p.moves) == ((1,), ())
    assert twice([replace(x, priority=0) for x in lanes], fleet(1100), [[5], [5]]).parked == ()
    assert (
        decide(lanes, fleet(1100), [[5], [5]]).parked == ()
    )  # not before it has been so for two windows
    assert twice(lanes, fleet(2200), [[5], [5]]).parked == ()


# ---- residency ----


def test_lane_that_a_rule_forbids_where_it_is_leaves_at_once() -> None:
    rule = AllowedNodes("stays north", (False, True))
    p = decide([Lane(0, 100, owner=0)], fleet(2000, 2000), [[5, 80]], rules=[rule], rule=0)
    assert [(m.to, m.reason) for m in p.moves] == [(1, RESIDENCY)]
    assert RESIDENCY in MUST


def test_lane_waits_when_no_node_may_have_it() -> None:
    rules = [AllowedNodes("nowhere", (False, False))]
    p = decide([Lane(0, 100)], fleet(2000, 2000), [[5, 80]], rules=rules, rule=0)
    assert (p.waiting, p.assignments) == ((0,), ())
    p = decide(
        [Lane(0, 100, owner=0)], fleet(2000, 2000), [[5, 80]], rules=rules, rule=0, eager=True
    )
    assert (p.parked, p.stuck, p.moves) == ((0,), (), ())


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.integers(0, 2)), st.floats(1, 900)),
        min_size=1,
        max_size=8,
    ),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_no_lane_is_ever_sent_where_a_rule_is_against_it(
    lanes: list[tuple[int | None, float]], allowed: tuple[bool, bool, bool]
) -> None:
    rows = [Lane(i, rate, owner=owner) for i, (owner, rate) in enumerate(lanes)]
    rtt = [[5.0 + (3 * i + n) % 7 for n in range(3)] for i in range(len(rows))]
    p = decide(
        rows, fleet(2000, 1000, 500), rtt, rules=[AllowedNodes("r", allowed)], rule=0, eager=True
    )
    assert all(allowed[a.to] for a in p.assignments)
    assert all(allowed[m.to] for m in p.moves)


# ---- how many moves may be in flight, and how long a lane rests ----


@pytest.fixture
def watch() -> PlacingInputs:
    places = LanePlaces((0.0,), (0.0,), (10.0,))
    fleet = Fleet(inventory(2), leader_epoch=1)
    return PlacingInputs(fleet, places, PlacingSettings(CALM, RTT), MeasuredPaths(fleet))


def test_trouble_halves_what_may_be_in_flight_and_each_window_gives_one_back(
    watch: PlacingInputs,
) -> None:
    seen = [watch.move_limit("node-0", 0.0)]
    for now in (1.0, 2.0, 3.0, 4.0):
        watch.note_failed_handover("node-0", now)
        seen.append(watch.move_limit("node-0", now))
    assert seen == [5, 2, 1, 1, 1]
    assert [watch.move_limit("node-0", 4.0 + CALM.window_s * n) for n in range(6)] == [
        1,
        2,
        3,
        4,
        5,
        5,
    ]
    assert watch.move_limit("node-1", 4.0) == 5


def test_lane_that_goes_back_and_forth_rests_twice_as_long_each_time(watch: PlacingInputs) -> None:
    p, now, rests = WorkerKind.NODE.partition(0), 0.0, []
    for i in range(8):
        here, there = ("node-0", "node-1") if i % 2 else ("node-1", "node-0")
        watch.note_assignment(p, here, there, now)
        rests.append(watch.cooldown[p] - now)
        now = watch.cooldown[p]
    assert rests == [30, 60, 120, 240, 480, 480, 480, 480]


def test_lane_that_goes_on_and_on_rests_as_any(watch: PlacingInputs) -> None:
    p = WorkerKind.NODE.partition(0)
    for i in range(4):
        watch.note_assignment(p, f"node-{i}", f"node-{i + 1}", 100.0 * i)
        assert watch.cooldown[p] == 100.0 * i + CALM.cooldown_s


def test_lane_that_was_an_orphan_meanwhile_still_goes_back(watch: PlacingInputs) -> None:
    p = WorkerKind.NODE.partition(0)
    for now, here, there, rests_s in (
        (0.0, "node-0", "node-1", 30),
        (100.0, "", "node-1", 30),
        (200.0, "node-1", "node-0", 60),
    ):
        watch.note_assignment(p, here, there, now)
        assert watch.cooldown[p] == now + rests_s


def test_node_that_may_have_no_more_in_flight_gets_none() -> None:
    lanes = [Lane(i, 10, owner=0) for i in range(10)] + [Lane(99, 3000, owner=2)]
    nodes = [
        Node("n0", 4000, empty="draining"),
        Node("n1", 4000, slots=1),
        Node("n2", 4000, takes=False),
    ]
    assert len(decide(lanes, nodes, [[5, 5, 5]] * 11).moves) == 1


def test_oscillating_load_moves_a_lane_less_and_less_often(watch: PlacingInputs) -> None:
    """The near node is crowded out every other minute; the times between moves grow instead of
    following it."""
    p, now, owner, moved_at = WorkerKind.NODE.partition(0), 0.0, 0, []
    memory = Memory()
    for second in range(0, 2400, 2):
        now = float(second)
        better = (second // 60) % 2
        lanes = [Lane(0, 100, owner=owner, cooldown_until_s=watch.cooldown.get(p, 0.0))]
        plan = decide(
            lanes,
            fleet(2000, 2000),
            [[5 if better == 0 else 40, 40 if better == 0 else 5]],
            now_s=now,
            memory=memory,
        )
        memory = plan.memory
        for m in plan.moves:
            watch.note_assignment(p, f"node-{m.frm}", f"node-{m.to}", now)
            owner = m.to
            moved_at.append(now)
    gaps = np.diff(moved_at)
    assert len(moved_at) < 12  # of 40 turns
    assert (gaps[-2:] >= 240).all()
