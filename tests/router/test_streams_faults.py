"""What stops the engine on Kafka Streams, and what does not: records that Kafka's Java client
cannot read, and topics that do not take what they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from agents.kafka.connection import client_kwargs
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.worker.stage import Topics
from tests.fixtures import foreign
from tests.fixtures.foreign import HEAD, Foreign
from tests.fixtures.kafka import KafkaServer
from tests.router.streams import Out, needs_jars
from tests.router.test_router import router
from tests.router.test_streams_engine import PROTOCOLS, Started, Streams, by_partition, streams
from tests.worker.support import Rig, Running, event, until

pytestmark = [needs_jars, pytest.mark.stack, pytest.mark.timeout(300)]
ZEROS = 600 << 20  # more than the heap of the test's program


def _segment(server: KafkaServer, topic: str) -> Path:
    [log] = server.broker.folder.rglob(f"{topic}-0/*.log")
    return log


def _rubbish(batch: bytearray) -> None:
    batch[HEAD.size :] = bytes(len(batch) - HEAD.size)


def _unknown_codec(batch: bytearray) -> None:
    batch[22] = batch[22] & ~7 | 5


def _damage(batch: bytearray) -> None:
    batch[-1] ^= 1


async def _other_topics(s: Streams, limit: int = 1 << 20, dead: int = MAX_DEAD_BYTES) -> Topics:
    server = s.r.server
    return Topics(
        raw=s.r.topics.raw,
        lanes=await server.topic("lanes", 4, max_message_bytes=str(limit)),
        unplaced=await server.topic("unplaced", max_message_bytes=str(limit)),
        dead=await server.topic("dead", max_message_bytes=str(dead)),
        router_group=server.name("group"),
    )


async def _work_in_python(r: Rig, topics: Topics) -> Running:
    """The engine in Python on the same raw partitions, with outputs of its own."""
    mine, r.topics = r.topics, topics
    try:
        python = await r.engine(router(r), worker="python")
    finally:
        r.topics = mine
    await python.assign((0, 1, 0), (1, 1, 0))
    return python


def _sorted(records: Iterable[Out], topics: Topics) -> list[str]:
    """As text, in which details name the topics by their usual names."""
    usual, texts = Topics(), [repr(x) for x in records]
    for own, name in (
        (topics.lanes, usual.lanes),
        (topics.unplaced, usual.unplaced),
        (topics.dead, usual.dead),
    ):
        texts = [text.replace(f" {own}", f" {name}") for text in texts]
    return sorted(texts)


async def _assert_same(r: Rig, mine: Topics, theirs: Topics) -> None:
    for one, other in (
        (mine.lanes, theirs.lanes),
        (mine.unplaced, theirs.unplaced),
        (mine.dead, theirs.dead),
    ):
        found, expected = await by_partition(r, one), await by_partition(r, other)
        assert found.keys() == expected.keys()
        for n, records in expected.items():  # the raw partitions come together in any order
            assert _sorted(found[n], mine) == _sorted(records, theirs)


@PROTOCOLS
async def test_what_java_cannot_read_becomes_what_python_makes_of_it(
    kafka_server: KafkaServer, protocol: str
) -> None:
    async with streams(kafka_server) as s, foreign.sender(s.r.kafka) as sender:
        r = s.r
        good = [Foreign(event(i), b"k") for i in range(3)]
        sent = 0
        bad: dict[int, Callable[[bytearray], None]] = {}
        for batch, count, harm in (
            (foreign.batch(good), 3, None),
            (foreign.batch(good, foreign.GZIP), 3, _rubbish),
            (foreign.batch(good), 3, None),
            (foreign.batch(good, foreign.ZSTD), 3, _unknown_codec),
            (foreign.batch([Foreign(bytes(ZEROS))], foreign.ZSTD), 1, None),
            (foreign.batch(good), 3, None),
        ):
            assert (await sender.send(r.topics.raw, 0, batch))[0] == 0
            if harm is not None:
                bad[sent] = harm
            sent += count
        await r.fill(r.topics.raw, 1, [event(i) for i in range(20)])
        foreign.rewrite(_segment(kafka_server, r.topics.raw), bad)
        theirs = await _other_topics(s)
        python = await _work_in_python(r, theirs)
        w = await s.start(protocol=protocol)
        await w.until_taken(sent + 20)
        await until(lambda: sum(x.taken for x in python.engine.meters.done.values()) == sent + 20)
        await _assert_same(r, r.topics, theirs)
        dead = await r.read(r.topics.dead, 7)
        assert {dict(x.headers)["geolane-reason"] for x in dead} == {b"unreadable"}
        await r.fill(r.topics.raw, 0, [event(i) for i in range(20)])
        await w.until_taken(sent + 40)
        assert not any(lane.fault for lane in w.engine.take_load()[0])


async def _commit(r: Rig, offset: int) -> None:
    consumer = AIOKafkaConsumer(
        **client_kwargs(r.kafka), group_id=r.topics.router_group, enable_auto_commit=False
    )
    raw = TopicPartition(r.topics.raw, 0)
    async with consumer:
        consumer.assign([raw])
        await consumer.commit({raw: offset})


def _fault(w: Started, n: int) -> str:
    return next((x.fault for x in w.engine.owned_partitions() if x.partition.n == n), "")


@PROTOCOLS
async def test_a_wrong_checksum_stops_its_partition_alone(
    kafka_server: KafkaServer, protocol: str
) -> None:
    async with streams(kafka_server) as s, foreign.sender(s.r.kafka) as sender:
        r = s.r
        for _ in range(3):
            batch = foreign.batch([Foreign(event(i)) for i in range(3)])
            assert (await sender.send(r.topics.raw, 0, batch))[0] == 0
        await r.fill(r.topics.raw, 1, [event(i) for i in range(20)])
        foreign.rewrite(_segment(kafka_server, r.topics.raw), {3: _damage}, checksum=False)
        w = await s.start(protocol=protocol)
        await w.until_taken(23)
        await until(lambda: "wrong checksum" in _fault(w, 0), 60)
        assert "raw 0 to=6 goes on behind it)" in _fault(w, 0)
        await r.fill(r.topics.raw, 1, [event(i) for i in range(20, 40)])
        await w.until_taken(43)
        assert [lane.fault[:8] for lane in w.engine.take_load()[0]] == ["a record", ""]
        await w.stop()
        await _commit(r, 6)  # as `reset` does
        again = await s.start(protocol=protocol)
        await again.until_taken(3)
        assert len(set(await r.sources(r.topics.lanes, 46))) == 46


async def test_an_offset_that_is_gone_stops_its_partition_alone(kafka_server: KafkaServer) -> None:
    async with streams(kafka_server) as s:
        r = s.r
        for n in range(2):
            await r.fill(r.topics.raw, n, [event(i) for i in range(10)])
        w = await s.start()
        await w.until_taken(20)
        await w.stop()
        for n in range(2):
            await r.fill(r.topics.raw, n, [event(i) for i in range(10, 20)])
        admin = AIOKafkaAdminClient(**client_kwargs(r.kafka))
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(r.topics.raw, 0): RecordsToDelete(15)})
        finally:
            await admin.close()
        w = await s.start()
        await w.until_taken(10)
        await until(lambda: "offset 10 is gone, its log begins at 15" in _fault(w, 0), 60)


async def test_an_output_that_takes_less_than_raw_costs_single_events(
    kafka_server: KafkaServer,
) -> None:
    """Also if many small ones are more than it takes."""
    async with streams(kafka_server) as s:
        r = s.r
        sizes = [100, 700, 900, 1000, 1100, 1500, 2500, 20_000]
        for n in range(2):
            records = [
                event(i, pad="z" * size) if i % 3 else place(i, size)
                for i, size in enumerate(sizes * 30)
            ]
            await r.fill(r.topics.raw, n, [*records, b"{" + b"z" * 3000])
        mine, theirs = await _other_topics(s, 1200, 2000), await _other_topics(s, 1200, 2000)
        total = 2 * (len(sizes) * 30 + 1)
        python = await _work_in_python(r, theirs)
        w = await s.start(topics=mine)
        await w.until_taken(total)
        await until(lambda: sum(x.taken for x in python.engine.meters.done.values()) == total, 60)
        await _assert_same(r, mine, theirs)
        reasons = [dict(x.headers)["geolane-reason"] for x in await r.read(mine.dead)]
        assert reasons.count(b"too_large") > 100


def place(i: int, size: int) -> bytes:
    return event(i, pad="z" * size, origin={"place": "Chicago"})


async def test_a_lane_that_is_not_there_is_named_and_loses_nothing(
    kafka_server: KafkaServer,
) -> None:
    """The lane map has more lanes than the topic has partitions."""
    async with streams(kafka_server) as s:
        r = s.r
        await r.fill(r.topics.raw, 0, [event(i) for i in range(40)])
        lanes = await kafka_server.topic("lanes", 1)
        topics = Topics(
            raw=r.topics.raw,
            lanes=lanes,
            unplaced=r.topics.unplaced,
            dead=r.topics.dead,
            router_group=r.topics.router_group,
        )
        w = await s.start(topics=topics)
        why = await w.until_lost()
        assert f"{lanes}/" in why
        assert "there is no such partition" in why
        assert not await r.read(lanes)
        again = await s.start()
        await again.until_taken(40)
        assert len(set(await r.sources(r.topics.lanes, 40))) == 40
