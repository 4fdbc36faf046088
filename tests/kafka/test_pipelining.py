"""A transaction waits for three round trips: what does not depend on each other is sent side by
side, and what is refused beside something accepted leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup, CoordinationType

from agents.core.model.messages import LeaseCommand
from agents.core.model.topology import Partition
from agents.kafka.connection import Link
from agents.kafka.markers import Markers, Newest
from agents.kafka.offsets import Offsets
from agents.kafka.producer import LeasedProducer
from agents.kafka.refusals import TransactionRefused
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import (
    alter,
    delete_topic,
    lease_maker,
    quietly_stop,
    read_all,
    until,
)

ADD_PARTITIONS, ADD_OFFSETS = "AddPartitionsToTxnRequest", "AddOffsetsToTxnRequest"
PRODUCE, OFFSETS, END = "ProduceRequest", "TxnOffsetCommitRequest", "EndTransaction"
BOUND_S = 5.0


class Wire:
    """Every request of a client passes through here. `together`: no answer to one of these is
    passed on before all of them were sent."""

    def __init__(self, client: Any, *together: tuple[str, ...]) -> None:  # Any: no types
        self._send_on: Callable[..., Any] = client.send
        self._together = together
        self._sent: dict[str, asyncio.Event] = {}
        self.sent: list[str] = []
        self.answered: list[str] = []
        client.send = self._send

    async def _send(self, node: int, request: Any, **group: ConnectionGroup) -> Any:
        name = type(request).__name__
        self.sent.append(name)
        self._event(name).set()
        answer = await self._send_on(node, request, **group)
        for names in self._together:
            if name in names:
                async with asyncio.timeout(BOUND_S):
                    await asyncio.gather(*(self._event(other).wait() for other in names))
        self.answered.append(name)
        return answer

    def _event(self, name: str) -> asyncio.Event:
        return self._sent.setdefault(name, asyncio.Event())


class World:
    """One worker's transactions: from `a` and `b` into the two partitions of `out`."""

    def __init__(self, server: KafkaServer, out: str, offsets: Offsets, producer: LeasedProducer):
        self.server, self.out, self.offsets, self.producer = server, out, offsets, producer
        self.a = self.b = Partition("main/none", 0)

    async def transact(self, part: Partition, offset: int, n: int = 0, size: int = 1) -> None:
        batch = self.producer.new_batch()
        batch.append(key=None, value=b"%d" % offset * size, timestamp=None)
        await self.producer.send_transaction(
            {(self.out, n): [batch]}, {part: (offset, "")}, self.offsets._group
        )

    async def shows(self, a: int | None, b: int | None) -> None:
        async def there() -> bool:
            found = await self.offsets.read_committed_offsets([self.a, self.b])
            got = [None if (x := found.get(p)) is None else x[0] for p in (self.a, self.b)]
            return got == [a, b]

        await until(there)

    async def newest(self) -> Newest | None:
        """How the producer's newest transaction has ended."""
        name = self.producer._producer._txn_manager.transactional_id
        link = Link(self.server.kafka, "a-test")
        await link.start()
        try:

            async def attempt() -> Newest | None:
                node = await link.find_coordinator(CoordinationType.TRANSACTION, name)
                return await Markers(link).read_newest_transaction(node, name)

            return await link.retry_until_done("read the transaction", attempt)
        finally:
            await link.stop()


@asynccontextmanager
async def world(server: KafkaServer) -> AsyncIterator[World]:
    name, out = server.name("tid"), await server.topic("out", 2)
    offsets = Offsets(server.kafka, server.name("group"))
    await offsets.start()
    async with lease_maker(server.kafka) as maker:
        lease = LeaseCommand(1, "b", name, *await maker.make_lease(name))
        producer = LeasedProducer(server.kafka, lease)
        await producer.start()
        w = World(server, out, offsets, producer)
        w.a, w.b = [server.partition(await server.topic("in")) for _ in range(2)]
        try:
            yield w
        finally:
            await quietly_stop(producer._producer)
            await offsets.stop()


