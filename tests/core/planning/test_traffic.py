"""What traffic alone does to a plan: inputs that are equal but for it, and plans that are not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.model.plan import Lane, Moment, Node, NodePlace, PlanningFrame
from agents.core.planning import recording
from agents.core.planning.planner import make_plan
from agents.core.planning.recording import make_plan_json, plan_to_json
from agents.settings.calm import Calm
from kernels import Numerics, Weights, no_rtt_table
from kernels.scoring.choose import choose_numerics
from tests.core.planning.support import NUMPY

NEAR, FAR = 0, 1
LANES = 6
FRAME = PlanningFrame(
    (0.0,) * LANES,
    (0.0,) * LANES,
    (-1,) * LANES,
    (NodePlace("node-near-1", 0.0, 1.0), NodePlace("node-far-1", 0.0, 10.0)),
    (),
    no_rtt_table(1.0, 0.02),
    Calm(),
    Weights(),
)
NODES = (Node("node-near-1", 500.0), Node("node-far-1", 5000.0))
"""The near one has room for two of the lanes."""
ORPHANS = Moment(0.0, tuple(Lane(n, 100.0, 100.0) for n in range(LANES)), NODES)


def with_traffic(moment: Moment, *traffic: float) -> Moment:
    lanes = tuple(replace(x, traffic=t) for x, t in zip(moment.lanes, traffic, strict=True))
    return replace(moment, lanes=lanes)


def near_lanes(moment: Moment, numerics: Numerics = NUMPY) -> set[int]:
    plan = make_plan(FRAME, moment, numerics)
    return {a.lane for a in plan.assignments if a.to == NEAR}


@pytest.mark.parametrize("slow", [{0, 1}, {2, 5}, {3, 4}])
@pytest.mark.parametrize("kernel", ["numpy", "cpu"])
def test_lanes_with_slow_roads_get_the_near_node(slow: set[int], kernel: str) -> None:
    numerics = choose_numerics(kernel)
    traffic = [3.0 if n in slow else 1.0 for n in range(LANES)]
    assert near_lanes(with_traffic(ORPHANS, *traffic), numerics) == slow


def test_traffic_of_1_everywhere_is_a_fleet_without_a_geo_worker() -> None:
    as_ever = make_plan_json(FRAME, ORPHANS, NUMPY)
    assert make_plan_json(FRAME, with_traffic(ORPHANS, *[1.0] * LANES), NUMPY) == as_ever


@given(st.lists(st.sampled_from([0.25, 0.9, 1.0, 1.4, 16.0]), min_size=LANES, max_size=LANES))
def test_the_near_node_has_the_lanes_with_the_slowest_roads(traffic: list[float]) -> None:
    here = near_lanes(with_traffic(ORPHANS, *traffic))
    slowest = sorted(traffic, reverse=True)[: len(here)]
    assert sorted((traffic[n] for n in here), reverse=True) == slowest


def test_a_lane_moves_when_only_its_traffic_changes() -> None:
    """From a node that is far away and costs nothing more, to a near one with a dear way out."""
    places = (replace(FRAME.nodes[NEAR], egress_ms=25.0), FRAME.nodes[FAR])
    frame = replace(FRAME, nodes=places, calm=Calm(windows=1))
    at_rest = Moment(1000.0, (Lane(0, 100.0, 100.0, owner=FAR),), NODES, eager=True)
    assert make_plan(frame, at_rest, NUMPY).moves == ()
    (move,) = make_plan(frame, with_traffic(at_rest, 2.0), NUMPY).moves
    assert (move.frm, move.to) == (FAR, NEAR)
    assert move.delta_ms < 0


@given(st.lists(st.floats(0.25, 16), min_size=LANES, max_size=LANES))
def test_such_plans_are_recorded_and_made_again_byte_for_byte(traffic: list[float]) -> None:
    moment = with_traffic(ORPHANS, *traffic)
    plan = make_plan(FRAME, moment, NUMPY)
    again = recording.moment_from_json(recording.moment_to_json(moment))
    assert [x.traffic for x in again.lanes] == traffic
    assert make_plan_json(FRAME, again, NUMPY) == plan_to_json(plan)
    assert all(math.isfinite(a.rtt_ms) for a in plan.assignments)
