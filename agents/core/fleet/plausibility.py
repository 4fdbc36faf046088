"""Checks of what workers send: implausible figures are removed before anything else sees them,
counted, and reported once.

Only a router may report arrival rates. The inventory's capacity bounds a worker's rates, and only
existing lanes of its own kind count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agents.base.text import to_one_line
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import News
from agents.core.fleet.paths import MAX_AGE_S
from agents.core.model.feeds import Severity
from agents.core.model.inventory import Inventory
from agents.core.model.messages import (
    PATHS_AT_MOST,
    PROBE_WINDOW,
    Announcement,
    Arrival,
    LaneLoad,
    PathReport,
    Telemetry,
)
from agents.core.model.topology import KAFKA_STREAMS, Partition, WorkerKind, WorkerSpec

TIMES, LEAST_EPS, MOST_EPS = 100.0, 100_000.0, 1e7
"""While it catches up, a worker can be faster than its capacity in the inventory: up to TIMES that,
or LEAST_EPS if that is more, but never above MOST_EPS (events/s)."""
MOST_LAG = 10**12  # events
MOST_MS = 1e10  # of processing: 115 days
MOST_CPU, MOST_MEM_MB = 4096.0, 1e8  # cores; 100 TB
LEAST_CAPACITY_EPS = 0.01
LEAST_RTT_MS, MOST_RTT_MS = 0.01, 10_000.0
"""Even on one machine a broker needs longer to answer than the first; a probe waits for less than
the second (agents/kafka/paths.py)."""
TOLD_EVERY_S = 600.0  # per kind of figure and sender
REMEMBERED = 5_000

WHAT = ("stanza", "presence", "telemetry", "arrival", "lane", "number", "fault", "path")
"""What may be refused; labels of the metric."""


def max_worker_eps(spec: WorkerSpec) -> float:
    """The most events/s that this worker may report, for one lane or for all."""
    return min(MOST_EPS, max(LEAST_EPS, TIMES * spec.capacity_eps))


def max_arriving_eps(inventory: Inventory) -> float:
    """The most events/s that all routers together may report for a lane."""
    return max(
        LEAST_EPS, sum(max_worker_eps(spec) for spec in inventory.workers_of(WorkerKind.ROUTER))
    )


@dataclass(slots=True)
class ImplausibleFigures:
    """`counts`: refusals since this leader began, by WHAT."""

    fleet: Fleet
    news: News
    counts: Counter[str] = field(default_factory=Counter)
    _told: dict[tuple[str, str], float] = field(default_factory=dict)

    def note_refusal(self, what: str, who: str, why: str, now: float, count: int = 1) -> None:
        """Count a refusal and report it, at most every TOLD_EVERY_S. `why`: the rest of a sentence
        that begins with `who`."""
        self.counts[what] += count
        if now - self._told.get((what, who), float("-inf")) < TOLD_EVERY_S:
            return
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told[what, who] = now
        name = to_one_line(who, 120)
        text = f"{name} {to_one_line(why)}"
        self.news.add_alert(Severity.WARNING, f"refused_{what}", name, text)

    def filter_presence(self, said: Announcement, now: float) -> Announcement:
        """The presence; an implausible capacity becomes 0, so that the inventory's counts."""
        eps = said.capacity_eps
        if eps and not eps >= LEAST_CAPACITY_EPS:
            self.note_refusal(
                "number",
                said.worker,
                f"reports a capacity of {eps:g} events/s: ignored",
                now,
            )
            return replace(said, capacity_eps=0.0)
        return said

    def filter_telemetry(self, worker: str, t: Telemetry, now: float) -> Telemetry:
        """The telemetry without implausible figures. A lane with implausible figures is kept, with
        zeros: the worker still says that it has it."""
        spec = self.fleet.views[worker].spec
        lanes = tuple(self._filter_lanes(spec, t.lanes, now))
        arrivals = tuple(self._filter_arrivals(spec, t.arrivals, now))
        if not (0 <= t.cpu <= MOST_CPU and 0 <= t.mem_mb <= MOST_MEM_MB):
            why = (
                f"reports that it uses {t.cpu:g} cores and {t.mem_mb:g} MB, which is impossible: "
                "ignored"
            )
            self.note_refusal("number", worker, why, now)
            t = replace(t, cpu=0.0, mem_mb=0.0)
        paths = tuple(self._filter_paths(spec, t.paths, now))
        if lanes == t.lanes and arrivals == t.arrivals and paths == t.paths:
            return t
        return replace(t, lanes=lanes, arrivals=arrivals, paths=paths)

    def _filter_lanes(
        self, spec: WorkerSpec, lanes: Iterable[LaneLoad], now: float
    ) -> Iterable[LaneLoad]:
        most, seen, odd = max_worker_eps(spec), set[Partition](), 0
        for lane in lanes:
            p = Partition(lane.topic, lane.n)
            if p in seen or not spec.kind.works(p) or p not in self.fleet.partitions:
                odd += 1
                continue
            seen.add(p)
            yield self._filter_lane(spec, p, lane, most, now)
        if odd:
            why = f"reports {odd:,} lanes that do not exist or are listed twice: ignored"
            self.note_refusal("lane", spec.worker, why, now, odd)

    def _filter_lane(
        self, spec: WorkerSpec, p: Partition, lane: LaneLoad, most: float, now: float
    ) -> LaneLoad:
        can_be = (
            0 <= lane.rate_eps <= most
            and 0 <= lane.lag_events <= MOST_LAG
            and 0 <= lane.p50_ms <= MOST_MS
            and 0 <= lane.p99_ms <= MOST_MS
        )
        if not can_be:
            told = (
                f"{lane.rate_eps:g} events/s, lag {lane.lag_events:g}, p50 {lane.p50_ms:g} ms, "
                f"p99 {lane.p99_ms:g} ms"
            )
            self.note_refusal(
                "number",
                spec.worker,
                f"reports impossible figures for {p.label} ({told}): ignored",
                now,
            )
            lane = replace(lane, rate_eps=0.0, lag_events=0, p50_ms=0.0, p99_ms=0.0)
        of_streams = self.fleet.views[spec.worker].engine == KAFKA_STREAMS
        if lane.fault and self.fleet.partitions[p].worker != spec.worker and not of_streams:
            self.note_refusal(
                "fault",
                spec.worker,
                f"reports that {p.label} has stopped, but does not own it",
                now,
            )
            lane = replace(lane, fault="")
        return lane

    def _filter_paths(
        self, spec: WorkerSpec, paths: Iterable[PathReport], now: float
    ) -> Iterable[PathReport]:
        seen, odd = set[int](), list[PathReport]()
        for path in paths:
            can_be = (
                0 <= path.broker < 2**31
                and LEAST_RTT_MS <= path.min_ms <= path.rtt_ms <= MOST_RTT_MS
                and 1 <= path.probes <= PROBE_WINDOW
                and 0 <= path.age_s <= MAX_AGE_S
            )
            if not can_be or path.broker in seen or len(seen) >= PATHS_AT_MOST:
                odd.append(path)
                continue
            seen.add(path.broker)
            yield path
        if odd:
            x = odd[0]
            why = (
                f"reports {len(odd):,} round trips to brokers that are impossible, listed twice or "
                f"more than {PATHS_AT_MOST} (to broker {x.broker} {x.rtt_ms:g} ms, at least "
                f"{x.min_ms:g} ms, {x.probes} probes, {x.age_s:g} s ago): ignored"
            )
            self.note_refusal("path", spec.worker, why, now, len(odd))

    def _filter_arrivals(
        self, spec: WorkerSpec, arrivals: Iterable[Arrival], now: float
    ) -> Iterable[Arrival]:
        arrivals = tuple(arrivals)
        if not arrivals:
            return
        if spec.kind != WorkerKind.ROUTER:
            why = "reports arrivals, which only a router may report: ignored"
            self.note_refusal("arrival", spec.worker, why, now, len(arrivals))
            return
        most, lanes, seen, told, odd = (
            max_worker_eps(spec),
            len(self.fleet.partitions_of(WorkerKind.NODE)),
            set[int](),
            0.0,
            0,
        )
        for a in arrivals:
            if not (0 <= a.n < lanes) or a.n in seen or not (0 <= a.rate_eps <= most - told):
                odd += 1
                continue
            seen.add(a.n)
            told += a.rate_eps
            yield a
        if odd:
            why = (
                f"reports {odd:,} impossible arrivals (an unknown lane, or more than {most:,.0f} "
                "events/s): ignored"
            )
            self.note_refusal("arrival", spec.worker, why, now, odd)
