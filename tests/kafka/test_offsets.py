"""PROTOCOL 2.6 and 2.7: where a new owner starts comes fresh from the broker, and a release waits
until its offset shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from agents.base.errors import KafkaUnavailable
from agents.kafka.offsets import Offsets
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import consumer, fill, lease_maker, leased, until


@asynccontextmanager
async def offsets_of(server: KafkaServer, group: str) -> AsyncIterator[Offsets]:
    offsets = Offsets(server.kafka, group)
    await offsets.start()
    try:
        yield offsets
    finally:
        await offsets.stop()


async def test_a_group_that_never_committed_has_no_offset(kafka_server: KafkaServer) -> None:
    topic = await kafka_server.topic("in", 3)
    parts = [kafka_server.partition(topic, n) for n in range(3)]
    async with offsets_of(kafka_server, kafka_server.name("group")) as offsets:
        assert await offsets.read_committed_offsets(parts) == dict.fromkeys(parts)
        assert await offsets.read_committed_offsets([]) == {}


async def test_metadata_of_a_commit_is_read_back(kafka_server: KafkaServer) -> None:
    topic, group, name = (
        await kafka_server.topic("in", 2),
        kafka_server.name("group"),
        kafka_server.name("tid"),
    )
    part, other = kafka_server.partition(topic, 0), kafka_server.partition(topic, 1)
    counts = '{"in":3,"out":2,"filtered":1,"dead":0}'
    async with lease_maker(kafka_server.kafka) as maker, offsets_of(kafka_server, group) as offsets:
        async with leased(kafka_server.kafka, name, await maker.make_lease(name)) as producer:
            await producer.begin_transaction()
            await producer.send_offsets_to_transaction(
                {TopicPartition(topic, 0): OffsetAndMetadata(3, counts)}, group
            )
            await producer.commit_transaction()

        async def shown() -> bool:
            return (await offsets.read_committed_offsets([part]))[part] is not None

        await until(shown)
        assert await offsets.read_committed_offsets([part, other]) == {
            part: (3, counts),
            other: None,
        }


async def test_once_an_offset_shows_it_shows_to_everybody(kafka_server: KafkaServer) -> None:
    """The release rule: a commit is visible only some ms after it returned, so the old owner waits
    until it sees it; from then on the new owner, on another connection, never reads less."""
    width = 8
    out, topic, group = (
        await kafka_server.topic("out", width),
        await kafka_server.topic("in"),
        kafka_server.name("group"),
    )
    name, part = kafka_server.name("tid"), kafka_server.partition(topic)
    async with (
        lease_maker(kafka_server.kafka) as maker,
        offsets_of(kafka_server, group) as old_owner,
        offsets_of(kafka_server, group) as new_owner,
        leased(kafka_server.kafka, name, await maker.make_lease(name)) as producer,
    ):
        for offset in range(1, 31):
            await producer.begin_transaction()
            for sent in [await producer.send(out, b"x", partition=n) for n in range(width)]:
                await sent
            await producer.send_offsets_to_transaction(
                {TopicPartition(topic, 0): OffsetAndMetadata(offset, "")}, group
            )
            await producer.commit_transaction()
            wanted = {part: (offset, "")}

            async def shown(wanted: object = wanted) -> bool:
                return await old_owner.read_committed_offsets([part]) == wanted

            await until(shown)
            assert await new_owner.read_committed_offsets([part]) == wanted


async def test_the_end_is_that_of_committed_records(kafka_server: KafkaServer) -> None:
    topic, name = await kafka_server.topic("in", 2), kafka_server.name("tid")
    first, second = kafka_server.partition(topic, 0), kafka_server.partition(topic, 1)
    await fill(kafka_server.kafka, topic, [b"1", b"2"])
    async with (
        lease_maker(kafka_server.kafka) as maker,
        offsets_of(kafka_server, kafka_server.name("group")) as offsets,
    ):
        assert await offsets.read_end_offsets([first, second]) == {first: 2, second: 0}
        async with leased(kafka_server.kafka, name, await maker.make_lease(name)) as producer:
            await producer.begin_transaction()
            await (await producer.send(topic, b"3", partition=0))
            assert await offsets.read_end_offsets([first]) == {first: 2}
            await producer.commit_transaction()

        async def behind_the_marker() -> bool:
            return await offsets.read_end_offsets([first]) == {first: 4}

        await until(behind_the_marker)


async def test_a_partition_that_does_not_exist_is_an_error_within_the_bound(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with offsets_of(kafka_server, kafka_server.name("group")) as offsets:
        monkeypatch.setattr("agents.kafka.offsets.ANSWER_BOUND_S", 0.3)
        with pytest.raises(KafkaUnavailable, match="ends of partitions"):
            await offsets.read_end_offsets([kafka_server.partition("no-such-topic")])


async def test_without_a_reset_a_missing_offset_does_not_start_anywhere(
    kafka_server: KafkaServer,
) -> None:
    """Pins aiokafka for PROTOCOL 2.7: with `auto_offset_reset="none"` and an explicit seek nothing
    is ever guessed."""
    topic = await kafka_server.topic("in")
    await fill(kafka_server.kafka, topic, [b"1", b"2", b"3"])
    async with consumer(kafka_server.kafka, None, [(topic, 0)], auto_offset_reset="none") as c:
        c.seek(TopicPartition(topic, 0), 1)
        got = await c.getmany(timeout_ms=5000)
        assert [r.offset for records in got.values() for r in records] == [1, 2]
