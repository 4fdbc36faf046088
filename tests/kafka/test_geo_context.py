"""The writer of geo.context: records for readers, which never hold up a geo worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from agents import settings
from agents.core.geo.context import ContextKind, GeoContext, decode_record
from agents.kafka.compacted import read_rows
from agents.kafka.geo_context import WAITING_AT_MOST, GeoContextWriter
from tests.fixtures.kafka import KafkaServer


def record(lane: int, valid_s: float = 60.0) -> GeoContext:
    now = float(int(time.time()))
    return GeoContext(
        kind=ContextKind.TRAFFIC,
        provider="roads",
        fetched_at=now,
        expires_at=now + valid_s,
        lane=lane,
        index=1.5,
    )


@asynccontextmanager
async def writing(kafka: settings.Kafka, topic: str) -> AsyncIterator[GeoContextWriter]:
    writer = GeoContextWriter(kafka, topic)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_records_are_written_with_their_keys_and_expired_ones_are_not(
    kafka_server: KafkaServer,
) -> None:
    topic = await kafka_server.topic("geo-context")
    async with writing(kafka_server.kafka, topic) as writer:
        writer.put([record(1), record(2, -1.0), record(3)])
        async with asyncio.timeout(20):
            while len(rows := (await read_rows(kafka_server.kafka, topic)).rows) < 2:
                await asyncio.sleep(0.05)
    assert rows.keys() == {b"lane-1", b"lane-3"}
    for key, value in rows.items():
        assert decode_record(key, value).index == 1.5


async def test_without_a_broker_nothing_waits_and_memory_is_bounded(
    kafka_server: KafkaServer,
) -> None:
    nowhere = msgspec.structs.replace(kafka_server.kafka, bootstrap="127.0.0.1:9")
    async with writing(nowhere, "geo-context") as writer:
        writer.put(record(n) for n in range(2 * WAITING_AT_MOST))
        await asyncio.sleep(0.2)
        assert writer._waiting.qsize() == WAITING_AT_MOST
