"""Faults of what analytics reads and writes, on a real broker: each rise of the definition is told
once, and so is what is wrong, with what to do."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from structlog.testing import capture_logs

from agents.analytics import base_engine, engine
from agents.analytics.engine import HotspotEngine
from agents.base.errors import LeaseLost
from agents.core.hotspots.areas import area_of
from agents.core.model.hotspots import Rise
from agents.kafka.connection import client_kwargs
from agents.kafka.transactions import TransactionalProducer
from agents.local.servers.broker import Broker
from agents.observe.metrics.samples import Samples
from kernels.hotspots import detector
from tests.analytics.support import (
    TOKYO,
    Event,
    Parameters,
    Rig,
    Running,
    closing,
    expected_rises,
    made_stream,
    rig,
    until,
)
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import add_partitions, admin_client, alter


async def the_next(r: Rig, epoch: int, **more: Any) -> Running:
    """The next boot of the worker, at work."""
    running = await r.engine(Parameters(idle_s=60), **more)
    await running.assign(epoch, (await r.committed())[0])
    return running


def fault_of(running: Running) -> str:
    return "".join(lane.fault for lane in running.engine.owned_partitions())


async def assert_rises(
    r: Rig, expected: set[Rise], bound_s: float = 40, but: Sequence[str] = ()
) -> None:
    """Each once, and no other, `but` for those of these cells."""
    wanted = sorted(rise for rise in expected if rise.cell not in but)
    deadline = time.monotonic() + bound_s
    while True:
        found = sorted(rise for rise in await r.rises() if rise.cell not in but)
        if found == wanted or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    assert found == wanted
    assert len(found) > 5


@pytest.mark.parametrize("committed", [False, True])
async def test_a_worker_killed_while_it_commits_rises(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Its rises are written. Whether they are committed or not, its successor tells each once."""
    stream, writes, killed = made_stream(21, minutes=80), [False], asyncio.Event()
    try_commit, commit = HotspotEngine._try_commit, TransactionalProducer.commit_transaction

    async def noted(self: Any, lane: Any, producer: Any, rows: Sequence[Any], at: Any) -> bool:
        writes[0] = any(topic == r.topics.rises for topic, _, _ in rows)
        return await try_commit(self, lane, producer, rows, at)

    async def die(self: Any) -> None:
        if writes[0]:
            if committed:
                await commit(self)
            killed.set()
            await asyncio.Event().wait()
        await commit(self)

    async with rig(kafka_server) as r:
        monkeypatch.setattr(HotspotEngine, "_try_commit", noted)
        monkeypatch.setattr(TransactionalProducer, "commit_transaction", die)
        third = len(stream) // 3 + 1
        for epoch in range(1, 4):
            await r.send(stream[(epoch - 1) * third : epoch * third])
            w = await the_next(r, epoch, snapshot_s=0.0 if epoch == 2 else 100.0)
            await asyncio.wait_for(killed.wait(), 30)
            killed.clear()
            before = len(await r.rises())
            assert (before > 0) == committed
            await w.kill()
        monkeypatch.setattr(TransactionalProducer, "commit_transaction", commit)
        await the_next(r, 4)
        await r.send(closing(stream))
        await assert_rises(r, expected_rises(stream))


@pytest.fixture
def collected() -> Iterator[None]:
    """aiokafka leaves a connection open if it is cancelled while it asks its first broker
    (AIOKafkaClient.bootstrap): it is collected before the next test, which it would fail."""
    yield
    gc.collect()


@pytest.mark.stack
@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_broker_that_is_killed_comes_back(own_broker: Broker) -> None:
    stream = made_stream(22)
    third = len(stream) // 3 + 1
    async with rig(KafkaServer(own_broker)) as r:
        epoch, w = 1, await the_next(r, 1)
        for n in range(3):
            await r.send(stream[n * third : (n + 1) * third])
            await asyncio.sleep(0.5)
            with capture_logs() as logs:
                own_broker.kill()
                await asyncio.wait([w.task], timeout=3)
                await own_broker.start(120)
            assert sum(x["event"] == "kafka_unavailable" for x in logs) <= 1
        await r.send(closing(stream))
        deadline = time.monotonic() + 60
        while set(await r.rises()) != expected_rises(stream) and time.monotonic() < deadline:
            if w.task.done():
                assert isinstance(w.task.exception(), LeaseLost)
                epoch += 1
                w = await the_next(r, epoch)
            await asyncio.sleep(0.2)
        await assert_rises(r, expected_rises(stream), 0)


