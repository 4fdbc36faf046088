"""A request that was not answered in time may still arrive, in the middle of a later transaction.

The broker is real; "late" is played where our client meets its sockets: a request that is held
counts as not answered, and is sent as it was, on another connection, when the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka.errors as kafka_errors
import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.api import Request
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.structs import OffsetAndMetadata

from agents.base.errors import KafkaError, KafkaUnavailable, LeadershipLost, LeaseLost
from agents.core.lanes.dead_letters import LetterQuery
from agents.core.model.messages import LeaseCommand
from agents.core.model.topology import Partition
from agents.kafka import verification
from agents.kafka.compacted import read_table
from agents.kafka.connection import client_kwargs
from agents.kafka.dead_letters import DeadLetters
from agents.kafka.leases import LeaseMaker
from agents.kafka.offsets import Offsets
from agents.kafka.placement_log import PlacementLog
from agents.kafka.producer import LeasedProducer
from agents.kafka.transactions import LAST_EPOCH
from agents.kafka.verification import KEY
from agents.kafka.wire import EndTransaction
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import lease_maker, leased, quietly_stop, read_all, until, unverified
from tests.late_requests.broker import Setup, begin_at, late_broker

Kinds = tuple[type[Request], ...]
ADD_PARTITIONS: Kinds = (AddPartitionsToTxnRequest,)
ADD_OFFSETS: Kinds = (AddOffsetsToTxnRequest,)
OFFSETS: Kinds = (TxnOffsetCommitRequest,)
END: Kinds = (EndTxnRequest, EndTransaction)
OF_A_TRANSACTION = [ADD_PARTITIONS, ADD_OFFSETS, OFFSETS, END]
NAMES = ["AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"]
BEFORE = [ADD_OFFSETS, OFFSETS, END]
"""The next transaction is open, and about to send this."""


class Late:
    """What a client sends passes through here. `hold` one request, and `let_go` of it later."""

    def __init__(self, client: Any, other: Any) -> None:  # Any: aiokafka has no types
        self._other, self._real = other, client.send
        self._hold: Kinds = ()
        self._before: Kinds = ()
        self.held: Any = None
        self.sent: list[str] = []
        client.send = self._send

    def hold(self, what: Kinds) -> None:
        self._hold = what

    def let_go_before(self, what: Kinds) -> None:
        self._before = what

    async def _send(self, node: int, request: Any, **group: ConnectionGroup) -> Any:
        if isinstance(request, self._hold):
            self._hold, self.held = (), (node, request)
            raise kafka_errors.RequestTimedOutError
        if isinstance(request, self._before):
            self._before = ()
            await self.let_go()
        self.sent.append(type(request).__name__)
        return await self._real(node, request, **group)

    async def let_go(self) -> None:
        (node, request), self.held = self.held, None
        await self._other.send(node, request)


class World:
    """One worker's transactions: each puts a record into `out` and says how far it has read."""

    def __init__(
        self, server: KafkaServer, other: Any, maker: LeaseMaker, offsets: Offsets
    ) -> None:
        self.server, self.other, self.maker, self.offsets = server, other, maker, offsets
        self.group, self.name, self.out = offsets._group, server.name("geolane-node"), ""
        self.part = Partition("main/none", 0)
        self.started: list[LeasedProducer] = []

    async def worker(self, *, version: int | None = None) -> tuple[LeasedProducer, Late]:
        """The next boot; `version` 0: as on a cluster that has no transactions of version 2."""
        lease = LeaseCommand(1, "B", self.name, *await self.maker.make_lease(self.name))
        producer = LeasedProducer(self.server.kafka, lease)
        await producer.start()
        self.started.append(producer)
        if version is not None:
            producer._producer._requests.version = version
        return producer, Late(producer._producer.client, self.other)

    async def transact(self, producer: LeasedProducer, offset: int, *partitions: int) -> None:
        batches = {}
        for n in partitions or (0,):
            batches[self.out, n] = [producer.new_batch()]
            batches[self.out, n][0].append(key=None, value=b"%d" % offset, timestamp=None)
        await producer.send_transaction(batches, {self.part: (offset, "")}, self.group)

    async def committed(self) -> int | None:
        found = (await self.offsets.read_committed_offsets([self.part]))[self.part]
        return found[0] if found else None

    async def shows(self, offset: int) -> None:
        """The committed offset is this one, and a fence does not change that."""

        async def there() -> bool:
            return await self.committed() == offset

        await until(there)
        await self.maker.make_lease(self.name)
        assert await self.committed() == offset

    async def outputs(self) -> list[int]:
        return sorted(int(r.value) for r in await read_all(self.server.kafka, self.out))


