"""A leader whose record the topic `placement` refuses goes on, and does nothing that it could not
write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from agents.coordinator import performer
from agents.coordinator.performer import Performer
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.coordinator import AnyEvent
from agents.core.model.placement import Leader, Placed, State, table_from_records
from agents.core.model.topology import KINDS, WorkerKind
from agents.kafka.leases import LeaseMaker
from agents.kafka.offsets import Offsets
from agents.kafka.placement_log import OffsetsByGroup as Written
from agents.kafka.placement_log import PlacementLog
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import alter, until

NOBODY = cast(Any, None)  # Any: what a performer has besides is not used here
LIMIT = "max.message.bytes"
FEW = {
    WorkerKind.NODE.partition(n): Placed("node-a", "B", 1, 1, State.ASSIGNED, 0, 0, "x" * 300)
    for n in range(3)
}


class World:
    """A leader's hands on a topic of its own, and what they tell."""

    def __init__(self, server: KafkaServer, topic: str) -> None:
        self.server, self.topic = server, topic
        self.heard: list[AnyEvent] = []
        self.id = server.name("geolane-coordinator")
        self.log = PlacementLog(server.kafka, topic=topic, transactional_id=self.id)
        self.leases = LeaseMaker(server.kafka, 10_000)
        offsets = {kind: Offsets(server.kafka, server.name(kind.group)) for kind in KINDS}
        tell = self.heard.append
        self.hands = Performer(
            NOBODY,
            self.log,
            self.leases,
            offsets,
            NOBODY,
            tell,
            leader=Leader(1, "b"),
            planner=NOBODY,
        )

    async def limit(self, size: int) -> None:
        await alter(self.server.kafka, self.topic, {LIMIT: str(size)})

    def then(self) -> list[type[AnyEvent]]:
        """What was told after it was refused (once more, should the limit change before it is
        looked up)."""
        return [type(e) for e in self.heard if not isinstance(e, ev.WriteRefused)]

    async def hears(self, kind: type[AnyEvent]) -> None:
        async def so() -> bool:
            return any(isinstance(e, kind) for e in self.heard)

        await until(so)


@asynccontextmanager
async def leading(server: KafkaServer, limit: int = 8 << 20) -> AsyncIterator[World]:
    w = World(server, await server.topic("placement", cleanup_policy="compact"))
    try:
        await w.leases.start()
        await w.log.take_leadership()
        await w.limit(limit)
        await w.hands.commit_leader_epoch()
        work = asyncio.create_task(w.hands.run_kafka_effects())
        try:
            yield w
        finally:
            assert not work.done(), work
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await w.log.stop()
        await w.leases.stop()


async def test_what_is_refused_is_told_and_written_once_the_topic_takes_it(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performer, "WRITE_EVERY_S", 0.1)
    async with leading(kafka_server) as w:
        await w.limit(400)  # enough for the record `leader`
        worker = kafka_server.name("node")
        w.hands.perform([fx.Write(FEW), fx.MakeLease(worker, "B", worker, ())], 0)
        await w.hears(ev.WriteRefused)
        assert w.hands.is_kafka_answering()
        for _ in range(3):
            tried = w.hands._tried_at

            async def again(before: float = tried) -> bool:
                return w.hands._tried_at > before

            await until(again)
        assert [type(e) for e in w.heard] == [ev.WriteRefused], (
            "told once; what comes after it waits"
        )
        [refused] = w.heard
        assert isinstance(refused, ev.WriteRefused)
        assert w.topic in refused.why
        assert "it takes 400" in refused.why
        await w.limit(8 << 20)
        await w.hears(ev.LeaseMade)
        assert w.then() == [ev.PlacementWritten, ev.WriteTaken, ev.LeaseMade]
    after = PlacementLog(kafka_server.kafka, topic=w.topic, transactional_id=w.id)
    assert table_from_records(await after.take_leadership()).placed == FEW
    await after.stop()


async def test_a_leader_that_cannot_even_write_that_it_leads_waits_for_that(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performer, "WRITE_EVERY_S", 0.1)
    async with leading(kafka_server, limit=100) as w:  # a transaction's marker has 78 bytes
        w.hands.perform([fx.Write(FEW)], 0)
        assert [type(e) for e in w.heard] == [ev.WriteRefused]
        await w.limit(8 << 20)
        await w.hears(ev.PlacementWritten)
        assert w.then() == [ev.WriteTaken, ev.PlacementWritten]


class Transactions:
    """What a PlacementLog is asked to write, in each transaction: the groups whose offsets are
    set."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []

    async def write(self, records: Mapping[str, bytes | None], offsets: Written) -> None:
        self.groups.append(list(offsets))


async def test_a_transaction_sets_offsets_of_one_group() -> None:
    """aiokafka would leave those of a second one out of the transaction."""
    log, heard = Transactions(), list[AnyEvent]()
    hands = Performer(
        NOBODY,
        cast(Any, log),
        NOBODY,
        {},
        NOBODY,
        heard.append,
        leader=Leader(1, "b"),
        planner=NOBODY,
    )
    lane, raw = WorkerKind.NODE.partition(0), WorkerKind.ROUTER.partition(0)
    hands.perform(
        [
            fx.Write(FEW),
            *(fx.Write(offsets={p: (0, "")}) for p in (lane, lane, raw)),
            fx.Write(FEW),
        ],
        0,
    )
    work = asyncio.create_task(hands.run_kafka_effects())

    async def all_written() -> bool:
        return len(heard) == 5

    await until(all_written)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    assert log.groups == [["geolane-node"], ["geolane-router"]]
