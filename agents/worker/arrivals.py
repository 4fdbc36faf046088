"""What arrives for each lane, by when it was appended: a router that catches up sees ten seconds'
events in one, and must not take its own haste for a flood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agents.core.model.messages import Arrival


@dataclass(slots=True)
class _Seen:
    """Of one raw partition since the last look: records by lane, and the span of their appends in
    epoch ms."""

    counts: Counter[int] = field(default_factory=Counter)
    oldest_ms: float = float("inf")
    newest_ms: float = float("-inf")


class Arrivals:
    """`note` what was committed, `take` the rates since the last time."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._lanes: set[int] = set()

    def note(self, n: int, counts: Mapping[int, int], raw_ms: Sequence[float]) -> None:
        """A batch of the raw partition `n`: records by lane, and when some of them were appended
        (epoch ms)."""
        if not counts:
            return
        seen = self._seen.setdefault(n, _Seen())
        seen.counts.update(counts)
        seen.oldest_ms = min(seen.oldest_ms, *raw_ms, seen.oldest_ms)
        seen.newest_ms = max(seen.newest_ms, *raw_ms, seen.newest_ms)

    def take(self, over_s: float) -> tuple[Arrival, ...]:
        """Events/s of each lane ever seen. `over_s`: seconds since the last time; where the appends
        span longer, they count."""
        eps = dict.fromkeys(self._lanes, 0.0)
        for seen in self._seen.values():
            span_s = max(over_s, (seen.newest_ms - seen.oldest_ms) / 1000)
            if span_s > 0:
                for lane, count in seen.counts.items():
                    eps[lane] = eps.get(lane, 0.0) + count / span_s
        self._seen.clear()
        self._lanes = set(eps)
        return tuple(Arrival(lane, rate) for lane, rate in sorted(eps.items()))
