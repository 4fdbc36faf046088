"""How large a record batch each topic takes, as far as brokers have refused one: known by asking,
or, where this account may not ask, by halves. It is forgotten after a while, since somebody may
raise it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from agents.kafka.refusals import PartitionRefusal

KEPT_S, GUESSED_S = 60.0, 600.0


@dataclass(frozen=True, slots=True)
class Limit:
    """Bytes: `batch` of one with several records, `record` of one with a single record."""

    batch: int
    record: int


class BatchSizeLimits:
    """`clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[Limit, float]] = {}

    def learn(self, refusal: PartitionRefusal) -> None:
        """From what was too large."""
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

    def now(self) -> dict[str, Limit]:
        """Of each topic of which one is known."""
        now = self._clock()
        self._known = {
            topic: (limit, until) for topic, (limit, until) in self._known.items() if until > now
        }
        return {topic: limit for topic, (limit, _) in self._known.items()}