@pytest.fixture
async def world(kafka_server: KafkaServer) -> AsyncIterator[World]:
    async with a_world(kafka_server) as w:
        yield w


@asynccontextmanager
async def a_world(server: KafkaServer) -> AsyncIterator[World]:
    other = AIOKafkaClient(**client_kwargs(server.kafka))
    await other.bootstrap()
    offsets = Offsets(server.kafka, server.name("group"))
    await offsets.start()
    async with lease_maker(server.kafka) as maker:
        w = World(server, other, maker, offsets)
        w.out, w.part = await server.topic("out", 2), server.partition(await server.topic("in"))
        yield w
        for producer in w.started:
            await quietly_stop(producer._producer)
    await offsets.stop()
    await other.close()


async def test_a_producer_of_aiokafka_lets_a_late_offset_commit_in(world: World) -> None:
    """The hole that agents/kafka/transactions.py closes."""
    lease = await world.maker.make_lease(world.name)
    async with leased(world.server.kafka, world.name, lease) as producer:
        late = Late(producer.client, world.other)
        for offset in (1, 10, 20):
            if offset == 10:
                late.hold(OFFSETS)
            if offset == 20:
                late.let_go_before(END)
            await producer.begin_transaction()
            await (await producer.send(world.out, b"%d" % offset, partition=0))
            position = {TopicPartition(world.part.kafka_topic, 0): OffsetAndMetadata(offset, "")}
            await producer.send_offsets_to_transaction(position, world.group)
            await producer.commit_transaction()
    await world.shows(10)  # of 20, and both were said to be committed


@pytest.mark.parametrize("before", BEFORE, ids=lambda kinds: f"before {kinds[0].__name__}")
@pytest.mark.parametrize("held", OF_A_TRANSACTION, ids=NAMES)
async def test_it_is_sent_again_and_the_late_copy_changes_nothing(
    world: World, held: Kinds, before: Kinds
) -> None:
    producer, late = await world.worker()
    await world.transact(producer, 1)
    late.hold(held)
    await world.transact(producer, 10)
    late.let_go_before(before)
    await world.transact(producer, 20, 0, 1)
    assert late.held is None
    await world.transact(producer, 30, 1)
    await world.shows(30)
    assert await world.outputs() == [1, 10, 20, 20, 30]


@pytest.mark.parametrize("held", OF_A_TRANSACTION, ids=NAMES)
async def test_it_may_come_within_its_own_transaction_too(world: World, held: Kinds) -> None:
    producer, late = await world.worker()
    await world.transact(producer, 1)
    late.hold(held)
    late.let_go_before(END)
    await world.transact(producer, 10)
    assert late.held is None
    await world.transact(producer, 20)
    await world.shows(20)
    assert await world.outputs() == [1, 10, 20]


async def test_each_commit_has_an_epoch_of_its_own(world: World) -> None:
    producer, late = await world.worker()
    assert producer._producer.transaction_version == 2
    first = producer._producer._txn_manager.producer_epoch
    for offset in (1, 2, 3):
        await world.transact(producer, offset)
    assert producer._producer._txn_manager.producer_epoch == first + 3
    assert "EndTransaction" in late.sent
    assert "EndTxnRequest" not in late.sent


@pytest.mark.parametrize("before", BEFORE, ids=lambda kinds: f"before {kinds[0].__name__}")
@pytest.mark.parametrize("held", OF_A_TRANSACTION, ids=NAMES)
async def test_on_an_older_cluster_it_ends_the_lease_and_the_fence_refuses_it(
    world: World, held: Kinds, before: Kinds
) -> None:
    producer, late = await world.worker(version=0)
    await world.transact(producer, 1)
    late.hold(held)
    with pytest.raises(LeaseLost, match="was sent and not answered"):
        await world.transact(producer, 10)
    with pytest.raises(LeaseLost):
        await world.transact(producer, 10)
    successor, then = await world.worker(version=0)
    assert await world.committed() == 1
    then.held = late.held
    then.let_go_before(before)
    await world.transact(successor, 20, 0, 1)
    assert then.held is None
    await world.transact(successor, 30, 1)
    await world.shows(30)
    assert await world.outputs() == [1, 20, 20, 30]


