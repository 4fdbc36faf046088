"""Reads the topic `hotspots` for the leader: its last day, then whatever is added. Without the
topic, or without the right to read it, there are no hotspots, and the fleet works as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from agents import settings
from agents.base import log
from agents.core.events import HotspotChange, HotspotsRead
from agents.core.hotspots.records import decode_record
from agents.core.model.topology import TOPIC_HOTSPOTS
from agents.kafka.broker_clock import read_own_clock_ms
from agents.kafka.follow import RETRY_S, Batch, TopicFollower

PAST_S = 86_400.0
PAST_RECORDS = 20_000
"""At most this many records are read of the past."""

_log = log.get_logger("kafka.hotspots")


class HotspotReader:
    """`now_ms`: Kafka's clock. `topic`, `retry_s`: for tests."""

    def __init__(
        self,
        kafka: settings.Kafka,
        now_ms: Callable[[], float] = read_own_clock_ms,
        *,
        topic: str = TOPIC_HOTSPOTS,
        retry_s: float = RETRY_S,
    ) -> None:
        self._topic, self._now_ms = topic, now_ms
        self._follower = TopicFollower(
            kafka,
            topic,
            past_s=PAST_S,
            past_records=PAST_RECORDS,
            retry_s=retry_s,
            now_ms=now_ms,
        )
        self._skipped = False

    async def run(self, tell: Callable[[HotspotsRead], None]) -> NoReturn:
        """Call `tell` with the records, in order, until cancelled; a lost broker only delays
        it."""
        await self._follower.run(lambda batch: tell(self._read_batch(batch)))

    def _read_batch(self, batch: Batch) -> HotspotsRead:
        changes, skipped = [], 0
        for r in batch.records:
            try:
                hotspot = decode_record(r.key, r.value)
            except ValueError as e:
                skipped += 1
                self._log_skipped(r.offset, str(e))
            else:
                age_s = max(0.0, self._now_ms() - r.timestamp) / 1000
                changes.append(HotspotChange(hotspot, r.timestamp, age_s))
        return HotspotsRead(tuple(changes), batch.past, skipped)

    def _log_skipped(self, offset: int, why: str) -> None:
        """The first one; further ones are in a metric."""
        if not self._skipped:
            self._skipped = True
            _log.warning("hotspot_record_skipped", topic=self._topic, offset=offset, why=why)
