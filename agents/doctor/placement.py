"""The topic `placement` with its times: what it says, and whether the leader writes while we watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.core.formats import LEADER_KEY, is_row
from agents.core.model import TOPIC_PLACEMENT
from agents.kafka.connection import as_ours, client_kwargs

WATCH_S = 2.5  # the leader writes each second


@dataclass(frozen=True, slots=True)
class Watched:
    """`table`: the newest value of each key. `leader_ms`: when the broker took the newest `leader` record (epoch ms, its clock),
    None when there is none. `ahead_s`: how far our clock was ahead of that when a new one came in while we watched, None
    when none came."""

    table: dict[str, bytes]
    leader_ms: int | None
    ahead_s: float | None


async def watch(kafka: settings.Kafka, now: Callable[[], float], watch_s: float = WATCH_S) -> Watched:
    """Read it to its end, then wait up to `watch_s` for the leader's next record. Raises KafkaUnavailable, KafkaError."""
    consumer: Any = AIOKafkaConsumer(  # Any: aiokafka has no types
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        request_timeout_ms=5000,
        fetch_max_wait_ms=50,
        **client_kwargs(kafka),
    )
    partition = TopicPartition(TOPIC_PLACEMENT, 0)
    table: dict[str, bytes] = {}
    leader_ms: int | None = None
    try:
        await consumer.start()
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for record in await _batch(consumer):
                leader_ms = _take(table, record, leader_ms)
        until_s = asyncio.get_running_loop().time() + watch_s
        while asyncio.get_running_loop().time() < until_s:
            batch = await _batch(consumer)
            came_s = now()
            for record in batch:
                leader_ms = _take(table, record, leader_ms)
                if record.key == LEADER_KEY.encode() and record.value is not None:
                    return Watched(table, leader_ms, came_s - record.timestamp / 1000)
    except (AnyKafkaError, OSError) as e:
        raise as_ours(e, f"read the topic {TOPIC_PLACEMENT}") from e
    finally:
        await consumer.stop()
    return Watched(table, leader_ms, None)


async def _batch(consumer: Any) -> list[Any]:
    return [r for records in (await consumer.getmany(timeout_ms=100)).values() for r in records]


def _take(table: dict[str, bytes], record: Any, leader_ms: int | None) -> int | None:
    if not is_row(record.key or b"", record.value):  # a leader passes it over, too
        return leader_ms
    key = record.key.decode()
    if record.value is None:
        table.pop(key, None)
    else:
        table[key] = record.value
    return int(record.timestamp) if key == LEADER_KEY else leader_ms
