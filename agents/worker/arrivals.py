"""The rate at which events arrive for each lane, by the time of their append: a router that catches
up reads ten seconds of events in one second, and must not report that as a flood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.core.model.messages import Arrival


@dataclass(slots=True)
class _Seen:
    """What one raw partition has brought since the last `take_rates`: records by lane, and the span
    of their appends in epoch ms."""

    counts: Counter[int] = field(default_factory=Counter)
    oldest_ms: float = float("inf")
    newest_ms: float = float("-inf")


class Arrivals:
    """`count_batch` each committed batch; `take_rates` returns the rates since its last call."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._lanes: set[int] = set()

    def count_batch(self, n: int, counts: Mapping[int, int], raw_ms: Sequence[float]) -> None:
        """Note a batch of the raw partition `n`: `counts` of records by lane, and the time at which
        a sample of them was appended (epoch ms)."""
        if not counts:
            return
        seen = self._seen.setdefault(n, _Seen())
        seen.counts.update(counts)
        seen.oldest_ms = min(seen.oldest_ms, *raw_ms, seen.oldest_ms)
        seen.newest_ms = max(seen.newest_ms, *raw_ms, seen.newest_ms)

    def take_rates(self, over_s: float) -> tuple[Arrival, ...]:
        """Events/s of each lane ever seen. `over_s`: seconds since the last call; if the appends
        span a longer time, that time counts."""
        eps = dict.fromkeys(self._lanes, 0.0)
        for seen in self._seen.values():
            span_s = max(over_s, (seen.newest_ms - seen.oldest_ms) / 1000)
            if span_s > 0:
                for lane, count in seen.counts.items():
                    eps[lane] = eps.get(lane, 0.0) + count / span_s
        self._seen.clear()
        self._lanes = set(eps)
        return tuple(Arrival(lane, rate) for lane, rate in sorted(eps.items()))
