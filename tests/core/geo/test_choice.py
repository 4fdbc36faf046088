"""Which lanes are asked about: those that matter most, within what one question carries."""

from __future__ import annotations

from agents.core.geo.choice import LaneStake, choose_lanes, is_due
from agents.core.geo.figures import Figure, Figures
from agents.core.model.geo import Source

PERIOD_S = 60.0


def figures(**told: tuple[float | None, float, float]) -> Figures[int, float]:
    """By lane: its index, when it was asked for, and how long it holds."""
    out: Figures[int, float] = Figures(100)
    for name, (index, asked_s, valid_s) in told.items():
        out.put(
            int(name.removeprefix("lane")),
            Figure(index, "" if index else "no route", Source("x", valid_s=valid_s), asked_s),
        )
    return out


def choose(
    stakes: list[LaneStake], told: Figures[int, float], now: float = 1000.0, most: int = 10
) -> list[int]:
    due = [x for x in stakes if is_due(told.get(x.lane, now), now, PERIOD_S, hot=x.hot)]
    return choose_lanes(due, told, now, PERIOD_S, most)


def test_the_dearest_come_first_and_no_more_than_fit() -> None:
    stakes = [LaneStake(n, float(n)) for n in range(20)]
    assert choose(stakes, figures()) == [19, 18, 17, 16, 15, 14, 13, 12, 11, 10]


def test_hotspots_come_before_all_others() -> None:
    stakes = [LaneStake(0, 1e6), LaneStake(1, 1.0, hot=True), LaneStake(2, 5.0)]
    assert choose(stakes, figures(), most=2) == [1, 0]


def test_an_old_figure_counts_more_than_a_newer_one() -> None:
    told = figures(lane0=(1.2, 960.0, 60.0), lane1=(1.2, 800.0, 250.0))
    assert choose([LaneStake(0, 3.0), LaneStake(1, 1.0)], told) == [1, 0]


def test_a_figure_that_still_holds_is_not_asked_for() -> None:
    told = figures(lane0=(1.2, 1000.0, 300.0), lane1=(1.2, 790.0, 300.0))
    assert choose([LaneStake(0, 9.0), LaneStake(1, 1.0)], told) == [1]


def test_a_hot_lane_is_asked_about_in_every_period() -> None:
    told = figures(lane0=(1.2, 900.0, 3000.0), lane1=(1.2, 900.0, 3000.0))
    assert choose([LaneStake(0, 9.0, hot=True), LaneStake(1, 9.0)], told) == [0]
    told = figures(lane0=(1.2, 990.0, 3000.0))
    assert choose([LaneStake(0, 9.0, hot=True)], told) == []


def test_a_lane_without_a_route_is_left_alone_until_that_answer_expires() -> None:
    told = figures(lane0=(None, 700.0, 600.0), lane1=(None, 300.0, 600.0))
    assert choose([LaneStake(0, 9.0, hot=True), LaneStake(1, 1.0)], told) == [1]


def test_lanes_that_cost_nothing_take_turns() -> None:
    told = figures(lane0=(1.0, 950.0, 60.0), lane1=(1.0, 940.0, 61.0))
    assert choose([LaneStake(0, 0.0), LaneStake(1, 0.0), LaneStake(2, 0.0)], told) == [2, 1, 0]


def test_of_more_lanes_than_can_be_asked_about_always_the_same_have_a_figure() -> None:
    """The heaviest, without a gap; those that are nearly as heavy do not take their place."""
    lanes, told = [LaneStake(n, 100.0 - n / 10) for n in range(200)], Figures[int, float](1000)
    known: list[set[int]] = []
    for minute in range(60):
        now = minute * PERIOD_S
        for lane in choose(lanes, told, now):
            told.put(lane, Figure(1.4, "", Source("x", valid_s=300.0), now))
        known.append({lane for lane, _, _ in told.known(now + PERIOD_S - 1)})
    settled = known[20:]
    assert set.intersection(*settled) == set.union(*settled)
    assert len(settled[0]) >= 25
    assert settled[0] == set(range(len(settled[0])))


def test_a_lane_that_becomes_much_heavier_is_asked_about_at_once() -> None:
    lanes, told = [LaneStake(n, 100.0) for n in range(60)], Figures[int, float](1000)
    for minute in range(20):
        for lane in choose(lanes, told, minute * PERIOD_S):
            told.put(lane, Figure(1.4, "", Source("x", valid_s=300.0), minute * PERIOD_S))
    lanes[59] = LaneStake(59, 1000.0)
    assert choose(lanes, told, 20 * PERIOD_S)[0] == 59
