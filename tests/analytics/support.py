"""Analytics on a broker: topics, leases and engines of a test's own, streams as a router writes
them, and the rises that the definition, read literally, finds in them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from h3.api import basic_str as h3

from agents import settings
from agents.analytics.base_engine import AnalyticsTopics, BaseEngine
from agents.analytics.engine import HotspotEngine
from agents.analytics.flink import JobManager
from agents.analytics.flink_engine import FlinkEngine
from agents.analytics.sql_gateway import SqlGateway
from agents.base.errors import LeaseLost
from agents.core.geo.context import ContextKind, GeoContext
from agents.core.hotspots.areas import area_of
from agents.core.hotspots.lifecycle import Lifecycle
from agents.core.model.hotspots import Hotspot, Rise
from agents.core.model.messages import AssignCommand, Grant, LeaseCommand, ReleaseCommand
from agents.core.model.topology import MAIN, Partition
from agents.kafka.compacted import read_table
from agents.kafka.connection import client_kwargs, make_committed_reader
from agents.kafka.leases import LeaseMaker
from agents.kafka.markers import Reach
from agents.kafka.offsets import Offsets
from agents.kafka.topics import Topic, ensure_topics
from agents.local.demo.flights import week_of_events
from kernels.hotspots.rises import FACTORS, Rule
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import fill
from tests.kernels.hotspots.support import slow_rises
from tests.worker.support import until

START_MS = 1_600_000_000_000
NEW_YORK, NEWARK, TOKYO = (
    h3.latlng_to_cell(lat, lon, 5) for lat, lon in ((40.7, -74.0), (40.6, -74.3), (35.7, 139.7))
)


Parameters = partial(settings.Analytics, idle_s=2.0)


class Event(NamedTuple):
    partition: int
    ms: int
    cell: str


def made_stream(
    seed: int, partitions: int = 3, minutes: int = 60, eps: float = 0.4, bursts: int = 3
) -> list[Event]:
    """Events in the order of arrival, shuffled within the lateness, with bursts."""
    rng = np.random.default_rng(seed)
    events = []
    for c, cell in enumerate((NEW_YORK, NEWARK, TOKYO)):
        rate = np.full(minutes * 60, eps * (c + 1))
        for at in rng.integers(16 * 60, minutes * 60, size=bursts):
            rate[at : at + 90] *= 8
        for s, n in enumerate(rng.poisson(rate)):
            events += [
                Event(int(rng.integers(partitions)), START_MS + s * 1000 + int(ms), cell)
                for ms in rng.integers(1000, size=n)
            ]
    return sorted(events, key=lambda e: e.ms + int(rng.integers(4900)))


def flights(count: int, partitions: int = 3) -> list[Event]:
    """The first departures of the recorded week, at their airports' cells."""
    found = []
    for _, value in islice(week_of_events(), count):
        event = orjson.loads(value)
        cell = h3.latlng_to_cell(event["origin"]["lat"], event["origin"]["lon"], 5)
        ms = round(datetime.fromisoformat(event["ts"]).timestamp() * 1000)
        found.append(Event(int(cell, 16) // 7 % partitions, ms, cell))
    return found


def closing(events: Sequence[Event], partitions: int = 3) -> list[Event]:
    """One event per partition, an hour later: they close all slots before, and end all
    hotspots."""
    last = max(e.ms for e in events) + 3_700_000
    return [Event(p, last, TOKYO) for p in range(partitions)]


def expected_rises(events: Sequence[Event], rule: Rule | None = None) -> set[Rise]:
    """Of a stream in which nothing is late."""
    counts = Counter[tuple[int, int]]()
    for e in events:
        for cell in (e.cell, area_of(e.cell)):
            counts[e.ms // 1000, int(cell, 16)] += 1
    rule = rule or Rule(min(e.ms for e in events) // 1000, 12, 17_000_000)
    return {
        Rise(f.at_s, f"{f.cell:x}", FACTORS[f.factor], f.started_s, f.events, f.usual, f.usual_s)
        for f in slow_rises([(s, c, n) for (s, c), n in counts.items()], rule)
    }


def expected_hotspots(rises: Iterable[Rise]) -> list[Hotspot]:
    """All their changes, until each has ended."""
    return list(Lifecycle().advance(rises, 1 << 40))


@dataclass
class Running:
    engine: BaseEngine[Any]
    task: asyncio.Task[None]
    boot: str
    lease: LeaseCommand
    topic: str

    async def assign(self, epoch: int, offset: int) -> None:
        grant = Grant(0, epoch, offset)
        await self.engine.execute_command(AssignCommand(1, self.boot, self.topic, (grant,)))

    async def release(self, epoch: int) -> int:
        """The offset of the release."""
        grant = Grant(0, epoch, 0)
        command = ReleaseCommand(1, self.boot, self.topic, (grant,))
        return (await self.engine.execute_command(command)).lanes[0].offset

    async def kill(self) -> None:
        """As abruptly as a task can end: cancelled wherever it is."""
        self.task.cancel()
        with suppress(asyncio.CancelledError, LeaseLost):
            await self.task


@dataclass
class Rig:
    server: KafkaServer
    lanes: int
    topics: AnalyticsTopics
    makers: LeaseMaker
    running: list[Running] = field(default_factory=list)

    async def engine(self, parameters: settings.Analytics, snapshot_s: float = 0.5) -> Running:
        """Start an engine under a new lease, which fences the one before."""
        return await self._run(
            lambda boot: HotspotEngine(
                self.server.kafka, parameters, boot, topics=self.topics, snapshot_s=snapshot_s
            )
        )

    async def flink_engine(
        self, parameters: settings.Analytics, clients: tuple[JobManager, SqlGateway]
    ) -> Running:
        """As `engine`, of the kind that looks after a job."""
        return await self._run(
            lambda boot: FlinkEngine(
                self.server.kafka, parameters, clients, boot, topics=self.topics
            )
        )

    async def _run(self, make: Callable[[str], BaseEngine[Any]]) -> Running:
        boot, tid = self.server.name("boot"), f"{self.topics.hotspots}-w"
        pid, epoch = await self.makers.make_lease(tid)
        engine = make(boot)
        lease = LeaseCommand(1, boot, tid, pid, epoch)
        task = asyncio.create_task(engine.run())
        running = Running(engine, task, boot, lease, f"{MAIN}/{self.topics.hotspots}")
        self.running.append(running)
        await engine.execute_command(lease)
        return running

    async def send(self, events: Sequence[Event], extra: Sequence[tuple[str, bytes]] = ()) -> None:
        """Into `events.lanes`, in this order, as a router writes them."""
        producer = AIOKafkaProducer(
            **client_kwargs(self.server.kafka), enable_idempotence=True, linger_ms=5
        )
        await producer.start()
        try:
            sends = []
            for e in events:
                headers = [
                    ("geolane-src", b"raw/0/1"),
                    ("geolane-raw-ms", b"1"),
                    ("geolane-cell", e.cell.encode()),
                    ("geolane-ts", b"%d" % e.ms),
                    ("geolane-map", b"1"),
                    *extra,
                ]
                sends.append(
                    await producer.send(
                        self.topics.lanes, b"{}", None, e.partition, headers=headers
                    )
                )
            await asyncio.gather(*sends)
        finally:
            await producer.stop()

    async def name_cells(self, names: Mapping[str, str]) -> None:
        """Into `geo.context`, as a geo worker writes names that do not expire."""
        await ensure_topics(self.server.kafka, (Topic(self.topics.context, 1, 64),), embedded=True)
        now = int(time.time())
        for cell, name in names.items():
            record = GeoContext(
                kind=ContextKind.NAME,
                cell=cell,
                name=name,
                provider="offline",
                fetched_at=now,
                expires_at=now + 86_400,
            )
            await fill(self.server.kafka, self.topics.context, [record.encode()], key=cell.encode())

    async def committed(self) -> tuple[int, str]:
        """The committed offset of the partition of hotspots, with its metadata."""
        offsets = Offsets(self.server.kafka, self.topics.group)
        await offsets.start()
        try:
            part = Partition(f"{MAIN}/{self.topics.hotspots}", 0)
            return (await offsets.read_committed_offsets([part]))[part] or (0, "{}")
        finally:
            await offsets.stop()

    async def counted(self) -> int:
        """How many records are committed as read."""
        return int(json.loads((await self.committed())[1]).get("in", 0))

    async def wait_until_counted(self, count: int, bound_s: float = 40.0) -> None:
        deadline = time.monotonic() + bound_s
        while (have := await self.counted()) < count:
            assert time.monotonic() < deadline, f"{have} of {count} records were counted"
            await asyncio.sleep(0.1)

    async def read(self, topic: str) -> list[bytes]:
        """All committed values, in order."""
        consumer = make_committed_reader(self.server.kafka, fetch_max_wait_ms=50)
        await consumer.start()
        found: list[bytes] = []
        try:
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            end = (await consumer.end_offsets([tp]))[tp]
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += [r.value for r in records]
        finally:
            await consumer.stop()
        return found

    async def rises(self, topic: str = "") -> list[Rise]:
        """Without the ticks of Flink's job."""
        values = await self.read(topic or self.topics.rises)
        return [rise for v in values if (rise := msgspec.json.decode(v, type=Rise)).cell]

    async def hotspots(self) -> list[Hotspot]:
        return [Hotspot.decode(v) for v in await self.read(self.topics.hotspots)]

    async def state(self) -> dict[bytes, bytes]:
        return await read_table(self.server.kafka, self.topics.state)


@asynccontextmanager
async def rig(server: KafkaServer, lanes: int = 3) -> AsyncIterator[Rig]:
    prefix = server.name("hot")
    topics = AnalyticsTopics(
        *(
            f"{prefix}-{name}"
            for name in ("lanes", "hotspots", "rises", "state", "g", "job", "context")
        )
    )
    reach = Reach((topics.hotspots, topics.rises, topics.state), (topics.group,))
    makers = LeaseMaker(server.kafka, 10_000, lambda _: reach)
    compact = {"cleanup.policy": "compact"}
    await ensure_topics(
        server.kafka,
        (
            Topic(topics.lanes, lanes, 64),
            Topic(topics.hotspots, 1, 64),
            Topic(topics.rises, 1, 64),
            Topic(topics.state, 1, 64, compact),
        ),
        embedded=True,
    )
    await makers.start()
    made = Rig(server, lanes, topics, makers)
    try:
        yield made
    finally:
        for running in made.running:
            await running.kill()
        await makers.stop()


__all__ = ["Event", "Parameters", "Rig", "closing", "expected_rises", "made_stream", "rig", "until"]
