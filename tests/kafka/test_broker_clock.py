"""What is known of the brokers' clock from the times at which batches were appended."""

from __future__ import annotations

import random

import pytest

from agents.kafka.broker_clock import BrokerClock

HOUR_MS = 3_600_000.0


class Clocks:
    """Our own clock, and a broker's that is ahead of it by so many ms."""

    def __init__(self, ahead_ms: float) -> None:
        self.own_ms = 1_800_000_000_000.0
        self.ahead_ms = ahead_ms
        self.clock = BrokerClock(lambda: self.own_ms)

    def send_batch(self, there_ms: float, back_ms: float) -> None:
        sent_ms = self.own_ms
        appended_ms = int(sent_ms + there_ms + self.ahead_ms)
        self.own_ms += there_ms + back_ms
        self.clock.note_append(sent_ms, appended_ms, self.own_ms)

    @property
    def error_ms(self) -> float:
        return self.clock.now_ms() - (self.own_ms + self.ahead_ms)


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS, 700.0, -3.0])
def test_a_clock_that_is_off_is_known_within_a_round_trip(ahead_ms: float) -> None:
    clocks, dice = Clocks(ahead_ms), random.Random(3)
    for _ in range(20):
        clocks.send_batch(dice.uniform(0.5, 300), dice.uniform(0.5, 300))
        assert abs(clocks.error_ms) <= 301
    clocks.send_batch(0.5, 0.5)
    assert abs(clocks.error_ms) <= 2
    clocks.send_batch(300, 300)
    assert abs(clocks.error_ms) <= 2, "a slow answer makes it no worse"


def test_clocks_that_agree_are_left_alone() -> None:
    clocks, dice = Clocks(0.0), random.Random(4)
    for _ in range(100):
        clocks.send_batch(dice.uniform(0.0, 5), dice.uniform(0.0, 5))
    assert clocks.clock.ahead_ms == 0.0


def test_a_clock_that_is_set_is_followed() -> None:
    clocks = Clocks(0.0)
    clocks.send_batch(1, 1)
    clocks.own_ms -= HOUR_MS
    clocks.ahead_ms += HOUR_MS
    clocks.send_batch(1, 1)
    assert abs(clocks.error_ms) <= 2


def test_a_topic_with_other_times_says_nothing() -> None:
    clock = BrokerClock(lambda: 5000.0)
    clock.note_append(1000.0, -1, 5000.0)
    assert clock.ahead_ms == 0.0
