"""Kafka is away for a while: whoever works survives it or ends cleanly, and nothing is lost or
doubled either way."""

from __future__ import annotations

import asyncio

import pytest

from agents.base.errors import LeaseLost
from agents.core.model.topology import CUT_OFF
from agents.local.servers.broker import Broker
from agents.worker import worker_engine
from tests.fixtures.kafka import KafkaServer
from tests.once import require_once
from tests.worker.support import Rig, Running, rig, until
from tests.worker.test_engine import done, node

pytestmark = pytest.mark.stack


async def restarted(r: Rig, running: Running, epoch: int) -> Running:
    """What supervisor and coordinator do with a worker that has ended: a new boot, its lease, its
    lanes."""
    again = await r.engine(node(r))
    found = await r.committed(r.topics.lanes, 0, r.topics.node_group)
    await again.assign((0, epoch, found[0] if found else 0))
    return again


async def test_a_killed_broker_comes_back(own_broker: Broker) -> None:
    async with rig(KafkaServer(own_broker), lanes=1) as r:
        w = await r.engine(node(r))
        await w.assign((0, 1, 0))
        await r.fill_lane(0, 0, 3000)
        await until(lambda: done(w) > 0, 40)
        for epoch, idle in ((2, False), (3, True)):
            if idle:
                await until(lambda w=w: done(w) == 3000, 40)  # type: ignore[misc]
            own_broker.kill()
            await asyncio.wait([w.task], timeout=2)
            await own_broker.start(120)
            if w.task.done():
                assert isinstance(w.task.exception(), LeaseLost)
                w = await restarted(r, w, epoch)
        await r.fill_lane(0, 3000, 500)
        ended = asyncio.create_task(asyncio.wait([w.task]))
        worked = asyncio.create_task(until(lambda: done(w) == 3500, 40))
        await asyncio.wait([ended, worked], return_when=asyncio.FIRST_COMPLETED)
        if w.task.done():
            assert isinstance(w.task.exception(), LeaseLost)
            w = await restarted(r, w, 9)
            await until(lambda: done(w) == 3500, 40)
        ended.cancel()
        await asyncio.gather(worked, ended, return_exceptions=True)
        require_once(await r.sources(r.topics.clean, 3500), (f"raw/0/{i}" for i in range(3500)))


async def test_a_worker_may_start_before_kafka_and_says_when_it_is_gone(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_engine, "CUT_OFF_AFTER_S", 0.5)
    async with rig(KafkaServer(own_broker), lanes=1) as r:
        await r.fill_lane(0, 0, 10)
        first = await r.engine(node(r))
        own_broker.kill()
        await first.kill()
        late = type(first.engine)(r.kafka, first.engine._worker, node(r), "LATE")
        task = asyncio.create_task(late.run())
        await late.execute_command(
            type(first.lease)(1, "LATE", first.lease.transactional_id, *first_lease(first))
        )
        await until(lambda: late.unready.startswith("cannot use Kafka: "), 40)
        await own_broker.start(120)
        running = Running(late, task, "LATE", first.lease, first.topic)
        r.running.append(running)
        await running.assign((0, 1, 0))
        await until(lambda: done(running) == 10, 40)
        assert not late.unready
        own_broker.kill()
        await until(lambda: late.take_load()[0][0].fault.startswith(CUT_OFF), 40)


def first_lease(running: Running) -> tuple[int, int]:
    return running.lease.producer_id, running.lease.producer_epoch
