"""What hotspots add to a forecast: by ratio, bounded, and fading."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from agents.core.model.plan import Lane, Node
from agents.core.planning.hotspot_forecast import (
    FILL_SHARE,
    GROWTH,
    MOST_TIMES,
    HotRates,
    HotspotForecast,
    Raised,
)

FADE_S, TARGET = 60.0, 0.85
NODES = (Node("a", 10_000.0), Node("b", 10_000.0))


def lane(n: int, rate: float | None, ahead: float | None) -> Lane:
    return Lane(n, rate, forecast_eps=ahead)


def raise_lanes(
    hot: HotspotForecast, lanes: tuple[Lane, ...], now: float = 0.0, nodes: tuple[Node, ...] = NODES
) -> tuple[list[float | None], dict[int, Raised]]:
    out, raised = hot.raise_lanes(lanes, nodes, now, FADE_S, TARGET)
    assert [x.id for x in out] == [x.id for x in lanes]
    return [x.forecast_eps for x in out], raised


def hot_with(*some: HotRates) -> HotspotForecast:
    hot = HotspotForecast()
    for i, rates in enumerate(some):
        hot.set(f"h{i}", rates)
    return hot


def test_the_share_of_the_place_is_multiplied() -> None:
    """20 of 100 events/s are usually of the place, and it has three times as many."""
    hot = hot_with(HotRates("Dallas, US", 60.0, 20.0, 1.0, {1: 1.0}))
    ahead, raised = raise_lanes(hot, (lane(0, 90.0, 100.0), lane(1, 90.0, 100.0)))
    assert ahead == [100.0, 100.0 + GROWTH * 20.0 * 2]
    assert raised == {1: Raised(1.8, "Dallas, US")}


def test_a_compressed_replay_counts_by_its_clock() -> None:
    """The stream's day takes a tenth of a day: 2 events/s of event time are 20 that arrive."""
    slow = hot_with(HotRates("x", 60.0, 20.0, 1.0, {0: 1.0}))
    fast = hot_with(HotRates("x", 6.0, 2.0, 10.0, {0: 1.0}))
    lanes = (lane(0, 90.0, 100.0),)
    assert raise_lanes(slow, lanes) == raise_lanes(fast, lanes)


def test_a_million_times_the_usual_rate_is_ten_times() -> None:
    hot = hot_with(HotRates("x", 1e9, 1e-3, 1.0, {0: 1.0}), HotRates("y", 1e9, 0.0, 1e6, {0: 1.0}))
    assert raise_lanes(hot, (lane(0, 5.0, 7.0),))[0] == [7.0 * MOST_TIMES]


def test_it_is_never_below_what_arrives_or_was_expected() -> None:
    hot = hot_with(HotRates("x", 4.0, 2.0, 1.0, {0: 1.0}))
    assert raise_lanes(hot, (lane(0, 90.0, 7.0),)) == ([7.0], {}), "more arrives than it adds"
    cold = hot_with(HotRates("x", 1.0, 2.0, 1.0, {0: 1.0}))
    assert raise_lanes(cold, (lane(0, 5.0, 7.0),)) == ([7.0], {})


def test_the_forecast_learns_of_the_burst_and_is_not_raised_twice() -> None:
    hot = hot_with(HotRates("x", 60.0, 20.0, 1.0, {0: 1.0}))
    first = raise_lanes(hot, (lane(0, 100.0, 100.0),))[0]
    assert raise_lanes(hot, (lane(0, 150.0, 150.0),))[0] == first
    assert raise_lanes(hot, (lane(0, 190.0, 500.0),))[0] == [500.0]


def test_it_fades_when_it_has_ended() -> None:
    hot = hot_with(HotRates("x", 60.0, 20.0, 1.0, {0: 1.0}, fades_s=100.0))
    lanes = (lane(0, 90.0, 100.0),)
    assert [raise_lanes(hot, lanes, now)[0][0] for now in (0.0, 100.0, 130.0, 160.0)] == [
        180.0,
        180.0,
        140.0,
        100.0,
    ]
    assert hot.open == {}


def test_a_lane_without_a_forecast_or_a_hotspot_of_no_lane_changes_nothing() -> None:
    hot = hot_with(HotRates("x", 60.0, 20.0, 1.0, {0: 1.0}), HotRates("y", 60.0, 20.0, 1.0, {}))
    assert raise_lanes(hot, (lane(0, None, None), lane(1, 5.0, 0.0))) == ([None, 0.0], {})
    assert raise_lanes(hot, ()) == ([], {})
    assert raise_lanes(hot, (lane(0, 5.0, 5.0),), nodes=()) == ([5.0], {})


rates = st.builds(
    HotRates,
    st.just("x"),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.floats(1e-3, 1e6),
    st.dictionaries(st.integers(0, 5), st.floats(0, 1), max_size=4),
)
eps = st.none() | st.floats(0, 1e6)


@given(
    st.lists(rates, max_size=5),
    st.lists(st.tuples(eps, eps), min_size=1, max_size=6),
    st.lists(st.floats(0, 1e6), max_size=4),
)
def test_no_forecast_falls_and_no_lane_has_to_wait_for_a_hotspot(
    some: list[HotRates],
    loads: list[tuple[float | None, float | None]],
    capacities: list[float],
) -> None:
    lanes = tuple(lane(n, *x) for n, x in enumerate(loads))
    nodes = tuple(Node(f"n{i}", c) for i, c in enumerate(capacities))
    ahead, raised = raise_lanes(hot_with(*some), lanes, nodes=nodes)
    before = [max(x.rate_eps or 0.0, x.forecast_eps or 0.0) for x in lanes]
    after = [max(x.rate_eps or 0.0, a or 0.0) for x, a in zip(lanes, ahead, strict=True)]
    assert all(b <= a for b, a in zip(before, after, strict=True))
    assert all(math.isfinite(a) for a in after)
    if raised:
        assert sum(after) <= FILL_SHARE * TARGET * sum(capacities) * (1 + 1e-9)
        assert max(after[n] for n in raised) <= TARGET * max(capacities) * (1 + 1e-9)
        assert all(
            after[n] <= max(before[n], MOST_TIMES * (lanes[n].forecast_eps or 0.0)) * (1 + 1e-9)
            for n in raised
        )
