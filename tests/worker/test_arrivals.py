"""Rates of arrival are by append time, so that catching up is no flood."""

from __future__ import annotations

import pytest

from agents.core.model.messages import Arrival
from agents.worker.arrivals import Arrivals


def test_in_step_with_the_stream_it_is_what_was_counted() -> None:
    a = Arrivals()
    a.count_batch(0, {3: 100, 4: 50}, [1000.0, 1950.0])
    a.count_batch(1, {3: 100}, [1010.0, 1990.0])
    assert a.take_rates(1.0) == (Arrival(3, 200.0), Arrival(4, 50.0))
    assert a.take_rates(1.0) == (Arrival(3, 0.0), Arrival(4, 0.0)), (
        "a lane that was seen is told to be silent"
    )


def test_ten_seconds_caught_up_in_one_are_ten_seconds() -> None:
    a = Arrivals()
    for n in range(4):
        a.count_batch(n, {7: 2500}, [0.0, 10_000.0])
    (arrival,) = a.take_rates(1.0)
    assert arrival.rate_eps == pytest.approx(1000.0)


def test_a_burst_after_silence_is_a_burst() -> None:
    a = Arrivals()
    a.count_batch(0, {7: 10}, [0.0])
    a.take_rates(1.0)
    a.count_batch(0, {7: 5000}, [60_000.0, 60_500.0])
    assert a.take_rates(1.0) == (Arrival(7, 5000.0),)


def test_nothing_is_said_of_nothing() -> None:
    a = Arrivals()
    a.count_batch(0, {}, [])
    assert a.take_rates(1.0) == ()
