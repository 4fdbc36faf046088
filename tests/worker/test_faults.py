"""Exactly once through whatever happens to a worker: killed, fenced at any moment, too few
partitions, idle for days."""

from __future__ import annotations

import asyncio
import random
import threading

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from agents.base.errors import LeaseLost
from agents.core.lanes.lane_map import build_lane_map
from agents.core.lanes.records import Record
from agents.kafka.leases import LeaseMaker
from agents.node.stage import NodeStage
from agents.router.stage import RouterStage
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import add_partitions, admin_client
from tests.once import require_once
from tests.worker.support import Here, event, rig, until
from tests.worker.test_engine import LIMIT, done, node, same


@pytest.mark.parametrize("how", ["killed", "fenced"])
async def test_once_whenever_the_owner_is_lost(kafka_server: KafkaServer, how: str) -> None:
    """Two lanes under load; their owner is lost at random moments, twelve times; the next starts as
    PROTOCOL 2.2 says."""
    rng, total = random.Random(7), 0
    async with rig(kafka_server, lanes=2) as r:
        owner = await r.engine(node(r))
        await owner.assign((0, 1, 0), (1, 1, 0))
        for epoch in range(2, 14):
            for n in (0, 1):
                await r.fill_lane(n, total, 150)
            total += 150
            await asyncio.sleep(rng.random() * 0.15)
            if how == "killed":
                await owner.kill()
            fenced, owner = owner, await r.engine(node(r))  # the lease made anew is the fence
            starts = []
            for n in (0, 1):
                found = await r.committed(r.topics.lanes, n, r.topics.node_group)
                starts.append((n, epoch, found[0] if found else 0))
            await owner.assign(*starts)
            if how == "fenced":
                for n in (0, 1):
                    await r.fill_lane(n, total, 1)
                total += 1
                with pytest.raises(LeaseLost):
                    await asyncio.wait_for(fenced.task, 15)
        expected = [f"raw/{n}/{i}" for n in (0, 1) for i in range(total)]
        require_once(await r.sources(r.topics.clean, 2 * total), expected)
        await until(lambda: done(owner) == 2 * total)


async def test_fenced_while_the_pipeline_computes(kafka_server: KafkaServer) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(batch: list[Record]) -> list[Record | None]:
        inside.set()
        go.wait(20)
        return list(batch)

    async with rig(kafka_server, lanes=1) as r:
        await r.fill_lane(0, 0, 100)
        a = await r.engine(NodeStage(Here(slow), LIMIT, r.topics), "a")
        await a.assign((0, 1, 0))
        await until(inside.is_set)
        await r.fence(a)
        go.set()
        with pytest.raises(LeaseLost):
            await a.task
        assert await r.committed(r.topics.lanes, 0, r.topics.node_group) is None
        b = await r.engine(node(r), "b")
        await b.assign((0, 2, 0))
        require_once(await r.sources(r.topics.clean, 100), (f"raw/0/{i}" for i in range(100)))


async def test_a_lost_worker_never_makes_itself_a_lease(kafka_server: KafkaServer) -> None:
    """Each InitProducerId raises the producer epoch by one: after a fence and all that follows, it
    went up by ours only."""
    async with rig(kafka_server, lanes=1) as r:
        a = await r.engine(node(r), "a")
        await a.assign((0, 1, 0))
        await r.fence(a)
        await r.fill_lane(0, 0, 50)
        with pytest.raises(LeaseLost):
            await a.task
        maker = LeaseMaker(r.kafka, 10_000)
        await maker.start()
        try:
            assert await maker.make_lease(a.lease.transactional_id) == (
                a.lease.producer_id,
                a.lease.producer_epoch + 2,
            )
        finally:
            await maker.stop()


async def test_a_stuck_pipeline_neither_stops_the_loop_nor_the_end(
    kafka_server: KafkaServer,
) -> None:
    go = threading.Event()

    def stuck(batch: list[Record]) -> list[Record | None]:
        go.wait(60)
        return list(batch)

    async with rig(kafka_server, lanes=1) as r:
        await r.fill_lane(0, 0, 1)
        a = await r.engine(NodeStage(Here(stuck), LIMIT, r.topics))
        await a.assign((0, 1, 0))
        await until(lambda: a.engine.take_load()[0][0].epoch == 1)
        async with asyncio.timeout(5):
            await a.kill()
        go.set()


