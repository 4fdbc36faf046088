"""What `rewind` sends for (core/rewinds.py): where a lane stands, how many events lie behind, and whether a commit shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.core.model import Kind, Partition
from agents.core.rewinds import COUNTED_AT_MOST, AwaitCommitted, LookBack, LookOver, Past, ReadCommitted, Standing
from agents.kafka.closing import closed
from agents.kafka.connection import as_ours, client_kwargs
from agents.kafka.offsets import Offsets

LOOK_S = 0.01
COUNT_BOUND_S = 15.0


class Rewinding:
    """`offsets`: readers of the consumer groups."""

    def __init__(self, kafka: settings.Kafka, offsets: Mapping[Kind, Offsets]) -> None:
        self._kafka, self._offsets = kafka, offsets

    async def look_back(self, look: LookBack) -> Past:
        """Raises KafkaUnavailable, KafkaError."""
        p = look.partition
        reader = self._offsets[p.kind]
        begin, end = (await reader.begins([p]))[p], (await reader.ends([p]))[p]
        found = await self.read_committed(ReadCommitted(p))
        committed = found[0] if found is not None else -1
        target = look.offset
        if target is None:
            at = (await reader.since(look.since_ms or 0, [p]))[p]
            target = at if at >= 0 else None
        events = None
        if target is not None and begin <= target < committed and committed - target <= COUNTED_AT_MOST:
            events = await self._count(p, target, committed)
        return Past(begin, end, committed, target, events)

    async def look_over(self, look: LookOver) -> dict[Partition, Standing]:
        """Raises KafkaUnavailable, KafkaError."""
        found = {}
        for kind, reader in self._offsets.items():
            some = [p for p in look.partitions if p.kind is kind]
            begins, committed = await reader.begins(some), await reader.committed(some)
            ends = await reader.ends(some)
            since = await reader.since(look.since_ms, some) if look.since_ms is not None else {}
            for p in some:
                at = committed[p]
                later = since.get(p, -1)
                found[p] = Standing(begins[p], ends[p], None if at is None else at[0], later if later >= 0 else None)
        return found

    async def _count(self, p: Partition, first: int, behind: int) -> int | None:
        """Records that count, of those offsets: markers and what was aborted are left out; None when it takes too long."""
        consumer: Any = AIOKafkaConsumer(  # Any: aiokafka has no types
            group_id=None, enable_auto_commit=False, auto_offset_reset="none", isolation_level="read_committed",
            fetch_max_wait_ms=20, max_partition_fetch_bytes=4 << 20, **client_kwargs(self._kafka),
        )  # fmt: skip
        tp, count = TopicPartition(p.kafka_topic, p.n), 0
        try:
            async with asyncio.timeout(COUNT_BOUND_S):
                await consumer.start()
                consumer.assign([tp])
                consumer.seek(tp, first)
                while await consumer.position(tp) < behind:
                    for records in (await consumer.getmany(timeout_ms=50)).values():
                        count += sum(r.offset < behind for r in records)
        except TimeoutError:
            return None
        except (AnyKafkaError, OSError) as e:
            raise as_ours(e, f"count the events of {p.label}") from e
        finally:
            await closed(consumer.stop())
        return count

    async def read_committed(self, what: ReadCommitted) -> tuple[int, str] | None:
        """Raises KafkaUnavailable, KafkaError."""
        return (await self._offsets[what.partition.kind].committed([what.partition]))[what.partition]

    async def await_committed(self, what: AwaitCommitted) -> None:
        """Has no bound of its own: an errand has one. Raises KafkaUnavailable, KafkaError."""
        while True:
            at = await self.read_committed(ReadCommitted(what.partition))
            if at is not None and at[0] == what.offset:
                return
            await asyncio.sleep(LOOK_S)
