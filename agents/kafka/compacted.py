"""Reads a compacted topic of one partition as a table: the newest value of each key.

The topic `lanemap` is such a table: every published version stays readable, and the highest one is
in force (PROTOCOL 2.12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.base import log
from agents.base.errors import KafkaUnavailable, SettingsError
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.topology import TOPIC_LANEMAP
from agents.kafka.connection import BOUND_S, client_kwargs, make_committed_reader, to_geolane_error

IsRow = Callable[[bytes, bytes | None], bool]
"""Whether a key and its value (None: a tombstone) can come from the topic's own writer."""

_log = log.get_logger("kafka.tables")


def accept_any_row(key: bytes, value: bytes | None) -> bool:
    return True


@dataclass(slots=True)
class Table:
    """`rows`: the newest valid value of each key. `spoiled`: keys whose newest record is not valid.
    Such a key keeps its earlier value, if it has one, until the topic is compacted."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    spoiled: set[bytes] = field(default_factory=set)

    def apply_record(self, key: bytes, value: bytes | None, is_row: IsRow) -> None:
        """Take the next record of the topic; `value` None deletes its key."""
        if not is_row(key, value):
            self.spoiled.add(key)
            return
        self.spoiled.discard(key)
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = value


async def read_table(
    kafka: settings.Kafka, topic: str, is_row: IsRow = accept_any_row
) -> dict[bytes, bytes]:
    """The rows of `read_rows`."""
    return (await read_rows(kafka, topic, is_row)).rows


async def read_rows(
    kafka: settings.Kafka, topic: str, is_row: IsRow = accept_any_row, bound_s: float = 30.0
) -> Table:
    """Read the topic to its end: committed records only, without keys whose newest value is a
    tombstone.

    Records of an open transaction are left out. A caller that has just fenced the topic's only
    writer reads everything that this writer committed, since no transaction of it is open then.
    Raises KafkaUnavailable, also when the end is not reached within `bound_s`; KafkaError."""
    consumer = make_committed_reader(kafka, request_timeout_ms=5000, fetch_max_wait_ms=50)
    partition = TopicPartition(topic, 0)
    table = Table()
    what = f"read the topic {topic}"
    try:
        async with asyncio.timeout(bound_s):
            await consumer.start()
            await consumer._client._wait_on_metadata(
                topic
            )  # raises if a right is missing; without it the consumer retries without end
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        table.apply_record(record.key or b"", record.value, is_row)
    except TimeoutError as e:
        raise KafkaUnavailable(f"{what}: its end was not reached within {bound_s:g} s") from e
    except (kafka_errors.KafkaError, OSError) as e:
        raise to_geolane_error(e, what) from e
    finally:
        await consumer.stop()
    if table.spoiled:
        some = [key[:80].decode("utf-8", "backslashreplace") for key in sorted(table.spoiled)[:5]]
        _log.warning("rows_not_understood", topic=topic, count=len(table.spoiled), keys=some)
    return table


# The lane map


async def publish_lane_map(
    kafka: settings.Kafka, lanemap: LaneMap, *, topic: str = TOPIC_LANEMAP
) -> None:
    """Publish `lanemap` under its version; idempotent.

    Raises SettingsError if that version is published with other content, since routers may use it
    already; KafkaUnavailable."""
    key, value = str(lanemap.version).encode(), lanemap.encode()
    there = (await read_table(kafka, topic, _is_lane_map)).get(key)
    if there == value:
        return
    if there is not None:
        raise SettingsError(
            f"lane map: version {lanemap.version} is published with other content; choose a "
            "higher version"
        )
    producer: Any = AIOKafkaProducer(
        acks="all", enable_idempotence=True, **client_kwargs(kafka)
    )  # Any: no types
    try:
        async with asyncio.timeout(BOUND_S):
            await producer.start()
            await producer.send_and_wait(topic, value, key)
    except (AnyKafkaError, OSError, TimeoutError) as e:
        raise to_geolane_error(e, f"publish lane map {lanemap.version}") from e
    finally:
        await producer.stop()


async def read_newest_lane_map(
    kafka: settings.Kafka, *, topic: str = TOPIC_LANEMAP
) -> LaneMap | None:
    """The lane map in force; None before the first one is published. Records that are not lane maps
    are skipped. Raises KafkaUnavailable."""
    rows = await read_table(kafka, topic, _is_lane_map)
    versions = {int(key): value for key, value in rows.items()}
    return LaneMap.decode(versions[max(versions)]) if versions else None


def _is_lane_map(key: bytes, value: bytes | None) -> bool:
    try:
        return value is not None and str(LaneMap.decode(value).version).encode() == key
    except SettingsError:
        return False
