"""A compacted topic is a table: the newest value of each key, read from its one partition up to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents import log, settings
from agents.errors import KafkaUnavailable
from agents.kafka.connection import as_ours, client_kwargs

IsRow = Callable[[bytes, bytes | None], bool]
"""Whether a key and its value (None: a tombstone) can be the topic's own writer's."""

_log = log.get("kafka.tables")


def anything(key: bytes, value: bytes | None) -> bool:
    return True


@dataclass(slots=True)
class Table:
    """`rows`: the newest value of each key that can be one. `spoiled`: keys whose newest record can not: an
    earlier value holds, where there is one, until the topic is compacted."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    spoiled: set[bytes] = field(default_factory=set)

    def take(self, key: bytes, value: bytes | None, is_row: IsRow) -> None:
        if not is_row(key, value):
            self.spoiled.add(key)
            return
        self.spoiled.discard(key)
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = value


async def read_table(kafka: settings.Kafka, topic: str, is_row: IsRow = anything) -> dict[bytes, bytes]:
    """The rows of `read_rows`."""
    return (await read_rows(kafka, topic, is_row)).rows


async def read_rows(kafka: settings.Kafka, topic: str, is_row: IsRow = anything, bound_s: float = 30.0) -> Table:
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
    table = Table()
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
                        table.take(record.key or b"", record.value, is_row)
    except TimeoutError as e:
        raise KafkaUnavailable(f"{what}: its end was not reached within {bound_s:g} s") from e
    except (kafka_errors.KafkaError, OSError) as e:
        raise as_ours(e, what) from e
    finally:
        await consumer.stop()
    if table.spoiled:
        some = [key[:80].decode("utf-8", "backslashreplace") for key in sorted(table.spoiled)[:5]]
        _log.warning("rows_not_understood", topic=topic, count=len(table.spoiled), keys=some)
    return table
