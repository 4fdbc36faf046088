"""The brokers' clock, as their answers to Produce tell it. A worker's own clock may be an hour off;
what it reports about its lanes must not be.

A batch was appended between its request and the answer. So the difference of the two clocks is
known within a round trip, and it is corrected only as far as it is certainly wrong: with clocks
that agree it stays 0."""

from __future__ import annotations

import time
from collections.abc import Callable

from agents.base import log

_log = log.get_logger("kafka.broker_clock")
TOLD_MS = 2000.0  # the doctor warns from here on


def read_own_clock_ms() -> float:
    """This machine's clock, in epoch ms."""
    return time.time() * 1000


def make_steady_clock() -> Callable[[], float]:
    """A clock that begins as this machine's and does not follow when that is set: epoch ms."""
    begun_ms, begun_s = read_own_clock_ms(), time.monotonic()
    return lambda: begun_ms + 1000 * (time.monotonic() - begun_s)


class BrokerClock:
    """`own_ms`: this machine's clock, in epoch ms. `ahead_ms`: how far the brokers' clock is ahead
    of it, as far as is known."""

    def __init__(self, own_ms: Callable[[], float] = read_own_clock_ms) -> None:
        self.own_ms = own_ms
        self.ahead_ms = 0.0

    def now_ms(self) -> float:
        """The brokers' clock now, in epoch ms."""
        return self.own_ms() + self.ahead_ms

    def note_append(self, sent_ms: float, append_ms: int, answered_ms: float) -> None:
        """A batch was appended at `append_ms` by a broker's clock, and was sent and answered at
        these times by our own. `append_ms` is in whole ms, and -1 if the topic keeps other
        times."""
        if append_ms < 0:
            return
        before = self.ahead_ms
        least, most = append_ms - answered_ms, append_ms + 1 - sent_ms
        self.ahead_ms = min(max(before, least), most)
        if abs(self.ahead_ms) > TOLD_MS >= abs(before):
            _log.warning("clock_off", brokers_ahead_s=round(self.ahead_ms / 1000, 1))
