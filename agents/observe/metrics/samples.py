"""The values of one scrape, taken on the process's event loop, and their translation for
Prometheus. Nothing is kept between two scrapes except counts that the process keeps itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from agents.observe.metrics.declared import Metric, MetricType

BOUNDS_S = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)


@dataclass(slots=True)
class BucketCounts:
    """Counts by upper bound (s; the last has none), and the sum of all values. The event loop calls
    `add`, once per batch."""

    counts: list[float] = field(default_factory=lambda: [0.0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: Sequence[float], weight: float = 1.0) -> None:
        """Each value stands for `weight` observations. A value below 0 (two machines' clocks)
        counts as 0."""
        for value in seconds:
            at_least = max(0.0, value)
            self.counts[bisect_left(BOUNDS_S, at_least)] += weight
            self.total_s += at_least * weight

    def cumulative_buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus expects."""
        out, upto = [], 0.0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            upto += count
            out.append((bound, upto))
        return out


class Samples:
    """The values of one scrape."""

    def __init__(self) -> None:
        self._numbers: dict[Metric, list[tuple[tuple[str, ...], float]]] = {}
        self._histograms: dict[
            Metric, list[tuple[tuple[str, ...], list[tuple[str, float]], float]]
        ] = {}

    def add(self, metric: Metric, value: float, *labels: object) -> None:
        """Add one number; `labels` in the order of the declaration."""
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name}: labels {metric.labels}, got {labels}")
        self._numbers.setdefault(metric, []).append((tuple(map(str, labels)), float(value)))

    def add_histogram(self, metric: Metric, histogram: BucketCounts, *labels: object) -> None:
        """Add a copy of its present state."""
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name}: labels {metric.labels}, got {labels}")
        row = tuple(map(str, labels)), histogram.cumulative_buckets(), histogram.total_s
        self._histograms.setdefault(metric, []).append(row)

    def families(self) -> Iterator[Family]:
        """The families as prometheus_client writes them."""
        for metric, rows in self._numbers.items():
            family = (
                CounterMetricFamily if metric.kind is MetricType.COUNTER else GaugeMetricFamily
            )(metric.name, metric.text, labels=metric.labels)
            for labels, value in rows:
                family.add_metric(labels, value)
            yield family
        for metric, histograms in self._histograms.items():
            histogram = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
            for labels, buckets, total_s in histograms:
                histogram.add_metric(labels, buckets, total_s)
            yield histogram