async def test_an_idle_offset_is_committed_anew(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=2) as r:
        await r.fill_lane(0, 0, 5)
        a = await r.engine(node(r), idle_commit_s=0.2)
        await a.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: done(a) == 5)
        at = {n: lane.committed_at for n, lane in a.engine._own.lanes.items()}
        await until(
            lambda: all(lane.committed_at > at[n] for n, lane in a.engine._own.lanes.items())
        )
        await a.release((0, 1), (1, 1))
        assert await r.committed(r.topics.lanes, 1, r.topics.node_group) is not None
        assert len(await r.sources(r.topics.clean, 5)) == 5


async def test_an_output_partition_that_is_not_there_yet_loses_nothing(
    kafka_server: KafkaServer,
) -> None:
    """A lane map may know lanes that the topic does not have: nothing is sent, nothing committed,
    until it has."""
    async with rig(kafka_server, lanes=1, raw=1) as r:
        lanemap = build_lane_map([event(0)], 3, 4, 1)
        a = await r.engine(RouterStage(lanemap, LIMIT, 300_000, r.topics))
        await r.fill(r.topics.raw, 0, [event(i) for i in range(200)])
        await a.assign((0, 1, 0))
        await until(lambda: any("no partition" in load.fault for load in a.engine.take_load()[0]))
        assert await r.committed(r.topics.raw, 0, r.topics.router_group) is None
        await add_partitions(r.kafka, r.topics.lanes, 3)
        sources = await r.sources(r.topics.lanes, 200)
        await until(lambda: a.engine.take_load()[0][0].fault == "")
        require_once(sources, (f"{r.topics.raw}/0/{i}" for i in range(200)))


async def test_positions_that_are_gone_stop_the_lane(kafka_server: KafkaServer) -> None:
    """The offset is there, its records are not: a fault, not a jump."""
    async with rig(kafka_server, lanes=2) as r:
        await r.fill_lane(0, 0, 20)
        await r.fill_lane(1, 0, 20)
        async with admin_client(r.kafka) as admin:
            await admin.delete_records({TopicPartition(r.topics.lanes, 0): RecordsToDelete(10)})
        a = await r.engine(node(r))
        await a.assign((0, 1, 0), (1, 1, 0))
        await until(lambda: any("is gone" in load.fault for load in a.engine.take_load()[0]))
        await until(lambda: done(a) == 20)
        answer = await a.release((0, 1))
        assert answer.lanes[0].offset == 0


async def test_counts_go_on_with_the_next_owner(kafka_server: KafkaServer) -> None:
    def odd(batch: list[Record]) -> list[Record | None]:
        return [
            record if orjson.loads(record.value)["id"][-1] in "13579" else None for record in batch
        ]

    async with rig(kafka_server, lanes=1) as r:
        a = await r.engine(NodeStage(Here(odd), LIMIT, r.topics), "a")
        b = await r.engine(NodeStage(Here(odd), LIMIT, r.topics), "b")
        await r.fill_lane(0, 0, 100)
        await a.assign((0, 1, 0))
        await until(lambda: done(a) == 100)
        answer = await a.release((0, 1))
        await r.fill_lane(0, 100, 60)
        await b.assign((0, 2, answer.lanes[0].offset))
        await until(lambda: done(b) == 160)
        await b.release((0, 2))
        found = await r.committed(r.topics.lanes, 0, r.topics.node_group)
        assert found is not None
        assert orjson.loads(found[1]) == {"in": 160, "out": 80, "filtered": 80, "dead": 0}
        assert len(await r.sources(r.topics.clean, 80)) == 80


async def test_load_shows_rate_lag_and_latency(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=2) as r:
        a = await r.engine(NodeStage(Here(same), LIMIT, r.topics))
        await a.assign((0, 4, 0), (1, 5, 0))
        assert [(x.n, x.epoch) for x in a.engine.take_load()[0]] == [(0, 4), (1, 5)]
        await r.fill_lane(0, 0, 300)
        await until(lambda: done(a) == 300)
        first, second = a.engine.take_load()[0]
        assert first.rate_eps > 0
        assert 0 < first.p50_ms <= first.p99_ms < 20_000
        assert (second.rate_eps, second.p50_ms, second.lag_events) == (0, 0, 0)
        await until(lambda: a.engine.take_load()[0][0].lag_events == 0)
