"""What is foreseen of arrival rates: days that repeat, waves that move with the sun, first days,
and input nobody likes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.planning.forecast import Forecast
from kernels.tables import Floats

DAY_S = 86400.0
STEP_S = 900.0


def day_curve(at_s: float, lon: Floats) -> Floats:
    """Events/s that follow the sun: 10 at night, 110 at noon."""
    sun = (at_s / DAY_S + lon / 360.0) % 1.0
    out: Floats = 60.0 - 50.0 * np.cos(2 * np.pi * sun)
    return out


def after(forecast: Forecast, days: float, lon: Floats, start_s: float = 0.0) -> float:
    """Lets it watch `day_curve` for so many days; answers when that ended."""
    at_s = start_s
    for i in range(round(days * DAY_S / STEP_S)):
        at_s = start_s + (i + 1) * STEP_S
        forecast.observe_rates(at_s, day_curve(at_s - STEP_S / 2, lon))
    return at_s


def steady(rates: Floats, steps: int = 40, *, step_s: float = STEP_S) -> tuple[Forecast, float]:
    forecast = Forecast(len(rates), buckets=96)
    for i in range(steps):
        forecast.observe_rates(1e6 + i * step_s, rates)
    return forecast, 1e6 + (steps - 1) * step_s


# ---- what it is for ----


def test_a_steady_rate_stays() -> None:
    forecast, at_s = steady(np.array([0.0, 1.0, 1e6]))
    assert forecast.predict_rates(at_s, 3600.0) == pytest.approx([0.0, 1.0, 1e6], rel=1e-6)


def test_the_morning_is_foreseen_once_days_were_seen() -> None:
    lon = np.zeros(1)
    forecast = Forecast(1, buckets=96)
    night_s = after(forecast, 5.25, lon)  # six in the morning of the sixth day
    now, hence = day_curve(night_s, lon), day_curve(night_s + 10800.0, lon)
    assert forecast.predict_rates(night_s, 10800.0) == pytest.approx(hence, rel=0.15)
    assert abs(now - hence) / hence > 0.3  # what last value would have said


def test_a_wave_reaches_the_west_as_it_reached_the_east() -> None:
    """On the first day: the east has seen the morning, the west is still in its night."""
    lon = np.concatenate([np.linspace(-75.0, -70.0, 8), np.linspace(-122.0, -117.0, 8)])
    with_sun, without = Forecast(16, buckets=96, lon=lon), Forecast(16, buckets=96)
    for forecast in (with_sun, without):
        at_s = after(forecast, 12.5 / 24, lon)
    west = slice(8, 16)
    hence = day_curve(at_s + 7200.0, lon)[west]
    with_miss = np.abs(with_sun.predict_rates(at_s, 7200.0)[west] - hence).mean()
    without_miss = np.abs(without.predict_rates(at_s, 7200.0)[west] - hence).mean()
    assert with_miss < 0.5 * without_miss


def test_a_lane_that_is_new_follows_the_fleets_day_without_steps() -> None:
    forecast = Forecast(9, buckets=96, lon=np.zeros(9))
    for i in range(2 * 96 + 1):
        rates = day_curve(i * STEP_S, np.zeros(9))
        if i < 2 * 96:
            rates[8] = np.nan
        forecast.observe_rates(i * STEP_S, rates)
    ahead = [forecast.predict_rates(2 * DAY_S, hence_s)[8] for hence_s in range(3600, 40_000, 60)]
    assert max(ahead) > 5 * ahead[0], "noon, from the night"
    assert np.abs(np.diff(ahead)).max() < 0.3


def test_a_louder_day_is_expected_to_stay_louder() -> None:
    lon = np.zeros(1)
    forecast = Forecast(1, buckets=96)
    at_s = after(forecast, 4.25, lon)
    for _ in range(24):
        at_s += STEP_S
        forecast.observe_rates(at_s, 2 * day_curve(at_s - STEP_S / 2, lon))
    usual = day_curve(at_s + 1800.0, lon)
    assert 1.5 * usual < forecast.predict_rates(at_s, 1800.0) < 2.2 * usual


def test_a_rise_on_the_first_day_is_followed_and_does_not_run_away() -> None:
    forecast = Forecast(1, buckets=96)
    for i in range(24):
        forecast.observe_rates(i * STEP_S, np.array([100.0 + 10.0 * i]))
    at_s, now = 23 * STEP_S, 330.0
    assert (
        forecast.predict_rates(at_s, 1800.0)[0] > forecast.predict_rates(at_s, 0.0)[0] > 0.8 * now
    )
    assert forecast.predict_rates(at_s, DAY_S / 2)[0] < 2 * now


def test_noise_is_no_trend() -> None:
    rng = np.random.default_rng(1)
    forecast = Forecast(200, buckets=96)
    for i in range(30):
        forecast.observe_rates(i * STEP_S, rng.poisson(20.0, 200).astype(float))
    assert (
        np.abs(forecast.predict_rates(29 * STEP_S, 3600.0) - 20.0).mean() < 2.0
    )  # last value: 3.6


def test_a_single_spike_moves_little_and_a_lasting_rise_is_believed() -> None:
    forecast, at_s = steady(np.array([100.0, 100.0]))
    forecast.observe_rates(at_s + STEP_S, np.array([10_000.0, 10_000.0]))
    assert (forecast.predict_rates(at_s + STEP_S, STEP_S) < 150.0).all()
    for i in range(2, 14):
        forecast.observe_rates(at_s + i * STEP_S, np.array([10_000.0, 100.0]))
    high, low = forecast.predict_rates(at_s + 13 * STEP_S, STEP_S)
    assert high > 5_000.0
    assert low < 150.0


def test_a_lane_that_was_silent_for_days_is_followed_when_it_wakes() -> None:
    forecast = Forecast(1, buckets=96)
    for i in range(400):
        forecast.observe_rates(i * STEP_S, np.zeros(1))
    for i in range(400, 424):
        forecast.observe_rates(i * STEP_S, np.array([50.0]))
    assert 25.0 < forecast.predict_rates(423 * STEP_S, STEP_S)[0] < 60.0


# ---- input nobody likes ----


def test_nothing_is_said_of_a_lane_that_nobody_counted() -> None:
    forecast = Forecast(3)
    assert np.isnan(forecast.predict_rates(0.0, 60.0)).all()
    forecast.observe_rates(0.0, np.array([5.0, np.nan, -1.0]))
    assert np.isnan(forecast.predict_rates(0.0, 60.0)).tolist() == [False, True, True]


def test_a_lane_not_counted_for_a_while_is_still_foreseen() -> None:
    lon = np.zeros(1)
    forecast = Forecast(1, buckets=96)
    at_s = after(forecast, 4.0, lon)
    for _ in range(20):
        at_s += STEP_S
        forecast.observe_rates(at_s, np.array([np.nan]))
    assert forecast.predict_rates(at_s, 3600.0) == pytest.approx(
        day_curve(at_s + 3600.0, lon), rel=0.25
    )


def test_a_gap_counts_for_no_more_than_one_observation() -> None:
    forecast, at_s = steady(np.array([100.0]), 4 * 96)
    forecast.observe_rates(at_s + DAY_S / 4, np.array([300.0]))
    assert (
        forecast.predict_rates(at_s + DAY_S / 4, DAY_S)[0] < 160.0
    )  # the same time tomorrow; a quarter of a day would give 270


def test_what_was_long_ago_counts_no_more() -> None:
    lon = np.array([-100.0, 20.0])
    old, new = Forecast(2, buckets=96, lon=lon), Forecast(2, buckets=96, lon=lon)
    old.observe_rates(0.0, np.array([500.0, 5.0]))
    for forecast in (old, new):
        at_s = after(forecast, 0.5, lon, start_s=300 * DAY_S)
    for horizon_s in (900.0, 7200.0, 43_200.0):
        assert old.predict_rates(at_s, horizon_s) == pytest.approx(
            new.predict_rates(at_s, horizon_s), rel=0.05
        )


def test_a_clock_that_steps_back_is_believed() -> None:
    lon = np.zeros(1)
    forecast = Forecast(1, buckets=96)
    at_s = after(forecast, 5.0, lon) - 3 * DAY_S  # three days back, the same hour
    forecast.observe_rates(at_s, day_curve(at_s, lon))
    forecast.observe_rates(at_s + STEP_S, day_curve(at_s + STEP_S, lon))
    assert forecast.predict_rates(at_s + STEP_S, 3600.0) == pytest.approx(
        day_curve(at_s + STEP_S + 3600.0, lon), rel=0.2
    )


def test_the_same_time_twice_counts_once() -> None:
    once, _ = steady(np.array([7.0]))
    twice, at_s = steady(np.array([7.0]))
    twice.observe_rates(at_s, np.array([700.0]))
    assert twice.export_state() == once.export_state()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Forecast(1, day_s=0.0), "a day of 0"),
        (lambda: Forecast(1, day_s=float("nan")), "a day of nan"),
        (lambda: Forecast(1, buckets=0), "0 buckets"),
        (lambda: Forecast(2, lon=np.array([0.0, np.nan])), "lon"),
        (lambda: Forecast(2).observe_rates(0.0, np.zeros(3)), "rates"),
        (lambda: Forecast(1).observe_rates(float("inf"), np.zeros(1)), "at inf"),
        (lambda: Forecast(1).predict_rates(0.0, -1.0), "-1.0 s ahead"),
        (lambda: Forecast(1).predict_rates(float("nan"), 1.0), "ahead of nan"),
    ],
)
def test_what_makes_no_sense_is_refused(made: object, said: str) -> None:
    assert callable(made)
    with pytest.raises(ValueError, match=said):
        made()


# ---- across a restart ----


def test_after_a_restart_it_says_the_same() -> None:
    lon = np.linspace(-120.0, -70.0, 5)
    before, restarted = Forecast(5, lon=lon), Forecast(5, lon=lon)
    at_s = after(before, 1.5, lon)
    restarted.restore_state(json.loads(json.dumps(before.export_state(), allow_nan=False)))
    assert restarted.predict_rates(at_s, 1800.0) == pytest.approx(
        before.predict_rates(at_s, 1800.0), rel=1e-5
    )
    assert restarted.export_state() == before.export_state()
    assert len(json.dumps(before.export_state())) < 4000 * 5 + 2000


def test_a_state_of_another_forecast_is_refused_by_name_and_changes_nothing() -> None:
    forecast, at_s = steady(np.array([1.0, 2.0]))
    said, state = forecast.predict_rates(at_s, 60.0), forecast.export_state()
    for wrong, name in (
        ({**state, "lanes": 3}, "lanes"),
        ({**state, "version": 0}, "version"),
        ({k: v for k, v in state.items() if k != "came"}, "came"),
        ({**state, "came": "?"}, "state"),
        ({**state, "came": state["before"]}, "state"),
        ({**state, "weight": 0.0}, "finite"),
        ({**state, "level_num": state["level_num"][:-4] + "fw=="}, "state"),
    ):
        with pytest.raises(ValueError, match=name):
            forecast.restore_state(wrong)
    assert forecast.predict_rates(at_s, 60.0).tolist() == said.tolist()


# ---- invariants ----

rates = st.one_of(st.floats(), st.floats(0.0, 1e4), st.just(0.0))
steps = st.one_of(st.floats(0.1, 2000.0), st.floats(-1e6, 1e6), st.floats(-1e300, 1e300))


@settings(max_examples=80, deadline=None)
@given(
    story=st.lists(
        st.tuples(steps, st.lists(rates, min_size=3, max_size=3)), min_size=1, max_size=40
    ),
    horizon_s=st.floats(0.0, 1e9),
    day_s=st.sampled_from([0.5, 17.0, DAY_S]),
    with_sun=st.booleans(),
)
def test_whatever_it_is_told_it_says_finite_rates_from_0(
    story: list[tuple[float, list[float]]], horizon_s: float, day_s: float, with_sun: bool
) -> None:
    forecast = Forecast(
        3, day_s=day_s, buckets=7, lon=np.array([-180.0, 0.0, 180.0]) if with_sun else None
    )
    told = np.zeros(3, dtype=bool)
    at_s, last_s = 0.0, float("nan")
    for step_s, rate in story:
        at_s = float(np.clip(at_s + step_s, -1e300, 1e300))
        forecast.observe_rates(at_s, np.array(rate))
        if at_s != last_s:  # else passed over
            told |= np.isfinite(rate) & (np.array(rate) >= 0)
        last_s = at_s
        said = forecast.predict_rates(at_s, horizon_s)
        assert np.isfinite(said).tolist() == told.tolist()
        assert np.isnan(said).tolist() == (~told).tolist()
        assert (said[told] >= 0).all()
    copy = Forecast(
        3, day_s=day_s, buckets=7, lon=np.array([-180.0, 0.0, 180.0]) if with_sun else None
    )
    copy.restore_state(json.loads(json.dumps(forecast.export_state(), allow_nan=False)))


stories = st.lists(st.lists(st.floats(0.0, 1e5), min_size=2, max_size=2), min_size=2, max_size=120)


@settings(max_examples=40, deadline=None)
@given(story=stories, faster=st.sampled_from([2.0, 4096.0]))
def test_a_compressed_day_is_foreseen_as_a_long_one(
    story: list[list[float]], faster: float
) -> None:
    lon = np.array([-100.0, 20.0])
    slow, fast = (
        Forecast(2, buckets=24, lon=lon),
        Forecast(2, buckets=24, lon=lon, day_s=DAY_S / faster),
    )
    for i, rate in enumerate(story):
        slow.observe_rates(i * 1800.0, np.array(rate))
        fast.observe_rates(i * 1800.0 / faster, np.array(rate))
    at_s = (len(story) - 1) * 1800.0
    assert fast.predict_rates(at_s / faster, 3600.0 / faster) == pytest.approx(
        slow.predict_rates(at_s, 3600.0), rel=1e-6, abs=1e-5
    )


@settings(max_examples=40, deadline=None)
@given(story=stories)
def test_lanes_do_not_depend_on_their_order(story: list[list[float]]) -> None:
    lon = np.array([-100.0, 20.0])
    one, other = Forecast(2, buckets=24, lon=lon), Forecast(2, buckets=24, lon=lon[::-1].copy())
    for i, rate in enumerate(story):
        one.observe_rates(i * 1800.0, np.array(rate))
        other.observe_rates(i * 1800.0, np.array(rate[::-1]))
    at_s = (len(story) - 1) * 1800.0
    assert other.predict_rates(at_s, 900.0)[::-1] == pytest.approx(
        one.predict_rates(at_s, 900.0), rel=1e-9, abs=1e-9
    )


def test_without_the_sun_lanes_know_nothing_of_each_other() -> None:
    alone, together = Forecast(1, buckets=24), Forecast(2, buckets=24)
    rng = np.random.default_rng(2)
    for i in range(100):
        rate = rng.uniform(0.0, 100.0, 2)
        alone.observe_rates(i * 3600.0, rate[:1])
        together.observe_rates(i * 3600.0, rate)
    assert (
        alone.predict_rates(99 * 3600.0, 3600.0)[0]
        == together.predict_rates(99 * 3600.0, 3600.0)[0]
    )
