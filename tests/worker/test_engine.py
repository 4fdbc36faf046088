"""The rules of PROTOCOL 2.1, 2.5 to 2.7 and 3 as a worker keeps them, against a real broker."""

from __future__ import annotations

import time
from functools import partial

import orjson
import pytest

from agents.base.errors import CommandRefused, LeaseLost, StaleEpoch
from agents.core.lanes.records import Record
from agents.node.stage import NodeStage
from tests.fixtures.kafka import KafkaServer
from tests.once import require_once
from tests.worker.support import Here, Rig, Running, rig, until

LIMIT = 1 << 20


def same(batch: list[Record]) -> list[Record | None]:
    return list(batch)


def node(r: Rig) -> NodeStage:
    return NodeStage(Here(same), LIMIT, r.topics)


def done(running: Running) -> int:
    return sum(lane.committed_counts.taken for lane in running.engine._own.lanes.values())


def working(running: Running) -> bool:
    return done(running) > 0


async def test_lanes_are_worked_once_and_counted_in_the_offset(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server) as r:
        for n in range(4):
            await r.fill_lane(n, 0, 300)
        w = await r.engine(node(r))
        await w.assign(*((n, 1, 0) for n in range(4)))
        await until(lambda: done(w) == 1200)
        out = await r.sources(r.topics.clean, 1200)
        require_once(out, (f"raw/{n}/{i}" for n in range(4) for i in range(300)))
        answer = await w.release(*((n, 1) for n in range(4)))
        for grant in answer.lanes:
            found = await r.committed(r.topics.lanes, grant.n, r.topics.node_group)
            assert found is not None
            assert found[0] == grant.offset >= 300
            assert orjson.loads(found[1]) == {"in": 300, "out": 300, "filtered": 0, "dead": 0}


async def test_a_handover_loses_and_doubles_nothing(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=1) as r:
        a, b = await r.engine(node(r), "a"), await r.engine(node(r), "b")
        await a.assign((0, 1, 0))
        epoch, owner, other, total = 1, a, b, 0
        for round_ in range(6):
            await r.fill_lane(0, total, 200)
            total += 200
            if round_ % 2:
                await until(partial(working, owner))
            answer = await owner.release((0, epoch))
            epoch += 1
            await other.assign((0, epoch, answer.lanes[0].offset))
            owner, other = other, owner
        await until(lambda: done(owner) == total)
        require_once(await r.sources(r.topics.clean, total), (f"raw/0/{i}" for i in range(total)))


@pytest.mark.parametrize("off_h", [-1, 1])
async def test_a_worker_whose_clock_is_an_hour_off_reports_true_times(
    kafka_server: KafkaServer, off_h: int
) -> None:
    async with rig(kafka_server, lanes=1) as r:
        await r.fill_lane(0, 0, 200)
        w = await r.engine(node(r))
        clock = w.engine.clock
        clock.own_ms = lambda: (time.time() + 3600 * off_h) * 1000
        await w.assign((0, 1, 0))
        await until(lambda: done(w) == 200)
        assert clock.ahead_ms == pytest.approx(-3_600_000 * off_h, abs=20_000)
        (load,), _ = w.engine.take_load()
        assert load.rate_eps > 0
        assert 0 < load.p50_ms <= load.p99_ms < 60_000
        (lane,) = w.engine.owned_partitions()
        await until(lambda: lane.oldest_event_age_s(clock.now_ms()) == 0.0)
        assert lane.clear_ms == pytest.approx(time.time() * 1000, abs=60_000)


async def test_who_is_fenced_commits_nothing_and_ends(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=1) as r:
        a = await r.engine(node(r), "a")
        await a.assign((0, 1, 0))
        await r.fill_lane(0, 0, 500)
        await until(lambda: done(a) > 0)
        await r.fence(a)
        at = await r.committed(r.topics.lanes, 0, r.topics.node_group)
        await r.fill_lane(0, 500, 500)
        with pytest.raises(LeaseLost):
            await a.task
        assert await r.committed(r.topics.lanes, 0, r.topics.node_group) == at
        b = await r.engine(node(r), "b")
        await b.assign((0, 2, at[0] if at else 0))
        await until(lambda: done(b) == 1000)
        require_once(await r.sources(r.topics.clean, 1000), (f"raw/0/{i}" for i in range(1000)))


async def test_told_to_end_by_the_coordinator(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=1) as r:
        a = await r.engine(node(r))
        await a.engine.execute_command(type(a.lease)(1, a.boot, a.lease.transactional_id, -1, 0))
        with pytest.raises(LeaseLost):
            await a.task


async def test_refusals(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=1) as r:
        a = await r.engine(node(r))
        await a.assign((0, 3, 0))
        assert (await a.assign((0, 3, 0))).lanes[0].epoch == 3
        await a.release((0, 3))
        with pytest.raises(StaleEpoch):
            await a.assign((0, 3, 0))
        with pytest.raises(CommandRefused):
            await a.engine.execute_command(
                type(a.lease)(1, "other", a.lease.transactional_id, 1, 0)
            )


async def test_a_missing_offset_stops_the_lane_with_a_fault(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=2) as r:
        await r.fill_lane(0, 0, 10)
        await r.fill_lane(1, 0, 10)
        a = await r.engine(node(r), missing_after_s=0.3)
        await a.assign((0, 1, 7), (1, 1, 0))
        fault = "offset missing: told 7, committed none; reset "
        await until(lambda: any(x.fault.startswith(fault) for x in a.engine.take_load()[0]))
        await until(lambda: done(a) == 10)
        assert {s.split("/")[1] for s in await r.sources(r.topics.clean, 10)} == {"1"}
        assert (await a.release((0, 1))).lanes[0].offset == 7
