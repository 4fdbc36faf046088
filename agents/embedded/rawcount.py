"""Counts the events of events.raw one by one, as a read-committed reader gets them: the topic's ends count transaction markers and
aborted records, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.core.model import TOPIC_RAW, Partition
from agents.kafka.admin import MAX_DEAD_BYTES
from agents.kafka.closing import closed
from agents.kafka.connection import as_ours, client_kwargs

LOOK_EVERY_S = 2.0
"""For partitions that were added."""


class RawCount:
    """`count`: committed events from `base` on that were read so far. `grew`: called with each partition that was added; it is
    counted from its first event on."""

    def __init__(
        self, kafka: settings.Kafka, base: Mapping[Partition, int], grew: Callable[[int], None] = lambda n: None
    ) -> None:
        self.count = 0
        self._grew = grew
        self._at = {TopicPartition(p.kafka_topic, p.n): offset for p, offset in base.items()}
        self._consumer: Any = AIOKafkaConsumer(  # Any: aiokafka has no types
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=MAX_DEAD_BYTES,
            fetch_max_bytes=2 * MAX_DEAD_BYTES,
            metadata_max_age_ms=round(LOOK_EVERY_S * 1000),
            **client_kwargs(kafka),
        )

    async def run(self) -> None:
        """Count until cancelled. Raises KafkaUnavailable where the broker cannot be reached at the start."""
        try:
            await self._consumer.start()
            self._assign()
            looked_s = time.monotonic()
            while True:
                batches = await self._consumer.getmany(timeout_ms=200)
                self.count += sum(len(records) for records in batches.values())
                if time.monotonic() - looked_s > LOOK_EVERY_S:
                    looked_s = time.monotonic()
                    await self._look()
        except (AnyKafkaError, OSError) as e:
            raise as_ours(e, "count the records of events.raw") from e
        finally:
            await closed(self._consumer.stop())

    def _assign(self) -> None:
        self._consumer.assign(list(self._at))
        for partition, offset in self._at.items():
            self._consumer.seek(partition, offset)

    async def _look(self) -> None:
        known = {partition.partition for partition in self._at}
        new = sorted((self._consumer.partitions_for_topic(TOPIC_RAW) or set()) - known)
        if not new:
            return
        self._at = {partition: await self._consumer.position(partition) for partition in self._at}
        for n in new:
            self._at[TopicPartition(TOPIC_RAW, n)] = 0
            self._grew(n)
        self._assign()
