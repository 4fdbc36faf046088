"""A fleet in virtual time: recorded events, lanes, nodes with queues, and a policy that decides
every few seconds which node has which lane.

Nodes are fluid queues in steps of 0.1 s. Events that come in faster than a node's capacity wait,
and are still there after the rush, which a steady-state formula (M/M/1) would miss. At a thousand
events/s per node, a single event's wait within a step is below a millisecond, and is left out.
Latency is looked up for each recorded event at its own time and place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.recorded import DAY_S, Flights, Floats, Ints, Longs
from kernels import RttModel, Weights, compute_terms, lane_table, make_problem, node_table

TICK_S = 5.0  # how often policies are asked
STEP_S = 0.1
STEPS = round(TICK_S / STEP_S)
PAUSE_STEPS = 3  # how long a lane pauses when it changes hands
COMPRESS = 12  # a recorded minute is one tick
JITTER_S = 300.0  # timetables are rounded, reality is not (recorded seconds, standard deviation)
NIGHT_S = 8 * 3600.0  # the day begins at 08:00 UTC, the quietest time
MEAN_EPS = 10_000.0
PERCENTILES = (50, 75, 99)
WINDOW_TICKS = 12  # load and skew are averaged over a minute


@dataclass(frozen=True)
class Stream:
    """A day. Recorded events: `at_s` (ascending), float64[E]; `lane`, `place` (row of the places),
    int32[E]. The events that they stand for: `came`, by step and lane, float32[T * STEPS, L]."""

    at_s: Floats
    lane: Ints
    place: Ints
    came: Floats

    @property
    def rate_eps(self) -> Floats:
        """Arrivals by tick and lane, float64[T, L]."""
        ticks = len(self.came) // STEPS
        out: Floats = self.came.reshape(ticks, STEPS, -1).sum(axis=1) / TICK_S
        return out


def folded(flights: Flights, place: Ints, days: Longs, rng: np.random.Generator) -> Stream:
    """Some of the recorded days laid over one another by time of day, COMPRESS times as fast, each
    event moved by the jitter. Each stands for several events, spread around its time in the same
    way, so that MEAN_EPS arrive on average; their exact times are random (Poisson)."""
    day = (flights.at_s - flights.start_s) // DAY_S
    rows = np.flatnonzero(np.isin(day, days))
    clock_s = flights.at_s[rows] - flights.start_s - NIGHT_S
    lanes, ticks = flights.lanemap.lanes, DAY_S // 60
    minute = (clock_s % DAY_S // 60).astype(np.int64)
    counts = np.bincount(minute * lanes + flights.lane[rows], minlength=ticks * lanes).reshape(
        ticks, lanes
    )
    apart = np.minimum(np.arange(ticks), ticks - np.arange(ticks)) * 60.0
    kernel = np.exp(-((apart / JITTER_S) ** 2) / 2)
    shape = np.fft.irfft(
        np.fft.rfft(counts, axis=0) * np.fft.rfft(kernel)[:, None], n=ticks, axis=0
    ).clip(0.0)
    mean_step = shape * (MEAN_EPS * STEP_S * ticks / shape.sum())
    came = rng.poisson(np.repeat(mean_step, STEPS, axis=0)).astype(np.float64)
    at_s = (clock_s + rng.normal(30.0, JITTER_S, len(rows))) % DAY_S / COMPRESS
    order = np.argsort(at_s, kind="stable")
    return Stream(at_s[order], flights.lane[rows][order], place[rows][order], came)


class Policy(Protocol):
    """Decides which node has which lane."""

    def place(self, now_s: float, rate_eps: Floats | None, owner: Ints) -> Ints:
        """Rows of nodes, int32[L]. `rate_eps`: what arrived since the last call (None: nothing
        counted yet). `owner`: the lanes' present nodes, -1 for none."""


def trace(policy: Policy, stream: Stream) -> Ints:
    """Which node has which lane from each tick on, int32[T, L]."""
    rates = stream.rate_eps
    now: Ints = np.full(rates.shape[1], -1, dtype=np.int32)
    owner: Ints = np.empty(rates.shape, dtype=np.int32)
    for t in range(len(rates)):
        now = policy.place(t * TICK_S, rates[t - 1] if t else None, now)
        owner[t] = now
    return owner


