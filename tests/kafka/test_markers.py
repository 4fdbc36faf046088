"""A broker that was killed has forgotten the markers of transactions that it had decided: whoever
is given the next lease finds them as they were decided, or nobody is given one."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from agents import settings
from agents.base.errors import TransactionUndecided
from agents.core.model.topology import MAIN, Partition
from agents.kafka.connection import client_kwargs
from agents.kafka.markers import Reach, _java_hash
from agents.kafka.offsets import Offsets
from agents.kafka.topics import Topic, ensure_topics
from agents.local.servers.broker import Broker
from tests.kafka.support import lease_maker, leased, read_all

pytestmark = pytest.mark.stack

STATE, STATE_PARTITIONS = "__transaction_state", 4  # agents/local/servers/kafka/server.properties
EMPTY, COMMITTED, ABORTED = 0, 4, 5
CASES = {"committed": COMMITTED, "aborted": ABORTED, "unknown": EMPTY}
GROUP, INPUT = "group", "in"


async def test_a_lease_decides_what_its_broker_has_forgotten(server_folder: Path) -> None:
    broker = Broker(server_folder, heap_mb=384)
    await broker.start(120)
    try:
        kafka = broker.kafka
        topics = (Topic(INPUT, len(CASES), 16), *(Topic(name, 2, 16) for name in CASES))
        await ensure_topics(kafka, topics, embedded=True)
        for n, (name, state) in enumerate(CASES.items()):
            await _begin(kafka, name, n)
            await _forget(kafka, name, state)
        broker.kill()
        await broker.start(120)
        assert await _offset(kafka, 0) is None
        assert await read_all(kafka, "committed") == []
        for n, (name, state) in enumerate(CASES.items()):
            async with lease_maker(
                kafka, Reach((name, "no-such-topic"), (GROUP, "another"))
            ) as maker:
                if state is EMPTY:
                    for _ in range(2):
                        with pytest.raises(
                            TransactionUndecided, match=r"abort-transaction unknown 0 0$"
                        ):
                            await maker.make_lease(name)
                    continue
                lease = await maker.make_lease(name)
                assert await maker.make_lease(name) == (lease[0], lease[1] + 1)
            expected = (7, "counts") if state is COMMITTED else None
            assert await _offset(kafka, n) == expected
            values = [r.value for r in await read_all(kafka, name)]
            assert sorted(values) == ([b"0", b"1"] if state is COMMITTED else [])
            await _begin(kafka, name, n, commit=True)
            assert len(await read_all(kafka, name)) == len(values) + 2
    finally:
        broker.kill()


async def _begin(kafka: settings.Kafka, name: str, n: int, *, commit: bool = False) -> None:
    """A transaction that is left open, or not."""
    async with lease_maker(kafka) as maker:
        lease = await maker.make_lease(name)
    async with leased(kafka, name, lease) as producer:
        await producer.begin_transaction()
        for out in (0, 1):
            await producer.send_and_wait(name, b"%d" % out, partition=out)
        offsets = {TopicPartition(INPUT, n): OffsetAndMetadata(7, "counts")}
        await producer.send_offsets_to_transaction(offsets, GROUP)
        if commit:
            await producer.commit_transaction()
        else:  # its connections end without an abort
            await producer.client.close()
            producer._txn_manager.state = type(producer._txn_manager.state).READY
            LEASES[name] = lease


LEASES: dict[str, tuple[int, int]] = {}


async def _forget(kafka: settings.Kafka, name: str, state: int) -> None:
    """Kafka's own log then says that it has ended so, and nothing was written anywhere else."""
    producer: Any = AIOKafkaProducer(  # only this client id may write to Kafka's own topics
        client_id="__admin_client", acks="all", **client_kwargs(kafka)
    )
    producer_id, epoch = LEASES[name]
    value = struct.pack(
        ">hqhibiqq", 0, producer_id, epoch + 1, 10_000, state, 0, int(time.time() * 1000), -1
    )
    key = struct.pack(">hh", 0, len(name)) + name.encode()
    await producer.start()
    try:
        await producer.send_and_wait(STATE, value, key, _java_hash(name) % STATE_PARTITIONS)
    finally:
        await producer.stop()


async def _offset(kafka: settings.Kafka, n: int) -> tuple[int, str] | None:
    offsets, part = Offsets(kafka, GROUP), Partition(f"{MAIN}/{INPUT}", n)
    await offsets.start()
    try:
        return (await offsets.read_committed_offsets([part]))[part]
    finally:
        await offsets.stop()