async def test_what_does_not_depend_on_each_other_is_sent_side_by_side(
    kafka_server: KafkaServer,
) -> None:
    async with world(kafka_server) as w:
        await w.transact(w.a, 1)
        await w.newest()  # its markers are written: nothing has to be sent twice
        together = (ADD_PARTITIONS, ADD_OFFSETS), (PRODUCE, OFFSETS)
        wire = Wire(w.producer._producer.client, *together)
        await w.transact(w.a, 2)
        expected = {ADD_PARTITIONS, ADD_OFFSETS, PRODUCE, OFFSETS, END}
        sent = [x for x in wire.sent if x in expected]
        assert set(sent[:2]) == {ADD_PARTITIONS, ADD_OFFSETS}
        assert set(sent[2:-1]) == {PRODUCE, OFFSETS}
        assert sent[-1] == END
        # A group's coordinator that is not ready asks for a repetition.
        assert len(sent) - sent.count(OFFSETS) == 4
        await w.shows(2, None)


async def test_the_end_waits_for_every_answer(kafka_server: KafkaServer) -> None:
    async with world(kafka_server) as w:
        await w.transact(w.a, 1)
        for slow in (PRODUCE, OFFSETS):
            go = asyncio.Event()
            wire = Wire(w.producer._producer.client)

            wire._send_on = partial(_answer_late, wire._send_on, slow, go)
            other = OFFSETS if slow == PRODUCE else PRODUCE
            sending = asyncio.create_task(w.transact(w.a, 2))

            async def answered(wire: Wire = wire, other: str = other) -> bool:
                return other in wire.answered

            await until(answered)
            await asyncio.sleep(0.05)
            assert END not in wire.sent
            go.set()
            await sending


async def _answer_late(
    send: Callable[..., Any], slow: str, go: asyncio.Event, node: int, request: Any, **more: Any
) -> Any:
    answer = await send(node, request, **more)
    if type(request).__name__ == slow:
        async with asyncio.timeout(BOUND_S):
            await go.wait()
    return answer


async def test_a_refused_record_takes_the_offsets_beside_it_along(
    kafka_server: KafkaServer,
) -> None:
    """They were accepted: the abort discards them, and the next commit does not bring them back."""
    async with world(kafka_server) as w:
        await w.transact(w.a, 1)
        await alter(w.server.kafka, w.out, {"max.message.bytes": "3000"})
        wire = Wire(w.producer._producer.client)
        with pytest.raises(TransactionRefused, match="a record batch is larger"):
            await w.transact(w.a, 7, size=5_000)
        assert wire.answered.index(OFFSETS) < wire.sent.index(END)
        await w.transact(w.b, 3, 1)
        await w.shows(1, 3)
        assert sorted(r.value for r in await read_all(w.server.kafka, w.out)) == [b"1", b"3"]


async def test_the_repeated_end_of_an_abort_has_the_group_too(kafka_server: KafkaServer) -> None:
    """A broker that was killed may have forgotten the abort of the offsets, and the next commit
    would then commit them."""
    async with world(kafka_server) as w:
        await alter(w.server.kafka, w.out, {"max.message.bytes": "3000"})
        with pytest.raises(TransactionRefused):
            await w.transact(w.a, 7, size=5_000)
        assert await w.newest() is not None
        for connection in w.producer._producer.client._conns.values():
            connection.close()
        assert w.producer.may_lack_markers
        wire = Wire(w.producer._producer.client)
        await w.transact(w.b, 3, 1)
        ends = [i for i, name in enumerate(wire.answered) if name in (END, "EndTxnRequest")]
        assert len(ends) == 2
        assert ADD_OFFSETS in wire.answered[: ends[0]]
        await w.shows(None, 3)


@pytest.mark.parametrize("version", [2, 0], ids=["transactions of version 2", "older"])
async def test_a_refused_partition_leaves_no_transaction_open(
    kafka_server: KafkaServer, version: int
) -> None:
    """The group beside it was added, so a transaction has begun."""
    async with world(kafka_server) as w:
        w.producer._producer._requests.version = version
        await w.transact(w.a, 1)
        gone = await w.server.topic("gone")
        await w.producer._producer.partitions_for(gone)
        await delete_topic(w.server.kafka, gone)
        out, w.out = w.out, gone
        with pytest.raises(TransactionRefused, match="no such partition"):
            await w.transact(w.a, 7)
        newest = await w.newest()
        assert newest is not None
        assert newest.committed is False
        w.out = out
        await w.transact(w.b, 3)
        await w.shows(1, 3)
