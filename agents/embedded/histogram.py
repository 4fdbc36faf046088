"""Latencies in bounded memory: buckets that grow by 2 %, so a quantile is right to 1 %."""

from __future__ import annotations

import math
from collections import Counter

_STEP = math.log(1.02)


class Histogram:
    """Values in ms, 0.1 at the least; 1,200 buckets reach past 30 years."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, value_ms: float, count: int = 1) -> None:
        self._counts[round(math.log(max(value_ms, 0.1)) / _STEP)] += count

    def quantile(self, q: float) -> float | None:
        """The value below which the share `q` lies, in ms; None without values."""
        rank = q * self._counts.total()
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return round(math.exp(bucket * _STEP), 1)
        return None

    def summary(self) -> dict[str, float | None]:
        """`{"p50": ms, "p99": ms}`"""
        return {"p50": self.quantile(0.5), "p99": self.quantile(0.99)}
