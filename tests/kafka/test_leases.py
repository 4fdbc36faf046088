"""PROTOCOL 2.1 and 2.2: a lease is all that lets a worker commit, and a fence ends it whatever the
worker is doing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import consumer, fill, lease_maker, leased, read_all, until, work

FENCED = (ProducerFenced, InvalidProducerEpoch)


async def test_a_lease_made_anew_has_a_higher_epoch(kafka_server: KafkaServer) -> None:
    async with lease_maker(kafka_server.kafka) as maker:
        name = kafka_server.name("geolane-node")
        first, second = await maker.make_lease(name), await maker.make_lease(name)
        assert second[0] == first[0]
        assert second[1] > first[1]


async def test_leases_of_different_workers_are_made_at_the_same_time(
    kafka_server: KafkaServer,
) -> None:
    async with lease_maker(kafka_server.kafka) as maker:
        leases = await asyncio.gather(
            *(maker.make_lease(kafka_server.name("geolane-node")) for _ in range(20))
        )
    assert len({producer_id for producer_id, _ in leases}) == 20


async def test_a_producer_starts_with_exactly_the_lease_it_is_given(
    kafka_server: KafkaServer,
) -> None:
    """Pins aiokafka: `_txn_manager.set_pid_and_epoch` before `start()` keeps it from calling
    InitProducerId."""
    topic, name = await kafka_server.topic("out"), kafka_server.name("geolane-node")
    async with lease_maker(kafka_server.kafka) as maker:
        lease = await maker.make_lease(name)
        async with leased(kafka_server.kafka, name, lease) as producer:
            asked: list[int] = []
            producer._sender._do_init_pid = asked.append
            assert (
                producer._txn_manager.producer_id,
                producer._txn_manager.producer_epoch,
            ) == lease
            await producer.begin_transaction()
            await (await producer.send(topic, b"a", partition=0))
            await producer.commit_transaction()
            assert (
                producer._txn_manager.producer_id,
                producer._txn_manager.producer_epoch,
            ) == lease
            assert asked == []
        assert (await maker.make_lease(name)) == (
            lease[0],
            lease[1] + 1,
        )  # nobody else had taken an epoch in between


async def test_a_fence_aborts_the_open_transaction(kafka_server: KafkaServer) -> None:
    kafka, name = kafka_server.kafka, kafka_server.name("geolane-node")
    topic, out, group = (
        await kafka_server.topic("in"),
        await kafka_server.topic("out"),
        kafka_server.name("group"),
    )
    await fill(kafka, topic, (b"%d" % i for i in range(10)))
    offsets = Offsets(kafka, group)
    await offsets.start()
    async with (
        lease_maker(kafka) as maker,
        consumer(kafka, group, [(topic, 0)]) as c,
        leased(kafka, name, await maker.make_lease(name)) as producer,
    ):
        assert await work(producer, c, out, group, 4) == 4
        await until_shown(offsets, kafka_server, topic, 4)
        assert await work(producer, c, out, group, 4, commit=False) == 4
        await maker.make_lease(name)
        part = kafka_server.partition(topic)
        assert await offsets.read_committed_offsets([part]) == {part: (4, "")}
        assert len(await read_all(kafka, out)) == 4
        assert len(await read_all(kafka, out, isolation="read_uncommitted")) == 8
    await offsets.stop()


async def test_a_fenced_worker_cannot_commit_what_it_has_open(kafka_server: KafkaServer) -> None:
    kafka, name = kafka_server.kafka, kafka_server.name("geolane-node")
    out = await kafka_server.topic("out")
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as producer,
    ):
        await producer.begin_transaction()
        await (await producer.send(out, b"zombie", partition=0))
        await maker.make_lease(name)
        with pytest.raises(FENCED):
            await producer.commit_transaction()
    assert await read_all(kafka, out) == []


async def test_a_fenced_worker_cannot_send(kafka_server: KafkaServer) -> None:
    kafka, name = kafka_server.kafka, kafka_server.name("geolane-node")
    out = await kafka_server.topic("out")
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as producer,
    ):
        await maker.make_lease(name)
        await producer.begin_transaction()
        with pytest.raises(FENCED):
            await (await producer.send(out, b"zombie", partition=0))
    assert await read_all(kafka, out) == []


async def test_a_fenced_worker_cannot_move_an_offset(kafka_server: KafkaServer) -> None:
    """Also not when the offsets were announced to the transaction before the fence and are sent
    after it."""
    kafka, name, group = (
        kafka_server.kafka,
        kafka_server.name("geolane-node"),
        kafka_server.name("group"),
    )
    topic, out = await kafka_server.topic("in"), await kafka_server.topic("out")
    offsets, part = Offsets(kafka, group), kafka_server.partition(topic)
    await offsets.start()
    async with (
        lease_maker(kafka) as maker,
        leased(kafka, name, await maker.make_lease(name)) as producer,
    ):
        announced, go_on = asyncio.Event(), asyncio.Event()
        commit = producer._sender._do_txn_offset_commit

        async def late(*args: Any) -> None:
            announced.set()
            await go_on.wait()
            await commit(*args)

        producer._sender._do_txn_offset_commit = late
        await producer.begin_transaction()
        await (await producer.send(out, b"zombie", partition=0))
        sending = asyncio.ensure_future(
            producer.send_offsets_to_transaction(
                {TopicPartition(topic, 0): OffsetAndMetadata(999, "")}, group
            )
        )
        await announced.wait()
        await maker.make_lease(name)
        go_on.set()
        with pytest.raises(FENCED):
            await asyncio.wait_for(sending, 5)
        assert await offsets.read_committed_offsets([part]) == {part: None}
    await offsets.stop()


async def test_a_zombie_that_could_make_its_own_lease_would_double_records(
    kafka_server: KafkaServer,
) -> None:
    """The hole that 2.1 closes: a fenced node that starts a producer of its own, as aiokafka's do,
    commits what is with another node by now. Its group offsets are no protection."""
    kafka, name, group = (
        kafka_server.kafka,
        kafka_server.name("geolane-node"),
        kafka_server.name("group"),
    )
    topic, out = await kafka_server.topic("in"), await kafka_server.topic("out")
    await fill(kafka, topic, (b"%d" % i for i in range(20)))
    async with lease_maker(kafka) as maker, consumer(kafka, group, [(topic, 0)]) as zombie_position:
        await maker.make_lease(name)
        other = kafka_server.name("geolane-node")
        async with (
            leased(kafka, other, await maker.make_lease(other)) as new_owner,
            consumer(kafka, group, [(topic, 0)]) as c,
        ):
            assert await work(new_owner, c, out, group, 10) == 10
        revived = AIOKafkaProducer(
            transactional_id=name, retry_backoff_ms=5, **client_kwargs(kafka)
        )
        await revived.start()
        assert await work(revived, zombie_position, out, group, 5) == 5
        await revived.stop()

    async def doubled() -> bool:
        return len(await read_all(kafka, out)) == 15

    await until(doubled)


async def test_the_old_lease_started_again_still_commits_nothing(kafka_server: KafkaServer) -> None:
    """A zombie has only what it was given: without InitProducerId it cannot revive itself."""
    kafka, name, group = (
        kafka_server.kafka,
        kafka_server.name("geolane-node"),
        kafka_server.name("group"),
    )
    topic, out = await kafka_server.topic("in"), await kafka_server.topic("out")
    await fill(kafka, topic, [b"1"])
    async with lease_maker(kafka) as maker:
        lease = await maker.make_lease(name)
        await maker.make_lease(name)
        async with leased(kafka, name, lease) as revived, consumer(kafka, group, [(topic, 0)]) as c:
            with pytest.raises(FENCED):
                await work(revived, c, out, group, 10)
    assert await read_all(kafka, out) == []


async def test_a_commit_that_races_a_fence_counts_whole_or_not_at_all(
    kafka_server: KafkaServer,
) -> None:
    """The offset fetched after the fence is final, and the outputs agree with it."""
    kafka, group, width, rounds = kafka_server.kafka, kafka_server.name("group"), 6, 18
    topic, out = await kafka_server.topic("in", width), await kafka_server.topic("out", width)
    offsets, parts = Offsets(kafka, group), [kafka_server.partition(topic, n) for n in range(width)]
    await offsets.start()
    won = []
    async with lease_maker(kafka) as maker:
        for i in range(1, rounds + 1):
            name = kafka_server.name("geolane-node")
            async with leased(kafka, name, await maker.make_lease(name)) as producer:
                await producer.begin_transaction()
                await asyncio.gather(
                    *[await producer.send(out, b"%d" % i, partition=n) for n in range(width)]
                )
                await producer.send_offsets_to_transaction(
                    {TopicPartition(topic, n): OffsetAndMetadata(i, "") for n in range(width)},
                    group,
                )
                committing = asyncio.ensure_future(producer.commit_transaction())
                await asyncio.sleep(
                    i % 6 * 0.001
                )  # not waiting for anything: another interleaving each round
                await maker.make_lease(name)
                after_fence = await offsets.read_committed_offsets(parts)
                outcome = (
                    await asyncio.gather(asyncio.wait_for(committing, 5), return_exceptions=True)
                )[0]
                assert outcome is None or isinstance(outcome, KafkaError)
                assert await offsets.read_committed_offsets(parts) == after_fence
                shown = {found[0] if found else 0 for found in after_fence.values()}
                assert len(shown) == 1, "a commit counted for some partitions only"
                if shown == {i}:
                    won.append(i)
                else:
                    assert outcome is not None, "the worker was told that its commit counted"
    written = sorted(int(r.value) for r in await read_all(kafka, out))
    assert written == sorted(won * width)
    await offsets.stop()


async def until_shown(offsets: Offsets, server: KafkaServer, topic: str, offset: int) -> None:
    part = server.partition(topic)

    async def shown() -> bool:
        return (await offsets.read_committed_offsets([part]))[part] == (offset, "")

    await until(shown)


def test_a_worker_has_no_code_that_makes_leases() -> None:
    """What a node or router imports holds no way to InitProducerId but aiokafka's own, which a
    given lease keeps unused."""
    program = (
        "import sys, agents.node.process, agents.router.process; "
        "print('agents.kafka.leases' "
        "in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
