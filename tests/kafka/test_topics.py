"""PROTOCOL 1: the broker's own time stamps, sizes raised together, compaction by key, and
provisioning that can be repeated."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import InvalidTimestampError

from agents.base.errors import KafkaError
from agents.core.model.topology import (
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_HOTSPOT_STATE,
    TOPIC_HOTSPOTS,
    TOPIC_LANEMAP,
    TOPIC_LANES,
    TOPIC_PLACEMENT,
    TOPIC_RAW,
    TOPIC_RISES,
    TOPIC_UNPLACED,
)
from agents.kafka.compacted import read_table
from agents.kafka.placement_log import PlacementLog
from agents.kafka.topics import (
    MAX_DEAD_BYTES,
    MAX_MESSAGE_BYTES,
    Topic,
    ensure_topics,
    fleet_topics,
    provision_topics,
)
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import consumer, fill, partitions_of, read_all, until

YEAR_2001_MS = 978_912_000_000
IN_A_YEAR_MS = int(time.time() * 1000) + 365 * 86_400_000


async def test_all_topics_are_made_once_and_checked_again(kafka_server: KafkaServer) -> None:
    for _ in range(2):
        await provision_topics(kafka_server.kafka, 6, 2, embedded=True)
    wanted = {TOPIC_RAW: 2, TOPIC_LANES: 6, TOPIC_CLEAN: 6, TOPIC_UNPLACED: 1, TOPIC_DEAD: 1}
    wanted |= {TOPIC_PLACEMENT: 1, TOPIC_LANEMAP: 1}
    wanted |= {TOPIC_HOTSPOTS: 1, TOPIC_RISES: 1, TOPIC_HOTSPOT_STATE: 1}
    async with consumer(kafka_server.kafka, None, []) as c:
        assert {name: len(await partitions_of(c, name)) for name in wanted} == wanted
    with pytest.raises(KafkaError, match=r"events\.lanes has 6 partitions, the settings say 8"):
        await provision_topics(kafka_server.kafka, 8, 2, embedded=True)


async def test_clean_up_policies_are_right_in_any_order(kafka_server: KafkaServer) -> None:
    name = await kafka_server.topic("hotspots", cleanup_policy="delete,compact")
    await ensure_topics(
        kafka_server.kafka, (Topic(name, 1, 16, {"cleanup.policy": "compact,delete"}),)
    )
    wanted = Topic(name, 1, 16, {"cleanup.policy": "compact"})
    with pytest.raises(KafkaError, match=r"cleanup\.policy is delete,compact, it must be compact"):
        await ensure_topics(kafka_server.kafka, (wanted,))


async def test_a_topic_that_would_lose_records_is_refused(kafka_server: KafkaServer) -> None:
    name = await kafka_server.topic("in", message_timestamp_type="CreateTime")
    with pytest.raises(
        KafkaError, match=r"message\.timestamp\.type is CreateTime, it must be LogAppendTime"
    ):
        await ensure_topics(kafka_server.kafka, (Topic(name, 1, 16),))


async def test_disk_is_bounded_on_the_embedded_broker() -> None:
    """Each partition keeps `retention.bytes` and at most one segment more; compacted topics keep
    one value per key."""
    most = 0
    for topic in fleet_topics(32, 4):
        config = topic.wanted_config(embedded=True)
        if "delete" in config["cleanup.policy"]:
            most += topic.partitions * (
                int(config["retention.bytes"]) + int(config["segment.bytes"])
            )
        assert int(config["segment.bytes"]) > MAX_DEAD_BYTES
    assert most < 5 << 30


async def test_the_brokers_time_is_stamped_whatever_the_event_says(
    kafka_server: KafkaServer,
) -> None:
    topic, before = await kafka_server.topic("in"), int(time.time() * 1000)
    for ts in (YEAR_2001_MS, IN_A_YEAR_MS):
        await fill(kafka_server.kafka, topic, [b"x"], timestamp_ms=ts)
    records = await read_all(kafka_server.kafka, topic)
    assert len(records) == 2
    assert all(before - 1000 < r.timestamp < before + 60_000 for r in records)


async def test_old_events_stay_where_event_time_would_have_deleted_them(
    kafka_server: KafkaServer,
) -> None:
    """A replay of 2001 under CreateTime is gone at the next look of retention, and the future is
    refused; not so ours."""
    kafka = kafka_server.kafka
    ours = await kafka_server.topic("ours", retention_ms="3600000")
    theirs = await kafka_server.topic(
        "theirs", retention_ms="3600000", message_timestamp_type="CreateTime"
    )
    with pytest.raises(InvalidTimestampError):
        await fill(kafka, theirs, [b"x"], timestamp_ms=IN_A_YEAR_MS)
    for topic in (ours, theirs):
        await fill(kafka, topic, [b"x"], timestamp_ms=YEAR_2001_MS)
    async with consumer(kafka, None, [(theirs, 0), (ours, 0)]) as c:

        async def deleted() -> bool:
            starts = await c.beginning_offsets([TopicPartition(theirs, 0), TopicPartition(ours, 0)])
            await asyncio.sleep(0.2)
            return bool(starts[TopicPartition(theirs, 0)] == 1)

        await until(deleted, 60)
    assert len(await read_all(kafka, ours)) == 1


@pytest.mark.parametrize("megabytes", [5, 7.9])
async def test_an_event_of_many_megabytes_passes(
    kafka_server: KafkaServer, megabytes: float
) -> None:
    """Through topic, producer and the fetches of a consumer with default settings."""
    topic, value = await kafka_server.topic("events.raw"), b"x" * int(megabytes * (1 << 20))
    await fill(kafka_server.kafka, topic, [b"before", value, b"after"])
    assert [r.value for r in await read_all(kafka_server.kafka, topic)] == [
        b"before",
        value,
        b"after",
    ]


async def test_the_largest_raw_event_fits_into_the_dead_letters_with_its_headers(
    kafka_server: KafkaServer,
) -> None:
    raw = await kafka_server.topic("events.raw")
    dead = await kafka_server.topic("events.dead", max_message_bytes=str(MAX_DEAD_BYTES))
    value = b"x" * (MAX_MESSAGE_BYTES - 100)
    await fill(kafka_server.kafka, raw, [value])
    headers = [
        ("geolane-src", b"events.raw/0/0"),
        ("geolane-reason", b"too_large"),
        ("theirs", b"h" * 4000),
    ]
    await fill(kafka_server.kafka, dead, [value], headers=headers)
    assert [r.value == value for r in await read_all(kafka_server.kafka, dead)] == [True]


async def test_compaction_keeps_the_newest_of_each_key(kafka_server: KafkaServer) -> None:
    """And a table is read to its end across the gaps, written as the coordinator writes it."""
    topic = await kafka_server.topic(
        "placement", cleanup_policy="compact", segment_ms="200", min_cleanable_dirty_ratio="0.01"
    )
    log = PlacementLog(
        kafka_server.kafka, topic=topic, transactional_id=kafka_server.name("geolane-coordinator")
    )
    await log.take_leadership()
    await log.write({"gone": b"x"})
    written = 0

    async def compacted() -> bool:
        nonlocal written
        written += 1
        await log.write({"leader": b"%d" % written, "gone": None})
        records = await read_all(kafka_server.kafka, topic)
        await asyncio.sleep(0.25)
        return len(records) < written

    await until(compacted, 60)
    assert await read_table(kafka_server.kafka, topic) == {b"leader": b"%d" % written}
    await log.stop()
