"""What `rewind` rests on: record and offset are set in one transaction of the leader's, who is
deposed sets neither, and who leads next sees the offset that goes with the record it read
(core/fleet/rewinds.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from agents.base.errors import KafkaUnavailable, LeadershipLost
from agents.coordinator.queries import Rewinding
from agents.core.fleet.rewinds import AwaitCommitted, LookBack, Past, ReadCommitted
from agents.core.model.topology import WorkerKind
from agents.kafka.offsets import Offsets
from agents.kafka.placement_log import PlacementLog
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import fill, lease_maker, leased, until

NewLog = Callable[[], PlacementLog]
KEY = "main/events.lanes/0"


@pytest_asyncio.fixture
async def new_log(kafka_server: KafkaServer) -> AsyncIterator[NewLog]:
    """Makes the logs of one coordinator's successive processes."""
    topic = await kafka_server.topic("placement", cleanup_policy="compact")
    transactional_id, logs = kafka_server.name("geolane-coordinator"), []

    def make() -> PlacementLog:
        logs.append(
            PlacementLog(kafka_server.kafka, topic=topic, transactional_id=transactional_id)
        )
        return logs[-1]

    yield make
    for log in logs:
        await log.stop()


@pytest_asyncio.fixture
async def group(kafka_server: KafkaServer) -> AsyncIterator[Offsets]:
    offsets = Offsets(kafka_server.kafka, kafka_server.name("group"))
    await offsets.start()
    yield offsets
    await offsets.stop()


async def test_a_worker_that_has_gone_is_set_back_with_the_record(
    new_log: NewLog, group: Offsets, kafka_server: KafkaServer
) -> None:
    topic, name = await kafka_server.topic("lanes"), kafka_server.name("tid")
    part, log = kafka_server.partition(topic), new_log()
    async with (
        lease_maker(kafka_server.kafka) as maker,
        leased(kafka_server.kafka, name, await maker.make_lease(name)) as worker,
    ):
        await worker.begin_transaction()
        await worker.send_offsets_to_transaction(
            {TopicPartition(topic, 0): OffsetAndMetadata(9, "c")}, group._group
        )
        await worker.commit_transaction()
    await log.take_leadership()
    await log.write({KEY: b"back"}, {group._group: {part: (2, "c")}})

    async def back() -> bool:
        return await group.read_committed_offsets([part]) == {part: (2, "c")}

    await until(back)
    assert (await new_log().take_leadership())[KEY] == b"back"


async def test_a_deposed_coordinator_sets_nothing_back(
    new_log: NewLog, group: Offsets, kafka_server: KafkaServer
) -> None:
    part, old, new = kafka_server.partition(await kafka_server.topic("lanes")), new_log(), new_log()
    await old.take_leadership()
    await new.take_leadership()
    with pytest.raises(LeadershipLost):
        await old.write({KEY: b"zombie"}, {group._group: {part: (2, "")}})
    await new.write({KEY: b"mine"}, {group._group: {part: (5, "")}})

    async def mine() -> bool:
        return await group.read_committed_offsets([part]) == {part: (5, "")}

    await until(mine)


async def test_who_leads_next_sees_the_offset_of_the_record_that_it_read(
    new_log: NewLog, group: Offsets, kafka_server: KafkaServer
) -> None:
    """Also of one whose leader was cut off in the middle of it: both, or neither."""
    part, leader = kafka_server.partition(await kafka_server.topic("lanes")), new_log()
    await leader.take_leadership()
    await leader.write({KEY: b"100"}, {group._group: {part: (100, "")}})
    for i in range(99, 79, -1):
        following = new_log()
        writing = asyncio.ensure_future(
            leader.write({KEY: b"%d" % i}, {group._group: {part: (i, "")}})
        )
        if i % 2:
            await writing
        else:
            await asyncio.sleep(
                i % 8 * 0.002
            )  # not waiting for anything: another interleaving each round
        record = int((await following.take_leadership())[KEY])
        shown = (await group.read_committed_offsets([part]))[part]
        assert shown == (record, ""), "the markers were written before InitProducerId answered"
        outcome = (await asyncio.gather(writing, return_exceptions=True))[0]
        assert outcome is None or isinstance(outcome, LeadershipLost | KafkaUnavailable)
        assert outcome is not None or record == i
        leader = following


async def test_only_what_counts_is_counted(kafka_server: KafkaServer, group: Offsets) -> None:
    topic, name, other = (
        await kafka_server.topic("lanes"),
        kafka_server.name("tid"),
        kafka_server.name("other"),
    )
    part = kafka_server.partition(topic)
    begun_ms = int(time.time() * 1000)
    async with lease_maker(kafka_server.kafka) as maker:
        async with leased(kafka_server.kafka, name, await maker.make_lease(name)) as producer:
            for keep in (True, False, True):
                await producer.begin_transaction()
                for sent in [await producer.send(topic, b"x", partition=0) for _ in range(3)]:
                    await sent
                await (producer.commit_transaction() if keep else producer.abort_transaction())
        async with leased(kafka_server.kafka, other, await maker.make_lease(other)) as worker:
            await worker.begin_transaction()
            await worker.send_offsets_to_transaction(
                {TopicPartition(topic, 0): OffsetAndMetadata(11, "c")}, group._group
            )
            await worker.commit_transaction()
    back = Rewinding(kafka_server.kafka, {WorkerKind("node", part.topic): group})
    async with asyncio.timeout(10):
        await back.await_committed(AwaitCommitted(part, 11))
    assert await back.read_committed(ReadCommitted(part)) == (11, "c")
    assert await back.read_past(LookBack(part, offset=0)) == Past(0, 12, 11, 0, 6), (
        "no markers, nothing aborted"
    )
    assert await back.read_past(LookBack(part, offset=2)) == Past(0, 12, 11, 2, 4)
    assert await back.read_past(LookBack(part, offset=12)) == Past(0, 12, 11, 12)
    assert await back.read_past(LookBack(part, since_ms=begun_ms - 60_000)) == Past(0, 12, 11, 0, 6)
    assert (await back.read_past(LookBack(part, since_ms=begun_ms + 3_600_000))).target is None


async def test_the_first_that_is_still_there_is_told(
    kafka_server: KafkaServer, group: Offsets
) -> None:
    topic = await kafka_server.topic("lanes", 2)
    part, empty = kafka_server.partition(topic, 0), kafka_server.partition(topic, 1)
    await fill(kafka_server.kafka, topic, [b"1", b"2"])
    assert await group.read_beginning_offsets([part, empty]) == {part: 0, empty: 0}
    assert await group.read_offsets_since(0, [part, empty]) == {part: 0, empty: -1}