@dataclass(frozen=True)
class Outcome:
    """`latency_ms`: round trip, queue and work of an event, by percentile. `rtt_ms`: the mean round
    trip alone. `skew`: the busiest node's utilisation divided by the fleet's, by minute, each
    minute weighted by its events. `utilisation`: the fleet's in the busiest hour; `hottest`: that
    of its busiest node. `moves_per_hour`: of virtual time."""

    latency_ms: dict[int, float]
    rtt_ms: float
    skew: float
    utilisation: float
    hottest: float
    moves_per_hour: float


def rtt_ms(
    lat: Floats, lon: Floats, node_lat: Floats, node_lon: Floats, site: Ints, rtt: RttModel
) -> Floats:
    """The modelled round trip from each place to each node, float64[P, N]."""
    nodes = node_table(node_lat, node_lon, site=site)
    return compute_terms(
        make_problem(lane_table(lat, lon), nodes, rtt, Weights(move_ms=0.0))
    ).rtt_ms


def waits_s(came: Floats, capacity_eps: float) -> Floats:
    """How long an event waits that comes in the middle of each step to a queue that is empty at
    first; float64[steps]."""
    net = came - capacity_eps * STEP_S
    total = np.concatenate([[0.0], np.cumsum(net)])
    left = (total - np.minimum.accumulate(total))[:-1]  # at the start of each step
    out: Floats = np.maximum(0.0, left + net / 2) / capacity_eps
    return out


def play(stream: Stream, owner: Ints, capacity_eps: Floats, rtt: Floats) -> Outcome:
    """The result for the events if lanes are where `owner` says, int32[T, L]. `rtt`:
    float64[places, N]."""
    ticks = len(owner)
    moved = np.zeros(owner.shape, dtype=bool)
    moved[1:] = owner[1:] != owner[:-1]
    came = stream.came.copy()
    # events of a moved lane wait for the end of the pause and arrive together then
    for t, lane in zip(*np.nonzero(moved), strict=True):
        paused = slice(t * STEPS, t * STEPS + PAUSE_STEPS)
        came[t * STEPS + PAUSE_STEPS, lane] += came[paused, lane].sum()
        came[paused, lane] = 0.0
    by_tick = came.reshape(ticks, STEPS, -1)
    tick = np.minimum((stream.at_s / TICK_S).astype(np.int64), ticks - 1)
    node = owner[tick, stream.lane]
    pause_end_s = tick * TICK_S + PAUSE_STEPS * STEP_S
    ready_s = np.where(moved[tick, stream.lane], np.maximum(stream.at_s, pause_end_s), stream.at_s)
    step = np.minimum((ready_s / STEP_S).astype(np.int64), ticks * STEPS - 1)
    wait_s = np.empty(len(step))
    load = np.empty((ticks, len(capacity_eps)))
    for n, capacity in enumerate(capacity_eps):
        inflow = (by_tick * (owner == n)[:, None, :]).sum(axis=2)
        load[:, n] = inflow.sum(axis=1) / TICK_S
        here = node == n
        wait_s[here] = waits_s(inflow.ravel(), float(capacity))[step[here]] + 1 / capacity
    way = rtt[stream.place, node]
    latency = way + (ready_s - stream.at_s + wait_s) * 1000
    minutes = load.reshape(-1, WINDOW_TICKS, len(capacity_eps)).mean(axis=1)
    mean = minutes.sum(axis=1) / capacity_eps.sum()
    # the busiest hour
    hour = len(minutes) // 24
    running = np.convolve(mean, np.ones(hour) / hour, mode="valid")
    busy = slice(int(running.argmax()), int(running.argmax()) + hour)
    return Outcome(
        {q: float(np.percentile(latency, q)) for q in PERCENTILES},
        float(way.mean()),
        float((minutes / capacity_eps).max(axis=1).sum() / mean.sum()),
        float(running.max()),
        float((minutes[busy].mean(axis=0) / capacity_eps).max()),
        float(moved.sum() / (ticks * TICK_S / 3600)),
    )
