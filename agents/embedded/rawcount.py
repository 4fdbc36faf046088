"""Counts the records of events.raw one by one: where dead letters were replayed, in transactions, the topic's ends say more than
there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.core.model import Partition
from agents.kafka.admin import MAX_DEAD_BYTES
from agents.kafka.closing import closed
from agents.kafka.connection import as_ours, client_kwargs


class RawCount:
    """`count`: committed records from `base` on that were read so far."""

    def __init__(self, kafka: settings.Kafka, base: Mapping[Partition, int]) -> None:
        self.count = 0
        self._base = {TopicPartition(p.kafka_topic, p.n): offset for p, offset in base.items()}
        self._consumer: Any = AIOKafkaConsumer(  # Any: aiokafka has no types
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_DEAD_BYTES,
            fetch_max_bytes=2 * MAX_DEAD_BYTES,
            **client_kwargs(kafka),
        )

    async def run(self) -> None:
        """Count until cancelled. Raises KafkaUnavailable where the broker cannot be reached at the start."""
        try:
            await self._consumer.start()
            self._consumer.assign(list(self._base))
            for partition, offset in self._base.items():
                self._consumer.seek(partition, offset)
            while True:
                batches = await self._consumer.getmany(timeout_ms=200)
                self.count += sum(len(records) for records in batches.values())
        except (AnyKafkaError, OSError) as e:
            raise as_ours(e, "count the records of events.raw") from e
        finally:
            await closed(self._consumer.stop())
