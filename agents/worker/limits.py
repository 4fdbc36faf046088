"""The largest record batch that each topic takes, learnt when a broker refuses one. The limit is
read from the topic or, if this account may not read it, found by halving. It is forgotten after a
while, since an administrator may raise it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from agents.kafka.refusals import PartitionRefusal

KEPT_S, GUESSED_S = 60.0, 600.0


@dataclass(frozen=True, slots=True)
class Limit:
    """In bytes: `batch` for a batch of several records, `record` for one with a single record."""

    batch: int
    record: int


class BatchSizeLimits:
    """The known limits by topic. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[Limit, float]] = {}

    def learn_limit(self, refusal: PartitionRefusal) -> None:
        """Learn from a batch that was too large."""
        topic, now = refusal.place[0], self._clock()
        if refusal.limit:
            self._known[topic] = Limit(refusal.limit, refusal.limit), now + KEPT_S
            return
        before, _ = self._known.get(topic, (Limit(1 << 30, 1 << 30), 0.0))
        if refusal.records > 1:
            learnt = Limit(min(before.batch, refusal.size // 2), before.record)
        else:
            learnt = Limit(
                min(before.batch, refusal.size - 1), min(before.record, refusal.size - 1)
            )
        self._known[topic] = learnt, now + GUESSED_S

    def known_limits(self) -> dict[str, Limit]:
        """The limits that are known now, by topic."""
        now = self._clock()
        self._known = {
            topic: (limit, until) for topic, (limit, until) in self._known.items() if until > now
        }
        return {topic: limit for topic, (limit, _) in self._known.items()}
