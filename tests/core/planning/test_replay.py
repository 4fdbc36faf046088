"""The model behind `replan --with`: lanes are where its own plans put them, all else is as
recorded."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from agents.core.model.plan import Lane, Memory, Moment, Node, NodePlace, PlanningFrame
from agents.core.planning.replay import WARM_S, DecisionReplay, ReplayTotals
from agents.settings.calm import Calm
from kernels.tables import Weights, no_rtt_table
from tests.core.planning.support import NUMPY, day, world

FRAME = PlanningFrame(
    (0.0, 0.0, 40.0),
    (0.0, 1.0, 40.0),
    (-1,) * 3,
    (NodePlace("a", 0.0, 0.0), NodePlace("b", 40.0, 40.0)),
    (),
    no_rtt_table(1.0, 0.01),
    Calm(),
    Weights(),
)
BOTH = (Node("a", 1000.0), Node("b", 1000.0))


def follower(frame: PlanningFrame = FRAME) -> DecisionReplay:
    return DecisionReplay(frame, NUMPY, 5)


def lanes(*owners: int | None) -> tuple[Lane, ...]:
    return tuple(Lane(i, 10.0, owner=o) for i, o in enumerate(owners))


def owners(moment: Moment) -> list[int | None]:
    return [lane.owner for lane in moment.lanes]


def test_first_moment_is_the_record_with_moves_under_way_done() -> None:
    first = Moment(
        0.0,
        (Lane(0, 10.0, owner=0, target=1, moving=True), Lane(1, 10.0, owner=0), Lane(2, 9.0)),
        BOTH,
    )
    seen, plan = follower().replay_moment(first)
    assert owners(seen) == [1, 0, None]
    assert not any(lane.moving or lane.target is not None for lane in seen.lanes)
    assert [a.lane for a in plan.assignments] == [2]


def test_what_is_planned_is_so_at_the_next_moment_whatever_the_record_says() -> None:
    one = follower()
    _, plan = one.replay_moment(Moment(0.0, lanes(0, 0, None), BOTH))
    assert [(a.lane, a.to) for a in plan.assignments] == [(2, 1)]
    seen, _ = one.replay_moment(Moment(1.0, lanes(1, None, 0), BOTH))
    assert owners(seen) == [0, 0, 1]


def test_lanes_of_a_node_that_is_gone_are_nobodys_and_placed_again() -> None:
    one = follower()
    one.replay_moment(Moment(0.0, lanes(0, 0, 1), BOTH))
    away = (replace(BOTH[0], takes=False), BOTH[1])
    seen, _ = one.replay_moment(
        Moment(1.0, lanes(0, 0, 1), away)
    )  # the record still has lanes there: it is full, or silent
    assert owners(seen) == [0, 0, 1]
    seen, plan = one.replay_moment(Moment(2.0, lanes(None, 1, 1), away))
    assert owners(seen) == [None, None, 1]
    assert {(a.lane, a.to) for a in plan.assignments} == {(0, 1), (1, 1)}


def test_memory_is_the_models_own() -> None:
    one = follower()
    _, plan = one.replay_moment(Moment(0.0, lanes(0, 0, 1), BOTH, Memory(-1.0, {"a": -1.0})))
    seen, _ = one.replay_moment(Moment(1.0, lanes(0, 0, 1), BOTH, Memory(0.5, {"b": 0.5})))
    assert seen.memory == plan.memory


def test_slots_are_those_of_the_settings_unless_trouble_had_halved_them() -> None:
    nodes = (replace(BOTH[0], slots=5, in_flight=3), replace(BOTH[1], slots=2))
    seen, _ = follower().replay_moment(Moment(0.0, lanes(0, 0, 1), nodes))
    assert [(n.slots, n.in_flight) for n in seen.nodes] == [(None, 0), (2, 0)]


def test_lane_that_moved_rests_twice_as_long_each_time_it_comes_back() -> None:
    one = follower(replace(FRAME, calm=Calm(windows=1)))
    rests = []
    now_s = 0.0
    for way in range(6):
        here, there = way % 2, 1 - way % 2
        nodes = tuple(
            replace(n, empty="draining" if i == here else "", takes=i == there)
            for i, n in enumerate(BOTH)
        )
        one.replay_moment(Moment(now_s, (Lane(0, 10.0, owner=0),), nodes))
        seen, _ = one.replay_moment(Moment(now_s + 1, (Lane(0, 10.0, owner=0),), nodes))
        assert owners(seen) == [there]
        assert seen.lanes[0].warm == here
        rests.append(seen.lanes[0].cooldown_until_s - now_s)
        now_s += 500.0
    assert rests == [30.0, 60.0, 120.0, 240.0, 480.0, 480.0]
    seen, _ = one.replay_moment(Moment(now_s + WARM_S, (Lane(0, 10.0, owner=0),), BOTH))
    assert seen.lanes[0].warm is None


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_following_what_the_model_made_gives_the_same_plans(windows: int) -> None:
    frame = replace(world(12, 3), calm=Calm(windows=windows))
    made = list(day(frame, 80))
    assert any(d.plan.moves for d in made)
    one = DecisionReplay(frame, NUMPY, frame.calm.in_flight)
    assert [one.replay_moment(d.moment) for d in made] == [(d.moment, d.plan) for d in made]


def test_totals_are_means_over_all_plans() -> None:
    frame = world(12, 3)
    plans = [d.plan for d in day(frame, 20)]
    totals = ReplayTotals()
    for plan in plans:
        totals.add_plan(plan)
    assert totals.mean_rtt_ms == pytest.approx(fmean(p.after.mean_rtt_ms for p in plans))
    assert totals.mean_busiest == pytest.approx(fmean(p.after.utilisation for p in plans))
    assert totals.mean_rtt_ms > 0
    assert (totals.ticks, totals.moves) == (20, sum(len(p.moves) for p in plans))