async def test_a_partition_that_is_added_is_read(kafka_server: KafkaServer) -> None:
    """By the worker at work, and by the next one, whose checkpoint has only the others."""
    stream, counts = made_stream(23, partitions=12), (2, 3, 4)
    third = len(stream) // 3 + 1
    parts = [
        [e._replace(partition=e.partition % count) for e in stream[n * third : (n + 1) * third]]
        for n, count in enumerate(counts)
    ]
    async with rig(kafka_server, lanes=2) as r:
        w = await the_next(r, 1)
        await r.send(parts[0])
        await r.wait_until_counted(third)
        await add_partitions(kafka_server.kafka, r.topics.lanes, 3)
        assert w.engine._reader is not None
        while 2 not in w.engine._reader._assigned:
            await w.engine._reader._consumer._client.force_metadata_update()
        await r.send(parts[1])
        await r.wait_until_counted(2 * third)
        await w.release(1)
        await add_partitions(kafka_server.kafka, r.topics.lanes, 4)
        await the_next(r, 2)
        await r.send([*parts[2], *closing(stream, 4)])
        await assert_rises(r, expected_rises(stream))


async def test_copies_that_were_aborted_do_not_count_and_those_of_a_source_do(
    kafka_server: KafkaServer,
) -> None:
    """A source that sends each event twice has twice the rate."""
    once = made_stream(24)
    stream = [e for e in once for _ in range(2)]
    async with rig(kafka_server) as r:
        producer = AIOKafkaProducer(
            **client_kwargs(kafka_server.kafka), transactional_id=kafka_server.name("router")
        )
        await producer.start()
        try:
            for lo in range(0, len(stream), 2000):
                part = stream[lo : lo + 2000]
                await producer.begin_transaction()
                for e in part[::2]:
                    headers = [("geolane-cell", e.cell.encode()), ("geolane-ts", b"%d" % e.ms)]
                    await producer.send(
                        r.topics.lanes, b"{}", partition=e.partition, headers=headers
                    )
                await producer.abort_transaction()
                await r.send(part)
        finally:
            await producer.stop()
        await the_next(r, 1)
        await r.send(closing(stream))
        await assert_rises(r, expected_rises(stream))
        assert await r.counted() <= len(stream) + 3


