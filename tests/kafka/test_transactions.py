"""PROTOCOL 3, and 2.9: what Kafka and aiokafka do that the transaction loop has its rules for. Each
test pins one trap."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.structs import OffsetAndMetadata

from agents import settings
from agents.core.model.messages import LeaseCommand
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.kafka.producer import LeasedProducer
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import consumer, fill, lease_maker, leased, read_all, until


async def test_a_failed_send_does_not_fail_the_commit(kafka_server: KafkaServer) -> None:
    """Why every send is awaited before the offsets are sent (3.2): here the offset goes forward and
    the output is lost."""
    kafka, group, name = kafka_server.kafka, kafka_server.name("group"), kafka_server.name("tid")
    topic, out = await kafka_server.topic("in"), await kafka_server.topic("out")
    await shrink(kafka_server, out, 20_000)
    offsets, part = Offsets(kafka, group), kafka_server.partition(topic)
    await offsets.start()
    async with lease_maker(kafka) as maker:
        lease = await maker.make_lease(name)
        async with leased(
            kafka, name, lease, max_request_size=8 << 20, max_batch_size=100
        ) as producer:
            await producer.begin_transaction()
            failed = await producer.send(out, b"y" * 50_000, partition=0)
            done, _ = await asyncio.wait([failed], timeout=10)
            assert done
            await producer.send_offsets_to_transaction(
                {TopicPartition(topic, 0): OffsetAndMetadata(7, "")}, group
            )
            await producer.commit_transaction()
            with pytest.raises(KafkaError):
                await failed

    async def shown() -> bool:
        return await offsets.read_committed_offsets([part]) == {part: (7, "")}

    await until(shown)
    assert await read_all(kafka, out) == []
    await offsets.stop()


async def test_markers_are_written_once_more_when_a_connection_was_lost(
    kafka_server: KafkaServer,
) -> None:
    """A broker that was killed in the middle may have forgotten them."""
    kafka, name, group = kafka_server.kafka, kafka_server.name("tid"), kafka_server.name("group")
    topic, out = await kafka_server.topic("in"), await kafka_server.topic("out", 2)
    async with lease_maker(kafka) as maker:
        producer = LeasedProducer(kafka, LeaseCommand(1, "b", name, *await maker.make_lease(name)))
    await producer.start()

    async def transact(offset: int, n: int, *wanted: int) -> None:
        batch = producer.new_batch()
        batch.append(key=None, value=b"%d" % offset, timestamp=None)
        await producer.send_transaction(
            {(out, n): [batch]}, {kafka_server.partition(topic): (offset, "")}, group
        )

        async def there() -> bool:
            return await ends(kafka, out) == wanted

        await until(there)  # a commit is answered before its markers are written

    await transact(1, 0, 2, 0)  # a record and a marker
    await transact(2, 1, 2, 2)
    assert not producer.may_lack_markers
    for connection in producer._producer.client._conns.values():
        connection.close()
    await transact(3, 0, 4, 3)  # a marker more in the one before
    assert not producer.may_lack_markers
    await transact(4, 0, 6, 3)
    assert sorted(r.value for r in await read_all(kafka, out)) == [b"1", b"2", b"3", b"4"]
    await producer.stop()


async def ends(kafka: settings.Kafka, topic: str) -> tuple[int, int]:
    """The offsets behind the last record or marker of its two partitions."""
    tps = [TopicPartition(topic, n) for n in (0, 1)]
    async with consumer(kafka, None, tps) as c:
        found = await c.end_offsets(tps)
        return found[tps[0]], found[tps[1]]


async def test_an_abort_does_not_rewind_the_consumer(kafka_server: KafkaServer) -> None:
    """Why every partition is sought back to its batch's start after an abort (3.3)."""
    kafka, name = kafka_server.kafka, kafka_server.name("tid")
    topic, out = await kafka_server.topic("in"), await kafka_server.topic("out")
    await fill(kafka, topic, (b"%d" % i for i in range(20)))
    tp = TopicPartition(topic, 0)
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as producer,
        consumer(kafka, None, [tp]) as c,
    ):
        await c.getmany(timeout_ms=5000, max_records=10)
        await producer.begin_transaction()
        await (await producer.send(out, b"z", partition=0))
        await producer.abort_transaction()
        assert await c.position(tp) == 10
        c.seek(tp, 0)
        again = await c.getmany(timeout_ms=5000, max_records=10)
        assert [r.offset for r in again[tp]] == list(range(10))


async def test_an_unknown_partition_raises_in_the_middle_and_the_transaction_would_still_commit(
    kafka_server: KafkaServer,
) -> None:
    """Why the producer looks whether it knows a partition before the transaction begins."""
    kafka, name, out = kafka_server.kafka, kafka_server.name("tid"), await kafka_server.topic("out")
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as producer,
    ):
        await producer.begin_transaction()
        await (await producer.send(out, b"half", partition=0))
        with pytest.raises(AssertionError):
            await producer.send(out, b"other half", partition=5)
        await producer.commit_transaction()

    async def half() -> bool:
        return [r.value for r in await read_all(kafka, out)] == [b"half"]

    await until(half)


async def test_offsets_are_accepted_from_who_is_not_in_the_group(kafka_server: KafkaServer) -> None:
    """Why routers are leased too (2.9): aiokafka sends the group id only, so that the group's own
    fencing sees nothing."""
    kafka, group, name = kafka_server.kafka, kafka_server.name("group"), kafka_server.name("tid")
    topic = await kafka_server.topic("in")
    await fill(kafka, topic, [b"1"])
    offsets, part = Offsets(kafka, group), kafka_server.partition(topic)
    await offsets.start()
    async with (
        consumer(kafka, group, []) as member,
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as stranger,
    ):
        member.unsubscribe()
        member.subscribe([topic])
        assert await member.getmany(timeout_ms=10_000)
        await stranger.begin_transaction()
        await stranger.send_offsets_to_transaction(
            {TopicPartition(topic, 0): OffsetAndMetadata(999, "")}, group
        )
        await stranger.commit_transaction()

        async def accepted() -> bool:
            return await offsets.read_committed_offsets([part]) == {part: (999, "")}

        await until(accepted)
    await offsets.stop()


async def test_a_batch_that_is_full_says_so_instead_of_taking_the_record(
    kafka_server: KafkaServer,
) -> None:
    """Why `append`'s answer is checked (3.4): None means that the record is not in the batch."""
    kafka, name = kafka_server.kafka, kafka_server.name("tid")
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name), max_batch_size=1000) as producer,
    ):
        batch = producer.create_batch()
        assert batch.append(key=None, value=b"x" * 600, timestamp=None) is not None
        assert batch.append(key=None, value=b"x" * 600, timestamp=None) is None
        assert batch.record_count() == 1


async def test_a_producer_refuses_what_is_above_its_own_limit(kafka_server: KafkaServer) -> None:
    kafka, name, out = kafka_server.kafka, kafka_server.name("tid"), await kafka_server.topic("out")
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as producer,
    ):
        await producer.begin_transaction()
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send(out, b"x" * (2 << 20), partition=0)
        await producer.abort_transaction()


async def shrink(server: KafkaServer, topic: str, max_bytes: int) -> None:
    """Lower a topic's limit, as `ensure_topics` never would."""
    admin = AIOKafkaAdminClient(**client_kwargs(server.kafka))
    await admin.start()
    try:
        config = {"max.message.bytes": str(max_bytes)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    finally:
        await admin.close()
