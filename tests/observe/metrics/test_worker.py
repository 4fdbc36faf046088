"""A real node, and a router's engine, on a real Kafka and ejabberd, scraped over HTTP."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from agents import settings
from agents.base import ports
from agents.base.errors import LeaseLost
from agents.core.lanes.lane_map import build_lane_map
from agents.core.lanes.records import Record
from agents.core.model.messages import AssignCommand, Grant, Health
from agents.core.model.topology import WorkerKind
from agents.local.servers.broker import Broker
from agents.node.contract import POISONED_AT
from agents.node.stage import NodeStage
from agents.observe.metrics import declared as m
from agents.observe.metrics.samples import Samples
from agents.router.stage import RouterStage
from agents.worker.lane import WorkedPartition
from agents.worker.metrics import add_worker_metrics
from agents.xmpp.worker_session import WorkerLink
from tests.fixtures.kafka import KafkaServer
from tests.fixtures.xmpp import XmppServer
from tests.node.test_process import fleet
from tests.observe.metrics.support import Scrape, scrape, scrape_until, written
from tests.worker.support import Here, Rig, Running, event, rig, until
from tests.worker.test_engine import LIMIT, done, node


def picky(batch: list[Record]) -> list[Record | None]:
    """Every tenth is no event, every tenth is left out; lane 1 is broken."""
    if any(r.src.startswith("raw/1/") for r in batch):
        raise RuntimeError("no database")
    numbers = [int(orjson.loads(r.value)["id"][1:]) for r in batch]
    if any(n % 10 == 3 for n in numbers):
        raise ValueError("three")
    return [None if n % 10 == 5 else r for n, r in zip(numbers, batch, strict=True)]


async def test_a_real_node_is_scraped(kafka_server: KafkaServer, xmpp_server: XmppServer) -> None:
    async with rig(kafka_server, lanes=2) as r:
        stage, topic = NodeStage(Here(picky), LIMIT, r.topics), r.topics.lanes
        port = ports.find_free_port()
        async with fleet(xmpp_server, r, stage, settings.Metrics(port=port)) as (f, process):
            found = await scrape_until(
                port, lambda s: s.value("geolane_xmpp_up", worker=f.account) == 1
            )
            assert found.value("geolane_worker_leased", worker=f.account) == 0
            assert (
                found.value("geolane_worker_info", worker=f.account, kind="node", version="0.1.0")
                == 1
            )
            await f.lease()
            await until(lambda: f.health is Health.AVAILABLE)
            await r.fill_lane(0, 0, 200)
            await r.fill_lane(1, 0, 2 * POISONED_AT)
            before_s = time.time()
            await f.tell(AssignCommand(1, f.boot, stage.topic, (Grant(0, 4, 0), Grant(1, 7, 0))))

            def worked(s: Scrape) -> bool:
                lag = s.value("geolane_partition_lag_events", topic=topic, partition="0")
                return (
                    lag == 0 and s.value("geolane_partition_fault", topic=topic, partition="1") == 1
                )

            found = await scrape_until(port, worked)
            assert 0 < (found.value("geolane_path_rtt_seconds", broker="1") or 0) < 1
            lane = {"worker": f.account, "topic": topic, "partition": "0"}
            assert found.value("geolane_events_in_total", **lane) == 200
            assert found.value("geolane_events_out_total", **lane) == 160
            assert found.value("geolane_events_filtered_total", **lane) == 20
            assert found.value("geolane_events_dead_total", **lane) == 20
            assert found.value("geolane_partition_oldest_seconds", **lane) == 0
            assert found.value("geolane_partition_epoch", **lane) == 4
            assert found.value("geolane_partition_fault", **lane) == 0
            assert found.value("geolane_processing_seconds_count", topic=topic) == pytest.approx(
                200
            )
            assert (found.value("geolane_commit_seconds_count", topic=topic) or 0) >= 1
            assert found.value("geolane_kafka_up", worker=f.account) == 1
            assert found.value("geolane_worker_leased", worker=f.account) == 1
            assert found.value("geolane_worker_leader_epoch", worker=f.account) == 1
            broken = {"topic": topic, "partition": "1"}
            assert found.value("geolane_faults_total", topic=topic) == 1
            assert found.value("geolane_partition_lag_events", **broken) == 2 * POISONED_AT
            assert found.value("geolane_events_in_total", **broken) is None
            oldest_s = found.value("geolane_partition_oldest_seconds", **broken) or 0.0
            assert 0 < oldest_s <= time.time() - before_s + 10
            again = await scrape(port)
            assert (again.value("geolane_partition_oldest_seconds", **broken) or 0.0) > oldest_s
            declared = {x.name for x in (*m.EVERY_PROCESS, *m.WORKER)}
            assert {n for n in found.names if n.startswith("geolane_")} == declared
            process.cancel()
            await asyncio.wait([process])
        with pytest.raises(OSError):  # noqa: PT011 - urllib's URLError is one
            await scrape(port)


def seen(r: Rig, w: Running, worker: str = "node-t-1") -> Scrape:
    """One look at an engine that has no link, in words."""
    out = Samples()
    link = WorkerLink(
        settings.Xmpp(), worker, w.boot, w.engine.execute_command, site="t", capacity_eps=1
    )
    add_worker_metrics(worker, w.engine, link, out)
    return Scrape(written(out))


def test_the_oldest_event_is_never_older_than_told() -> None:
    lane = WorkedPartition(WorkerKind.NODE.partition(3), 1, 100)
    assert (lane.lag_events, lane.oldest_event_age_s(9_000)) == (None, None)
    lane.start_at_offset(100, "", 1.0)
    lane.note_position(200, 150, 2_000, 9_000)  # took 50 records, the first appended at 2 s
    assert (lane.lag_events, lane.oldest_event_age_s(9_000)) == (100, 7.0)
    lane.next = lane.committed = 150
    lane.clear_ms = 4_000  # the last of them was appended then
    assert (lane.lag_events, lane.oldest_event_age_s(10_000)) == (50, 6.0)
    lane.next = lane.committed = 199
    lane.note_position(200, 200, None, 10_000)  # a transaction marker is left, no event
    assert (lane.lag_events, lane.oldest_event_age_s(10_100)) == (0, 0.0)
    lane.note_position(200, 200, None, None)  # the broker cannot be asked
    assert lane.oldest_event_age_s(10_000 + 30_000) == 30.0
    lane.note_position(200, 200, None, 41_000)
    assert lane.oldest_event_age_s(41_000) == 0.0


async def test_a_routers_dead_are_counted_and_its_partitions_are_raw(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, lanes=2, raw=1) as r:
        lanemap = build_lane_map([event(0)], 2, 4, 1)
        await r.fill(r.topics.raw, 0, [event(1), b"nonsense", event(2)])
        w = await r.engine(RouterStage(lanemap, LIMIT, 300_000, r.topics))
        await w.assign((0, 1, 0))
        await until(lambda: done(w) == 3)
        found = seen(r, w, "router-1")
        part = {"worker": "router-1", "topic": r.topics.raw, "partition": "0"}
        assert found.value("geolane_events_out_total", **part) == 2
        assert found.value("geolane_events_dead_total", **part) == 1
        assert found.value("geolane_worker_info", kind="router") == 1
        await until(
            lambda: seen(r, w).value("geolane_partition_lag_events", topic=r.topics.raw) == 0
        )


async def test_a_count_goes_on_when_a_partition_comes_back_and_what_another_did_is_not_ours(
    kafka_server: KafkaServer,
) -> None:
    async with rig(kafka_server, lanes=1) as r:
        topic = r.topics.lanes
        a, b = await r.engine(node(r), "a"), await r.engine(node(r), "b")
        for epoch, (w, first, count) in enumerate(((a, 0, 50), (b, 50, 30), (a, 80, 20)), 1):
            await r.fill_lane(0, first, count)
            found = await r.committed(topic, 0, r.topics.node_group)
            await w.assign((0, epoch, found[0] if found else 0))
            await until(
                lambda w=w: seen(r, w).value("geolane_partition_lag_events", topic=topic) == 0  # type: ignore[misc]
            )
            await w.release((0, epoch))
            assert seen(r, w).value("geolane_partition_lag_events", topic=topic) is None
        assert seen(r, a).value("geolane_events_in_total", topic=topic) == 70
        assert seen(r, b).value("geolane_events_in_total", topic=topic) == 30


async def test_a_broker_that_is_gone_shows(server_folder: Path) -> None:
    broker = Broker(server_folder, heap_mb=384)
    await broker.start(120)
    try:
        async with rig(KafkaServer(broker), lanes=1) as r:
            w = await r.engine(node(r))
            await w.assign((0, 1, 0))
            await until(lambda: seen(r, w).value("geolane_kafka_up") == 1)
            broker.kill()
            await until(lambda: seen(r, w).value("geolane_kafka_up") == 0)
            assert not w.task.done() or isinstance(w.task.exception(), LeaseLost)
    finally:
        broker.kill()
