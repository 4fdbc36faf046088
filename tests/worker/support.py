"""A small data plane of a test's own on the shared broker: topics, leases, engines, and all that
can be read from them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agents import settings
from agents.base.errors import LeaseLost
from agents.core.lanes.records import PART, SRC
from agents.core.model.messages import (
    AssignCommand,
    Grant,
    LeaseCommand,
    ReleaseCommand,
    WorkerAnswer,
)
from agents.core.model.topology import MAIN, Partition
from agents.kafka.connection import client_kwargs
from agents.kafka.leases import LeaseMaker
from agents.kafka.markers import Reach
from agents.kafka.offsets import Offsets
from agents.kafka.topics import MAX_DEAD_BYTES, Topic, ensure_topics
from agents.node.contract import Answers, Pipeline, RecordColumns, call_pipeline_each
from agents.node.runner import PipelineRunner
from agents.worker.engine import Engine
from agents.worker.stage import Stage, Topics
from tests.fixtures.kafka import KafkaServer

ORIGIN = {"lat": 41.97959, "lon": -87.90446}


def event(i: int, **more: object) -> bytes:
    """A small valid event."""
    return orjson.dumps({"id": f"e{i}", "ts": "2001-01-08T14:35:00Z", "origin": ORIGIN, **more})


async def until(condition: Callable[[], object], bound_s: float = 20.0) -> None:
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


@dataclass
class Running:
    """One engine at work, and the lease it was given."""

    engine: Engine
    task: asyncio.Task[None]
    boot: str
    lease: LeaseCommand
    topic: str
    lost: list[LeaseLost] = field(default_factory=list)

    async def assign(self, *grants: tuple[int, int, int]) -> WorkerAnswer:
        """(partition, epoch, offset) each."""
        return await self.engine.execute_command(
            AssignCommand(1, self.boot, self.topic, tuple(Grant(*g) for g in grants))
        )

    async def release(self, *grants: tuple[int, int]) -> WorkerAnswer:
        return await self.engine.execute_command(
            ReleaseCommand(
                1, self.boot, self.topic, tuple(Grant(n, epoch, 0) for n, epoch in grants)
            )
        )

    async def kill(self) -> None:
        """As abruptly as a task can end: cancelled wherever it is."""
        self.task.cancel()
        with suppress(asyncio.CancelledError, LeaseLost):
            await self.task


class Here:
    """A pipeline that is run in this process: for tests that look into it (the real thing:
    tests/node/test_runner.py)."""

    version, pids, is_fresh = "test:pipeline@here", (), True

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._asked: tuple[RecordColumns, int] = (RecordColumns([], [], [], [], []), 0)

    def acquire_process(self) -> Here:
        return Here(self._pipeline)

    def release_process(self, process: PipelineRunner) -> None:
        pass

    def end_process(self, process: PipelineRunner) -> None:
        pass

    def send_request(self, columns: RecordColumns, failures: int) -> None:
        self._asked = columns, failures

    def receive_answer(self, within_s: float) -> Answers:
        return call_pipeline_each(self._pipeline, *self._asked)


class Rig:
    """Topics with fresh names; `lanes` partitions of lanes and clean, `raw` of raw."""

    def __init__(self, server: KafkaServer, lanes: int, raw: int) -> None:
        prefix = server.name("rig")
        self.server, self.kafka = server, server.kafka
        self.lanes, self.raw = lanes, raw
        self.topics = Topics(
            *(
                f"{prefix}-{name}"
                for name in ("raw", "lanes", "clean", "unplaced", "dead", "gn", "gr", "gg")
            )
        )
        t = self.topics
        reach = Reach(
            (t.clean, t.dead, t.lanes, t.unplaced, t.raw),
            (t.node_group, t.router_group, t.geo_group),
        )
        self.makers = LeaseMaker(self.kafka, 10_000, lambda _: reach)
        self.running: list[Running] = []

    async def start(self) -> None:
        t = self.topics
        await ensure_topics(
            self.kafka,
            (
                Topic(t.raw, self.raw, 64),
                Topic(t.lanes, self.lanes, 64),
                Topic(t.clean, self.lanes, 64),
                Topic(t.unplaced, 1, 64),
                Topic(t.dead, 1, 64, {"max.message.bytes": str(MAX_DEAD_BYTES)}),
            ),
            embedded=True,
        )
        await self.makers.start()

    async def stop(self) -> None:
        for running in self.running:
            await running.kill()
        await self.makers.stop()

    async def engine(self, stage: Stage, worker: str = "w", **options: Any) -> Running:
        """Start an engine under a new lease of transactional id `worker` (which fences the one
        before)."""
        boot = self.server.name("boot")
        tid = f"{self.topics.raw}-{worker}"
        pid, epoch = await self.makers.make_lease(tid)
        engine = Engine(self.kafka, settings.Worker(), stage, boot, **options)
        lease = LeaseCommand(1, boot, tid, pid, epoch)
        task = asyncio.create_task(engine.run())
        running = Running(engine, task, boot, lease, stage.topic)
        self.running.append(running)
        await engine.execute_command(lease)
        return running

    async def fence(self, running: Running) -> None:
        await self.makers.make_lease(running.lease.transactional_id)

    async def fill(
        self,
        topic: str,
        n: int,
        values: Iterable[Any],
        *,
        headers: Sequence[Any] = (),
        codec: str | None = None,
    ) -> None:
        """Values (or (key, value) pairs) into one partition, in order."""
        producer = AIOKafkaProducer(
            **client_kwargs(self.kafka),
            enable_idempotence=True,
            max_request_size=8 << 20,
            compression_type=codec,
        )
        await producer.start()
        try:
            sends = []
            for value in values:
                key, content = value if isinstance(value, tuple) else (None, value)
                sends.append(
                    await producer.send(topic, content, key, n, headers=list(headers) or None)
                )
            await asyncio.gather(*sends)
        finally:
            await producer.stop()

    async def fill_lane(self, n: int, first: int, count: int) -> None:
        """Records of `events.lanes` as a router writes them; sources raw/N/I."""
        producer = AIOKafkaProducer(**client_kwargs(self.kafka), enable_idempotence=True)
        await producer.start()
        try:
            sends = []
            for i in range(first, first + count):
                headers = [
                    (SRC, f"raw/{n}/{i}".encode()),
                    ("geolane-raw-ms", b"%d" % (time.time() * 1000)),
                    ("geolane-cell", b"842664dffffffff"),
                    ("geolane-ts", b"978964500000"),
                    ("geolane-map", b"1"),
                ]
                sends.append(
                    await producer.send(self.topics.lanes, event(i), b"k%d" % i, n, headers=headers)
                )
            await asyncio.gather(*sends)
        finally:
            await producer.stop()

    async def read(self, topic: str, at_least: int = 0) -> list[Any]:
        """Everything committed there, once there are `at_least` records (a commit shows some ms
        after it returned)."""
        consumer = AIOKafkaConsumer(
            **client_kwargs(self.kafka),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=16 << 20,
        )
        await consumer.start()
        found: list[Any] = []
        try:
            tps = [
                TopicPartition(topic, n) for n in sorted(await self._partitions(consumer, topic))
            ]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            deadline = time.monotonic() + 20
            while True:
                ends = await consumer.end_offsets(tps)
                while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found.extend(records)
                if len(found) >= at_least:
                    break
                assert time.monotonic() < deadline, (
                    f"{topic}: {len(found)} records, {at_least} were expected"
                )
                await asyncio.sleep(0.01)
        finally:
            await consumer.stop()
        return found

    async def _partitions(self, consumer: Any, topic: str) -> set[int]:
        await consumer._client._wait_on_metadata(topic)
        return set(consumer.partitions_for_topic(topic))

    async def sources(self, topic: str, at_least: int = 0) -> list[str]:
        """`geolane-src` (and part) of every committed record."""
        found = []
        for r in await self.read(topic, at_least):
            h = dict(r.headers)
            found.append(h[SRC].decode() + (" " + h[PART].decode() if PART in h else ""))
        return found

    async def committed(self, topic: str, n: int, group: str) -> tuple[int, str] | None:
        offsets = Offsets(self.kafka, group)
        await offsets.start()
        try:
            part = Partition(f"{MAIN}/{topic}", n)
            return (await offsets.read_committed_offsets([part]))[part]
        finally:
            await offsets.stop()


@asynccontextmanager
async def rig(server: KafkaServer, lanes: int = 4, raw: int = 2) -> AsyncIterator[Rig]:
    made = Rig(server, lanes, raw)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
