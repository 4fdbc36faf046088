"""The round trips from workers to Kafka's brokers that decisions use: what workers report, judged.

A report is one of three things. *In line*: it agrees with most of the other workers at the same
site, or there is no other. *Odd*: it does not. *Doubted*: it has been odd for DOUBT_S. The value in
force follows reports that are in line, stays as it is while they are odd, and is dropped when they
are doubted. Bounds are checked before (plausibility.py).

All times are the coordinator's own monotonic clock, in seconds. A worker reports an age, never a
time, so clocks are not compared."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agents.core.fleet.fleet import Fleet
from agents.core.model.inventory import Inventory
from agents.core.model.messages import PATHS_AT_MOST, PROBE_WINDOW, PathReport

LEAST_PROBES = 5
"""Fewer are not used: one answer alone can take a second on a busy machine."""
MAX_AGE_S = 120.0
"""A value whose newest probe is older is forgotten."""
BAND_MS, BAND_SHARE = 10.0, 0.10
"""A report changes the value in force only if it differs from it by more than both."""
HOLD_S, FAR = 90.0, 3.0
"""... and for this long, unless it differs by more than FAR times as much. Jitter of 20 % moves a
median of 15 beyond the band 20 times in half an hour, but not for long; a new route moves it for
good. With these two, it changes the value once in five hours."""
STEADY_MS, STEADY_SHARE = 2.0, 0.03
"""A report is steady if its median is above its minimum by no more than the larger of these. The
first steady report is adopted without a band: a machine that was busy when it started reported up
to the band too much, and the value would stay so."""
AGREED_MS, AGREED_FACTOR = 10.0, 2.0
"""Two workers at a site disagree if their minima differ by more than both."""
DOUBT_S = 30.0
"""A worker is doubted after it has been odd for this long, and trusted again after it has been in
line for as long. After a change of route, its window of probes is renewed in this time."""
JUDGED_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class MeasuredPath:
    """The round trip from a worker to a broker.

    `rtt_ms`: the value in force, a median. `min_ms`, `probes`: the minimum and the number of probes
    in the newest report. `measured_s`: when the newest of these was answered (the coordinator's
    monotonic clock)."""

    rtt_ms: float
    min_ms: float
    probes: int
    measured_s: float


@dataclass(slots=True)
class _Reported:
    """A worker's newest report on a broker, and what is thought of it.

    `rtt_ms`: the value in force; None: there is none. `probes`: the most that it rests on.
    `steady`: whether it was adopted from a steady report.
    `beyond_s`: since when reports have been beyond the band. `odd`, since `odd_s`: whether the
    report is odd."""

    report: PathReport
    measured_s: float
    rtt_ms: float | None = None
    probes: int = 0
    steady: bool = False
    beyond_s: float | None = None
    odd: bool = False
    odd_s: float = float("-inf")
    doubted: bool = False

    def is_settled(self) -> bool:
        """Whether judging the newest report as in line would change nothing."""
        report = self.report
        return not (
            self.odd
            or self.doubted
            or self.beyond_s is not None
            or self.rtt_ms is None
            or abs(report.rtt_ms - self.rtt_ms) > max(BAND_MS, BAND_SHARE * self.rtt_ms)
            or self.probes < report.probes
            or (not self.steady and report.probes >= self.probes and _is_steady(report))
        )

    def judge(self, odd: bool, now: float) -> None:
        """Take note of whether the newest report is odd, and adopt it if it may be."""
        if odd is not self.odd:
            self.odd, self.odd_s = odd, now
        if now - self.odd_s >= DOUBT_S:
            self.doubted = odd
        if self.doubted:
            self.rtt_ms, self.probes, self.beyond_s = None, 0, None
        elif not odd and self._is_to_be_adopted(now):
            self.rtt_ms, self.beyond_s = self.report.rtt_ms, None
            self.probes = max(self.probes, self.report.probes)
            self.steady = _is_steady(self.report)

    def _is_to_be_adopted(self, now: float) -> bool:
        # A first window that still fills is better known with each probe.
        if self.rtt_ms is None or self.probes < self.report.probes <= PROBE_WINDOW:
            return True
        if not self.steady and self.report.probes >= self.probes and _is_steady(self.report):
            return True
        gap, band = abs(self.report.rtt_ms - self.rtt_ms), max(BAND_MS, BAND_SHARE * self.rtt_ms)
        if gap <= band:
            self.beyond_s = None
            return False
        if self.beyond_s is None:
            self.beyond_s = now
        return gap > FAR * band or now - self.beyond_s >= HOLD_S


_Groups = defaultdict[tuple[str, int], list[tuple[str, _Reported]]]
"""The newest reports by site and broker, each with its worker."""


@dataclass(slots=True)
class MeasuredPaths:
    """What every worker's round trips to the brokers are. Bounded: up to PATHS_AT_MOST brokers for
    each worker of the fleet."""

    fleet: Fleet
    _reported: dict[str, dict[int, _Reported]] = field(default_factory=dict)
    _judged_s: float = float("-inf")
    _doubts: dict[str, str] = field(default_factory=dict)
    _changes: int = 0
    _changed: dict[int, int] = field(default_factory=dict)
    _groups: _Groups | None = None
    _grouped: Inventory | None = None

    def rtt_ms(self, worker: str, broker: int) -> MeasuredPath | None:
        """The round trip from `worker` to the broker with this id; None if it has not been
        measured, is too old or is doubted."""
        found = self._reported.get(worker, {}).get(broker)
        if found is None or found.rtt_ms is None:
            return None
        report = found.report
        return MeasuredPath(found.rtt_ms, report.min_ms, report.probes, found.measured_s)

    def paths_of(self, worker: str) -> Mapping[int, MeasuredPath]:
        """All of a worker's round trips, by the broker's id."""
        brokers = sorted(self._reported.get(worker, ()))
        return {b: path for b in brokers if (path := self.rtt_ms(worker, b)) is not None}

    def rtts_to(self, broker: int) -> dict[str, float]:
        """The round trips to this broker that are in force, in ms, by worker."""
        found = ((worker, known.get(broker)) for worker, known in self._reported.items())
        return {w: x.rtt_ms for w, x in found if x is not None and x.rtt_ms is not None}

    def state_of(self, broker: int) -> int:
        """A number that is another one whenever a value in force to this broker has changed."""
        return self._changed.get(broker, 0)

    def note_reports(self, worker: str, reports: Iterable[PathReport], now: float) -> None:
        """Take what a worker has just reported; `judge` decides later whether it is used."""
        known = self._reported.setdefault(worker, {})
        for report in reports:
            if report.probes < LEAST_PROBES:
                continue
            measured_s = now - report.age_s
            if (found := known.get(report.broker)) is not None:
                found.report, found.measured_s = report, measured_s
            elif len(known) < PATHS_AT_MOST:
                known[report.broker] = _Reported(report, measured_s)
                self._groups = None

    def judge(self, now: float) -> Mapping[str, str]:
        """Judge the newest reports and forget the old ones. Call it every second. Returns the
        workers that are doubted, each with a text that says why."""
        if now - self._judged_s < JUDGED_EVERY_S:
            return self._doubts
        self._judged_s = now
        self._forget_old(now)
        self._doubts = {}
        for (_, broker), group in self._by_site_and_broker().items():
            self._judge_group(broker, group, now)
        return self._doubts

    def _judge_group(self, broker: int, group: Sequence[tuple[str, _Reported]], now: float) -> None:
        """Judge what the workers at one site report on a broker. Nearly always they all agree, and
        nothing changes: that is found out first, since a large fleet has many such groups."""
        minima = sorted([found.report.min_ms for _, found in group])
        agreed = not _disagreeing(minima, minima[0])
        for worker, found in group:
            if agreed and found.is_settled():
                continue
            others, before = _disagreeing(minima, found.report.min_ms), found.rtt_ms
            found.judge(2 * len(others) > len(group) - 1, now)
            if found.rtt_ms != before:
                self._note_change(broker)
            if found.doubted:
                self._doubts.setdefault(
                    worker, self._describe_doubt(worker, broker, found.report, others or minima)
                )

    def _forget_old(self, now: float) -> None:
        for worker, known in list(self._reported.items()):
            left = worker not in self.fleet.views
            for broker in [b for b, x in known.items() if left or now - x.measured_s > MAX_AGE_S]:
                del known[broker]
                self._note_change(broker)
                self._groups = None
            if not known:
                del self._reported[worker]

    def _note_change(self, broker: int) -> None:
        self._changes += 1
        self._changed[broker] = self._changes

    def _by_site_and_broker(self) -> _Groups:
        if self._groups is None or self._grouped is not self.fleet.inventory:
            self._groups, self._grouped = defaultdict(list), self.fleet.inventory
            for worker, known in self._reported.items():
                site = self.fleet.views[worker].spec.site
                for broker, found in known.items():
                    self._groups[site, broker].append((worker, found))
            reported = {broker for _, broker in self._groups}
            self._changed = {b: n for b, n in self._changed.items() if b in reported}
        return self._groups

    def _describe_doubt(
        self, worker: str, broker: int, report: PathReport, others: list[float]
    ) -> str:
        spec = self.fleet.views[worker].spec
        low, high = f"{others[0]:.1f}", f"{others[-1]:.1f}"
        told = low if low == high else f"{low} to {high}"
        return (
            f"{spec.label} reports a round trip of at least {report.min_ms:.1f} ms to broker "
            f"{broker}, but others at {spec.site} report {told} ms. It is not used. Check that its "
            "site in the inventory is right, that it has no proxy of its own to Kafka, and who "
            "runs it."
        )


def _is_steady(report: PathReport) -> bool:
    return report.rtt_ms - report.min_ms <= max(STEADY_MS, STEADY_SHARE * report.rtt_ms)


def _disagreeing(minima: list[float], own: float) -> list[float]:
    """Those of the sorted `minima` that disagree with `own`."""
    low = min(own - AGREED_MS, own / AGREED_FACTOR)
    high = max(own + AGREED_MS, own * AGREED_FACTOR)
    return minima[: bisect_left(minima, low)] + minima[bisect_right(minima, high) :]
