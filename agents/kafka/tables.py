"""A compacted topic is a table: the newest value of each key, read from its one partition up to its end."""

from __future__ import annotations

import asyncio
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents import settings
from agents.errors import KafkaUnavailable
from agents.kafka.connection import as_ours, client_kwargs


async def read_table(kafka: settings.Kafka, topic: str, bound_s: float = 30.0) -> dict[bytes, bytes]:
    """What the topic says now, committed records only; keys whose last value is a tombstone are left out.

    A transaction that is still open is not in it. Whoever has just fenced the topic's only writer reads everything that
    it ever committed: no transaction of it is open then. Raises KafkaUnavailable, KafkaError."""
    consumer: Any = AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        request_timeout_ms=5000,
        fetch_max_wait_ms=50,
        **client_kwargs(kafka),
    )
    partition = TopicPartition(topic, 0)
    table: dict[bytes, bytes] = {}
    what = f"read the topic {topic}"
    try:
        async with asyncio.timeout(bound_s):
            await consumer.start()
            await consumer._client._wait_on_metadata(topic)  # else a right that is missing is asked for on and on
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        if record.key is None:  # somebody else's: no row has such a key
                            continue
                        if record.value is None:
                            table.pop(record.key, None)
                        else:
                            table[record.key] = record.value
    except TimeoutError as e:
        raise KafkaUnavailable(f"{what}: its end was not reached within {bound_s:g} s") from e
    except (kafka_errors.KafkaError, OSError) as e:
        raise as_ours(e, what) from e
    finally:
        await consumer.stop()
    return table
