"""What hotspots add to a forecast: the growth that there is, for a while, within bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.model.plan import Lane, Node
from agents.core.planning.hotspot_forecast import (
    AHEAD_S,
    FILL_SHARE,
    GROWTH_S,
    HotLanes,
    HotspotForecast,
    Raised,
)

AHEAD, TARGET = 60.0, 0.85
NODES = (Node("a", 10_000.0), Node("b", 10_000.0))
DALLAS = HotLanes("Dallas, US", (0,), math.inf)


def grow(*rates: list[float], hot: tuple[HotLanes, ...] = (DALLAS,)) -> HotspotForecast:
    """A hotspot, and the rates of the lanes, a second apart, up to second 0."""
    out = HotspotForecast()
    for i, lanes in enumerate(hot):
        out.set(f"h{i}", lanes)
    for i, eps in enumerate(rates):
        out.observe_rates(i + 1.0 - len(rates), np.array(eps))
    return out


def raise_lanes(
    hot: HotspotForecast,
    lanes: tuple[Lane, ...],
    now: float = 0.0,
    nodes: tuple[Node, ...] = NODES,
    ahead_s: float = AHEAD,
) -> tuple[list[float | None], dict[int, Raised]]:
    out, raised = hot.raise_lanes(lanes, nodes, now, ahead_s, TARGET)
    assert [x.id for x in out] == [x.id for x in lanes]
    return [x.forecast_eps for x in out], raised


TWO = (Lane(0, 150.0, forecast_eps=100.0), Lane(1, 150.0, forecast_eps=100.0))
RAMP = [[100.0 + 10.0 * s] * 2 for s in range(6)]
GROWN = 150.0 + 10.0 * AHEAD_S


def test_the_growth_of_its_lanes_goes_on_and_that_of_others_is_not_believed() -> None:
    ahead, raised = raise_lanes(grow(*RAMP), TWO)
    assert ahead == [pytest.approx(GROWN), 100.0]
    assert raised.keys() == {0}
    assert raised[0].times == pytest.approx(GROWN / 100.0)
    assert raised[0].place == "Dallas, US"


def test_without_a_hotspot_or_growth_or_a_known_rate_nothing_is_raised() -> None:
    assert raise_lanes(grow(*RAMP, hot=()), TWO) == ([100.0, 100.0], {})
    assert raise_lanes(grow(*reversed(RAMP)), TWO) == ([100.0, 100.0], {}), "it falls"
    assert raise_lanes(grow(*[[150.0, 150.0]] * 6), TWO) == ([100.0, 100.0], {})
    assert raise_lanes(grow(*[[math.nan] * 2] * 6), TWO) == ([100.0, 100.0], {})
    assert raise_lanes(grow(*RAMP), (Lane(0, None), Lane(1, 5.0))) == ([None, None], {})
    assert raise_lanes(grow(*RAMP), (Lane(7, 5.0),)) == ([None], {}), "a new lane"
    assert raise_lanes(grow(*RAMP), ()) == ([], {})
    assert raise_lanes(grow(*RAMP), TWO, nodes=()) == ([100.0, 100.0], {})


def test_growth_within_chance_is_none() -> None:
    """The smoothed rates of a Poisson stream of 100 events/s: raised in few of 1,000 looks."""
    dice = np.random.default_rng(12)
    hot, eps, times = grow(), 100.0, 0
    for s in range(1000):
        eps += 0.2 * (float(dice.poisson(100.0)) - eps)
        hot.observe_rates(float(s), np.array([eps]))
        times += bool(raise_lanes(hot, (Lane(0, eps, forecast_eps=100.0),), float(s))[1])
    assert times < 20


def test_growth_over_a_gap_or_too_short_a_time_is_not_believed() -> None:
    assert raise_lanes(grow(*RAMP[:3]), TWO)[1] == {}
    gap = grow(*RAMP)
    gap.observe_rates(4 * GROWTH_S, np.array([900.0, 900.0]))
    assert raise_lanes(gap, TWO, 4 * GROWTH_S)[1] == {}


def test_growth_before_the_last_five_seconds_does_not_count() -> None:
    (eps, _), _ = raise_lanes(grow([20.0, 20.0], [60.0, 60.0], *RAMP), TWO)
    assert eps == pytest.approx(GROWN)


def test_it_looks_no_further_ahead_than_the_forecast() -> None:
    """In a compressed replay a day takes 16 s, and the forecast looks 2 s ahead."""
    (eps, _), _ = raise_lanes(grow(*RAMP), TWO, ahead_s=2.0)
    assert eps == pytest.approx(150.0 + (GROWN - 150.0) * 2.0 / AHEAD_S)


def test_a_forecast_that_knows_better_counts() -> None:
    lanes = (Lane(0, 150.0, forecast_eps=5000.0),)
    assert raise_lanes(grow(*RAMP), lanes) == ([5000.0], {})


def test_it_counts_until_its_time_and_the_oldest_gives_the_name() -> None:
    later = HotLanes("Austin, US", (0, 1), math.inf)
    hot = grow(*RAMP, hot=(HotLanes("Dallas, US", (0,), 10.0), later))
    names = {n: r.place for n, r in raise_lanes(hot, TWO)[1].items()}
    assert names == {0: "Dallas, US", 1: "Austin, US"}
    assert {r.place for r in raise_lanes(hot, TWO, 10.0)[1].values()} == {"Austin, US"}
    assert list(hot.open) == ["h1"]


eps = st.floats(0, 1e6)
known = st.none() | eps


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=5),
    st.lists(st.tuples(known, known, eps), min_size=1, max_size=6),
    st.lists(eps, max_size=4),
)
def test_no_forecast_falls_and_no_lane_has_to_wait_for_a_hotspot(
    some: list[list[int]],
    loads: list[tuple[float | None, float | None, float]],
    capacities: list[float],
) -> None:
    lanes = tuple(Lane(n, rate, forecast_eps=ahead) for n, (rate, ahead, _) in enumerate(loads))
    nodes = tuple(Node(f"n{i}", c) for i, c in enumerate(capacities))
    rates = [math.nan if rate is None else rate for rate, _, _ in loads]
    hot = grow(
        [before for _, _, before in loads],
        *[rates] * 4,
        hot=tuple(HotLanes("x", tuple(x), math.inf) for x in some),
    )
    ahead, raised = raise_lanes(hot, lanes, nodes=nodes)
    before = [max(x.rate_eps or 0.0, x.forecast_eps or 0.0) for x in lanes]
    after = [max(x.rate_eps or 0.0, a or 0.0) for x, a in zip(lanes, ahead, strict=True)]
    assert all(b <= a for b, a in zip(before, after, strict=True))
    assert all(math.isfinite(a) for a in after)
    assert raised.keys() <= {n for x in some for n in x}
    if raised:
        assert sum(after) <= FILL_SHARE * TARGET * sum(capacities) * (1 + 1e-9)
        assert max(after[n] for n in raised) <= TARGET * max(capacities) * (1 + 1e-9)
