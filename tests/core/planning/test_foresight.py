"""The forecast is held to what comes, beside the last value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents.core.planning.forecast import Forecast, Foresight


def lived(days: int, horizon_s: float = 10.0) -> Foresight:
    """A lane whose rate goes up and down once in 100 s, looked at every second."""
    f = Foresight(Forecast(1, day_s=100.0, buckets=50), horizon_s)
    for s in range(days * 100):
        f.observe_rates(float(s), np.array([100.0 + 80.0 * math.sin(2 * math.pi * s / 100)]))
    return f


def test_error_is_measured_beside_the_last_value() -> None:
    found = lived(8).error_shares()
    assert found is not None
    off, last = found
    assert off < 0.6 * last
    assert last == pytest.approx(0.32, abs=0.05)  # 80 * 2 sin(18 deg) * 2/pi of 100


def test_nothing_is_said_before_a_forecast_came_due() -> None:
    f = Foresight(Forecast(1, day_s=100.0, buckets=50), 10.0)
    f.observe_rates(0.0, np.array([5.0]))
    assert f.error_shares() is None
    f.observe_rates(5.0, np.array([5.0]))
    assert f.error_shares() is None


def test_a_clock_that_steps_back_or_leaps_compares_nothing() -> None:
    f = lived(1)
    before = f.error_shares()
    f.observe_rates(5.0, np.array([1e6]))
    f.observe_rates(1e7, np.array([1e6]))
    assert f.error_shares() == before


def test_unknown_rates_count_for_nothing() -> None:
    f = Foresight(Forecast(2, day_s=100.0, buckets=50), 1.0)
    for s in range(20):
        f.observe_rates(float(s), np.array([10.0, np.nan]))
    found = f.error_shares()
    assert found is not None
    assert found[1] == 0.0
