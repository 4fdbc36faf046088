"""What the hotspot benchmark compares: known tests for a rise of a rate, each as a score per second
of one cell. An alarm is a score above a threshold; each test's is calibrated."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from benchmarks.hotspot_map import WARM_S
from kernels.hotspots.rises import FACTORS
from kernels.jit import njit
from kernels.tables import Floats, Ints, Marks

LONG_S = 2_400  # the usual rate of EWMA and STA/LTA, as long as ours
FLOOR = 12.0  # events that it has in addition, as ours
HOUR_S = 3_600
LEAST_TIMES = 1.5  # a weaker rise is none for a window, else a day's slow rise is one
AGAIN_S = 30  # a lasting alarm is repeated this often
WINDOWS_S = np.array([10, 30, 60, 120, 300, 600, 1200])


class Row(NamedTuple):
    """One cell or area during a day. `events` by second, int32[T]. `sums`: events before each
    second, int64[T + 1]. `usual`: its true rate without bursts by minute, events/s,
    float64[T / 60]."""

    events: Ints
    sums: Marks
    usual: Floats


class Alarms(NamedTuple):
    """`at`: seconds since the stream began, int64[A]. `score`: above the threshold, float64[A]."""

    at: Marks
    score: Floats


Run: TypeAlias = Callable[[Row, float, bool], Alarms]
"""The alarms above a threshold. If the last argument is set, those of every higher threshold can be
told from their scores, too (and a sum goes on after an alarm)."""


class Method(NamedTuple):
    """`lowest`: where the search for its threshold begins."""

    name: str
    run: Run
    lowest: float


def row_of(events: Ints, usual: Floats) -> Row:
    sums = np.zeros(len(events) + 1, np.int64)
    np.cumsum(events, out=sums[1:])
    return Row(events, sums, usual)


def _mean_before(sums: Marks, length_s: int, gap_s: int) -> Floats:
    """By minute: the rate of the `length_s` that end `gap_s` before it begins, with one event in
    addition."""
    minute = np.arange((len(sums) - 1) // 60) * 60
    end, start = np.maximum(minute - gap_s, 0), np.maximum(minute - gap_s - length_s, 0)
    mean: Floats = (sums[end] - sums[start] + 1) / np.maximum(end - start, 60)
    return mean


@njit()
def _surprise(n: float, mean: float) -> float:
    """The log-likelihood ratio of n events at the rate that they show, against `mean`."""
    return n * np.log(n / mean) - (n - mean) if n > mean else 0.0


@njit()
def _keep(at: Marks, score: Floats, found: int, t: int, now: float, keeps_all: bool) -> int:
    """Note an alarm unless it repeats the last one; returns how many there are."""
    if found:
        again = t - at[found - 1] >= AGAIN_S
        if not again and not (keeps_all and now > score[found - 1] * 1.02):
            return found
    at[found], score[found] = t, now
    return found + 1


@njit()
def _window(
    sums: Marks,
    by_minute: Floats,
    lengths: Marks,
    above: float,
    keeps_all: bool,
    at: Marks,
    score: Floats,
) -> int:
    found = 0
    for t in range(WARM_S, len(sums) - 1):
        most = 0.0
        for length in lengths:
            n = sums[t + 1] - sums[t + 1 - length]
            mean = by_minute[t // 60] * length
            if n > mean * LEAST_TIMES and n >= 3:
                most = max(most, _surprise(n, mean))
        if most > above:
            found = _keep(at, score, found, t, most, keeps_all)
    return found


@njit()
def _ewma(
    events: Ints, short_s: int, above: float, keeps_all: bool, at: Marks, score: Floats
) -> int:
    found = 0
    fast, slow = 0.0, 0.0
    for t in range(len(events)):
        fast += (events[t] - fast) / short_s
        slow += (events[t] - slow) / min(t + 1, LONG_S)
        if t < WARM_S:
            continue
        z = (fast - slow) / np.sqrt((slow + FLOOR / LONG_S) / (2 * short_s - 1))
        if z > above:
            found = _keep(at, score, found, t, z, keeps_all)
    return found


@njit()
def _sta_lta(
    sums: Marks, short_s: int, above: float, keeps_all: bool, at: Marks, score: Floats
) -> int:
    found = 0
    for t in range(WARM_S, len(sums) - 1):
        short = (sums[t + 1] - sums[t + 1 - short_s]) / short_s
        ratio = short / ((sums[t + 1] - sums[t + 1 - LONG_S] + FLOOR) / LONG_S)
        if ratio > above:
            found = _keep(at, score, found, t, ratio, keeps_all)
    return found


@njit()
def _cusum(
    events: Ints,
    by_minute: Floats,
    factors: Floats,
    above: float,
    keeps_all: bool,
    at: Marks,
    score: Floats,
) -> int:
    found = 0
    gains = np.log(factors)
    sums = np.zeros(len(factors))
    for t in range(WARM_S, len(events)):
        most = 0.0
        for f in range(len(factors)):
            now = sums[f] + events[t] * gains[f] - by_minute[t // 60] * (factors[f] - 1)
            sums[f] = max(0.0, now)
            most = max(most, now)
        if most > above:
            found = _keep(at, score, found, t, most, keeps_all)
            if not keeps_all:
                sums[:] = 0.0
    return found


def _run(kernel: Callable[..., int], length: int, *arguments: object) -> Alarms:
    at, score = np.empty(length, np.int64), np.empty(length)
    found = kernel(*arguments, at, score)
    return Alarms(at[:found].copy(), score[:found].copy())


def _fixed(length_s: int) -> Run:
    lengths = np.array([length_s])

    def run(row: Row, above: float, keeps_all: bool) -> Alarms:
        busiest = np.full(len(row.usual), row.usual.max())
        return _run(_window, len(row.events), row.sums, busiest, lengths, above, keeps_all)

    return run


def _scan(row: Row, above: float, keeps_all: bool) -> Alarms:
    before = _mean_before(row.sums, HOUR_S, 600)
    return _run(_window, len(row.events), row.sums, before, WINDOWS_S, above, keeps_all)


def _of_ewma(short_s: int) -> Run:
    return lambda row, above, keeps_all: _run(
        _ewma, len(row.events), row.events, short_s, above, keeps_all
    )


def _of_sta_lta(short_s: int) -> Run:
    return lambda row, above, keeps_all: _run(
        _sta_lta, len(row.events), row.sums, short_s, above, keeps_all
    )


def _of_cusum(base: Callable[[Row], Floats], factors: tuple[float, ...]) -> Run:
    array = np.array(factors)
    return lambda row, above, keeps_all: _run(
        _cusum, len(row.events), row.events, base(row), array, above, keeps_all
    )


def _last_hour(row: Row) -> Floats:
    return _mean_before(row.sums, HOUR_S, 0)


ORACLE = "Poisson CUSUM, true rate known (an oracle)"
METHODS: tuple[Method, ...] = (
    Method("fixed threshold per cell, 30 s", _fixed(30), 6.0),
    Method("fixed threshold per cell, 120 s", _fixed(120), 6.0),
    Method("EWMA, 30 s", _of_ewma(30), 6.0),
    Method("EWMA, 120 s", _of_ewma(120), 6.0),
    Method("STA/LTA, 120 s", _of_sta_lta(120), 2.5),
    Method("STA/LTA, 300 s", _of_sta_lta(300), 1.5),
    Method("Poisson CUSUM, mean of the last hour", _of_cusum(_last_hour, FACTORS), 9.0),
    Method("Kleinberg's bursts, 2 states", _of_cusum(_last_hour, (2.0,)), 9.0),
    Method("scan of 10 s to 20 min, mean of an hour before", _scan, 9.0),
    Method(ORACLE, _of_cusum(lambda row: np.maximum(row.usual, 1e-9), FACTORS), 9.0),
)