async def test_a_source_that_stops_holds_nobody_back_and_returns(
    kafka_server: KafkaServer,
) -> None:
    """While it is away, the others' rises are found; when it is back, its events count again."""
    stream = made_stream(25, minutes=90, bursts=5)
    a, b = len(stream) // 3, 2 * len(stream) // 3
    away = [e for e in stream[a:b] if e.partition]
    heard = [*stream[:a], *away, *stream[b:]]
    async with rig(kafka_server) as r:
        w = await r.engine(Parameters(idle_s=8))  # a busy machine may stand still for seconds
        await w.assign(1, 0)
        await r.send(stream[:a])
        await r.wait_until_counted(a)
        await r.send(away)
        expected, until_s = expected_rises(heard), away[-1].ms // 1000 - 20
        soon = {rise for rise in expected if rise.at_s <= until_s}
        assert any(rise.at_s > stream[a].ms // 1000 for rise in soon)
        deadline = time.monotonic() + 90
        while not soon <= set(await r.rises()):
            assert time.monotonic() < deadline, "the one that stopped holds the others back"
            await asyncio.sleep(0.2)
        await r.send(stream[b:])
        await r.wait_until_counted(len(heard))
        await r.send(closing(stream))
        await assert_rises(r, expected)


async def test_a_clock_that_stands_still_is_named(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds event time back for all, so people are told which source it is."""
    monkeypatch.setattr(engine, "STILL_S", 0.5)
    stream = made_stream(26, partitions=2)
    stuck = Event(2, stream[0].ms, TOKYO)
    async with rig(kafka_server) as r:
        w = await the_next(r, 1)

        async def fault(wanted: Callable[[str], bool]) -> str:
            """As soon as it is as wanted, while the stuck source goes on."""
            async with asyncio.timeout(20):
                while not wanted(fault_of(w)):
                    await r.send([stuck])
            return fault_of(w)

        await r.send([stuck, *stream])
        said = await fault(bool)
        assert said.startswith("aside: event time stands still: the newest event of lane 2 is of ")
        assert "2020-09-13T12:26:4" in said
        assert said.endswith("look at the clocks of the sources of lane 2")
        await r.send(closing(stream))
        await until(lambda: not fault_of(w))
        await assert_rises(r, expected_rises(stream), but=(TOKYO, area_of(TOKYO)))


async def test_a_stream_that_ends_is_not_told_as_one_that_stands_still(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "STILL_S", 0.5)
    stream = made_stream(27, partitions=2)
    async with rig(kafka_server) as r:
        w = await r.engine(Parameters(idle_s=0.2))
        await w.assign(1, 0)
        await r.send([Event(2, stream[0].ms, TOKYO), *stream])
        await r.wait_until_counted(len(stream) + 1)
        for _ in range(40):
            assert not fault_of(w)
            await asyncio.sleep(0.05)


async def test_a_flood_of_new_places_stops_no_place_that_is_known(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "MOST_CELLS", 100)
    monkeypatch.setattr(engine, "LATE_S", 0.5)
    stream, flooded = made_stream(28), list[Event]()
    async with rig(kafka_server) as r:
        w = await the_next(r, 1)
        await r.send(stream[:1000])
        await r.wait_until_counted(1000)
        for n, e in enumerate(stream[1000:]):
            flooded += [e, e._replace(cell=f"8a{n:013x}")]
        await r.send([*flooded, *closing(stream)])
        await until(lambda: "of places that are not watched" in fault_of(w), 20)
        assert ", since 100 are already: find the source" in fault_of(w)
        w.engine.add_metrics("analytics-1", samples := Samples())
        [family] = samples.families()
        assert family.samples[0].value > 0
        await until(lambda: not fault_of(w), 20)
        await assert_rises(r, expected_rises(stream), but=["830000fffffffff"])


async def test_records_that_are_gone_are_told_and_left_out(
    kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention has taken them while nobody worked."""
    monkeypatch.setattr(base_engine, "NOTICE_S", 3.0)
    stream = made_stream(29)
    half, later = len(stream) // 2, 5 * len(stream) // 8
    async with rig(kafka_server) as r:
        w = await the_next(r, 1)
        await r.send(stream[:half])
        await r.wait_until_counted(half)
        await w.release(1)
        await r.send([e for e in stream[half:later] if e.partition == 1])
        async with admin_client(kafka_server.kafka) as admin:
            await admin.delete_records({TopicPartition(r.topics.lanes, 1): RecordsToDelete(-1)})
        w = await the_next(r, 2)
        await until(lambda: bool(fault_of(w)), 20)
        assert "records" in fault_of(w)
        assert "are gone, and hotspots in them were not found" in fault_of(w)
        assert fault_of(w).endswith(" must keep more (retention.ms)")
        rest = [e for e in stream[half:] if e.partition != 1 or e not in set(stream[half:later])]
        await r.send([*rest, *closing(stream)])
        await assert_rises(r, expected_rises([*stream[:half], *rest]))
        await until(lambda: not fault_of(w), 20)


async def test_a_refused_commit_is_told_once_and_made_good(kafka_server: KafkaServer) -> None:
    stream = made_stream(30)
    async with rig(kafka_server) as r:
        w = await the_next(r, 1)
        await r.send(stream[:1000])
        await r.wait_until_counted(1000)
        await alter(kafka_server.kafka, r.topics.rises, {"max.message.bytes": "100"})
        with capture_logs() as logs:
            await r.send(stream[1000:])
            await until(lambda: fault_of(w).startswith("held: "), 20)
            aborts = w.engine.meters.aborts
            await until(lambda: w.engine.meters.aborts > aborts + 1, 20)
        assert sum(x["event"] == "not_committed" for x in logs) == 1
        assert r.topics.rises in fault_of(w)
        await alter(kafka_server.kafka, r.topics.rises, {"max.message.bytes": "1048588"})
        await until(lambda: not fault_of(w), 20)
        await r.send(closing(stream))
        await assert_rises(r, expected_rises(stream))
