"""How analytics reads names from `geo.context`: those that are there, those that come, rubbish, a
topic that is made later (agents/kafka/cell_names.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from structlog.testing import capture_logs

from agents import settings
from agents.core.geo.cell_names import CellName, CellNames
from agents.core.geo.context import ContextKind, GeoContext
from agents.kafka.cell_names import CellNameReader
from agents.kafka.topics import Topic, ensure_topics
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import fill, until

DALLAS, PARIS = "8426cb7ffffffff", "841fb47ffffffff"


def named(cell: str, name: str, *, valid_s: int = 86_400) -> GeoContext:
    now = int(time.time())
    return GeoContext(
        kind=ContextKind.NAME,
        cell=cell,
        name=name,
        provider="offline",
        fetched_at=now,
        expires_at=now + valid_s,
    )


async def write(kafka: settings.Kafka, topic: str, *records: GeoContext) -> None:
    for record in records:
        await fill(kafka, topic, [record.encode()], key=record.key.encode())


@asynccontextmanager
async def read(kafka: settings.Kafka, topic: str) -> AsyncIterator[CellNames]:
    names = CellNames()
    task = asyncio.create_task(CellNameReader(kafka, topic, names, absent_s=0.2).run())
    try:
        yield names
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_named(names: CellNames, cell: str, name: str) -> None:
    async def done() -> bool:
        return names.name_of(cell, time.time()) == CellName(name, "offline")

    await until(done, 20)


async def test_names_that_are_there_and_names_that_come(kafka_server: KafkaServer) -> None:
    topic, kafka = await kafka_server.topic("context"), kafka_server.kafka
    await write(kafka, topic, named(DALLAS, "Dallas, US"))
    async with read(kafka, topic) as names:
        await until_named(names, DALLAS, "Dallas, US")
        await write(kafka, topic, named(DALLAS, "Irving, US"), named(PARIS, "Paris, FR"))
        await until_named(names, PARIS, "Paris, FR")
        await until_named(names, DALLAS, "Irving, US")


async def test_what_is_lent_and_what_no_geo_worker_can_have_written_is_left_out(
    kafka_server: KafkaServer,
) -> None:
    topic, kafka = await kafka_server.topic("context"), kafka_server.kafka
    with capture_logs() as logs:
        async with read(kafka, topic) as names:
            await write(kafka, topic, named(DALLAS, "Dallas, US", valid_s=300))
            await fill(kafka, topic, [b"{}", b"null", b"\xff", b""], key=DALLAS.encode())
            await fill(kafka, topic, [named(DALLAS, "Nowhere").encode()], key=b"another")
            await write(kafka, topic, named(PARIS, "Paris, FR"))
            await until_named(names, PARIS, "Paris, FR")
            assert not names.name_of(DALLAS, time.time()).name
    assert [x["event"] for x in logs].count("geo_record_skipped") == 1


async def test_a_topic_that_is_made_later_is_read_then(kafka_server: KafkaServer) -> None:
    topic, kafka = kafka_server.name("context"), kafka_server.kafka
    async with read(kafka, topic) as names:
        await asyncio.sleep(0.5)
        await ensure_topics(kafka, (Topic(topic, 1, 8),), embedded=True)
        await write(kafka, topic, named(PARIS, "Paris, FR"))
        await until_named(names, PARIS, "Paris, FR")