async def test_on_an_older_cluster_one_that_has_not_left_is_sent_again(world: World) -> None:
    producer, _ = await world.worker(version=0)
    await world.transact(producer, 1)
    for connection in producer._producer.client._conns.values():
        connection.close()
    await world.transact(producer, 2)
    await world.shows(2)


async def test_the_coordinators_writes_are_as_safe(kafka_server: KafkaServer) -> None:
    topic = await kafka_server.topic("placement", cleanup_policy="compact")
    transactional_id = kafka_server.name("geolane-coordinator")
    async with a_world(kafka_server) as world:
        log = PlacementLog(kafka_server.kafka, topic=topic, transactional_id=transactional_id)
        await log.take_leadership()
        assert log._producer is not None
        late = Late(log._producer._producer.client, world.other)
        await log.write({"a": b"1"})
        late.hold(END)
        await log.write({"a": b"2"})
        late.let_go_before(OFFSETS)
        await log.write({"a": b"3"}, {world.group: {world.part: (7, "")}})
        assert late.held is None
        assert await read_table(kafka_server.kafka, topic) == {b"a": b"3"}
        log._producer._producer._requests.version = 0
        late.hold(OFFSETS)
        with pytest.raises(KafkaUnavailable, match="outcome unknown"):
            await log.write({"a": b"4"}, {world.group: {world.part: (5, "")}})
        with pytest.raises(LeadershipLost):
            await log.write({"a": b"5"})
        await log.stop()
        after = PlacementLog(kafka_server.kafka, topic=topic, transactional_id=transactional_id)
        assert await after.take_leadership() == {"a": b"3"}
        assert after._producer is not None
        then = Late(after._producer._producer.client, world.other)
        then.held = late.held
        then.let_go_before(END)
        await after.write({"a": b"6"}, {world.group: {world.part: (9, "")}})
        await world.shows(9)
        await after.stop()


@pytest.mark.stack
async def test_after_the_last_epoch_the_producer_goes_on_with_another_id() -> None:
    """Also when it is fenced there with a transaction open; and a late request of the old id is
    refused."""
    names = {f"geolane-node-{epoch}": epoch for epoch in range(LAST_EPOCH - 2, LAST_EPOCH + 1)}
    async with late_broker(Setup()) as (broker, _):
        await begin_at(broker, names)
        async with a_world(KafkaServer(broker)) as world:
            for name in names:
                world.name, world.group = name, world.server.name("group")
                await _through_the_last_epoch(world)


async def _through_the_last_epoch(world: World) -> None:
    world.offsets = Offsets(world.server.kafka, world.group)
    await world.offsets.start()
    before, producer_ids = await world.outputs(), set()
    for life in range(2):
        producer, late = await world.worker()
        for i in range(1, 5):
            offset = life * 4 + i
            if i == 2:
                late.hold(OFFSETS)
            if i == 3:
                late.let_go_before(END)
            await world.transact(producer, offset, offset % 2)
            producer_ids.add(producer._producer.producer_id)
        assert late.held is None
        await producer._producer.begin_transaction()
        assert producer._producer._txn_manager.producer_epoch < LAST_EPOCH
        await (await producer._producer.send(world.out, b"-1", partition=0))  # stays open
    await world.shows(8)
    with pytest.raises(LeaseLost):
        await producer.send_transaction({}, {world.part: (99, "")}, world.group)
    assert await world.outputs() == sorted([*before, *range(1, 9)])
    assert len(producer_ids - {500 + i for i in range(3)}) == 1  # `begin_at` gave it one of those
    await world.offsets.stop()


async def test_nobody_leads_or_replays_where_brokers_let_late_requests_in(
    kafka_server: KafkaServer,
) -> None:
    transactional_id = kafka_server.name("geolane-coordinator")
    async with lease_maker(kafka_server.kafka) as maker, unverified(kafka_server.kafka):
        before = await maker.make_lease(transactional_id)
        log = PlacementLog(kafka_server.kafka, transactional_id=transactional_id)
        with pytest.raises(KafkaError, match=f"broker 1: {KEY} is false.*set {KEY}=true"):
            await log.take_leadership()
        letters = DeadLetters(kafka_server.kafka, transactional_id=transactional_id)
        with pytest.raises(KafkaError, match=f"{KEY} is false"):
            await letters.replay_letters(LetterQuery(), "ana", 0)
        assert await maker.make_lease(transactional_id) == (
            before[0],
            before[1] + 1,
        )  # nobody was fenced
    [broker] = await verification.read_brokers(kafka_server.kafka)
    assert (broker.verifies, broker.transaction_version, broker.could_do_better) == (True, 2, False)
