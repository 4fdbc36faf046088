"""Raw events on their way through the real engine on Kafka Streams, on a real Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
import psutil
import pytest

from agents import settings
from agents.base.errors import CommandRefused, LeaseLost
from agents.core.model.messages import (
    AssignCommand,
    DrainCommand,
    Grant,
    LeaseCommand,
    ResumeCommand,
)
from agents.core.model.topology import KAFKA_STREAMS
from agents.kafka.compacted import publish_lane_map
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.observe.metrics.samples import Samples
from agents.router import java_program
from agents.router.streams_config import StreamsSetup
from agents.router.streams_engine import StreamsEngine
from agents.worker.stage import Topics
from tests.fixtures import foreign
from tests.fixtures.foreign import Foreign
from tests.fixtures.kafka import KafkaServer
from tests.once import require_once
from tests.router.hostile import Hostile
from tests.router.streams import Out, needs_jars
from tests.router.test_router import BAD, MAP, router
from tests.router.test_same_records import without_unequal_details
from tests.worker.support import Rig, event, rig, until
from tests.worker.test_engine import LIMIT

pytestmark = [needs_jars, pytest.mark.stack, pytest.mark.timeout(300)]
PROTOCOLS = pytest.mark.parametrize("protocol", ["auto", "classic"])
START_S = 120.0  # Java starts slowly on a busy machine


@dataclass
class Started:
    """One router's engine at work."""

    engine: StreamsEngine
    task: asyncio.Task[None]
    boot: str
    topic: str
    lost: list[LeaseLost] = field(default_factory=list)

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, LeaseLost):
            await self.task

    def taken(self) -> int:
        return sum(done.taken for done in self.engine.meters.done.values())

    async def until_taken(self, count: int) -> None:
        await until(lambda: self.taken() >= count or self.task.done(), START_S)
        if self.task.done():
            self.task.result()

    async def until_lost(self) -> str:
        async with asyncio.timeout(START_S):
            with pytest.raises(LeaseLost) as lost:
                await self.task
        return str(lost.value)


class Streams:
    """Routers of one group on the topics of a rig."""

    def __init__(self, r: Rig, maps: str) -> None:
        self.r, self.maps = r, maps
        self.running: list[Started] = []

    async def start(
        self, worker: str = "w", topics: Topics | None = None, protocol: str = "auto"
    ) -> Started:
        """Start one under a new lease of transactional id `worker`, which fences the one before."""
        r = self.r
        topics = topics or r.topics
        boot, tid = r.server.name("boot"), f"{r.topics.raw}-{worker}"
        pid, epoch = await r.makers.make_lease(tid)
        of_router = settings.Router(heap_mb=256, group_protocol=protocol)
        setup = StreamsSetup(r.kafka, of_router, MAP.version, 1, topics, self.maps)
        engine = StreamsEngine(setup, settings.Worker(max_event_bytes=LIMIT), boot)
        task = asyncio.create_task(engine.run())
        self.running.append(Started(engine, task, boot, f"main/{topics.raw}"))
        await engine.execute_command(LeaseCommand(1, boot, tid, pid, epoch))
        return self.running[-1]


@asynccontextmanager
async def streams(server: KafkaServer, lanes: int = 4, raw: int = 2) -> AsyncIterator[Streams]:
    async with rig(server, lanes, raw) as r:
        maps = await server.topic("lanemap", cleanup_policy="compact")
        await publish_lane_map(server.kafka, MAP, topic=maps)
        made = Streams(r, maps)
        try:
            yield made
        finally:
            for started in made.running:
                await started.stop()


async def test_it_sorts_and_counts_as_the_python_engine_does(kafka_server: KafkaServer) -> None:
    async with streams(kafka_server, raw=1) as s:
        r = s.r
        raw: list[tuple[bytes, bytes | None]] = []
        for i, (bad, _) in enumerate(BAD):
            raw += [(b"good%d" % i, event(i)), (b"bad%d" % i, bad)]
        await r.fill(r.topics.raw, 0, raw)
        w = await s.start()
        await w.until_taken(24)
        dead = await r.read(r.topics.dead, len(BAD))
        assert [dict(x.headers)["geolane-reason"].decode() for x in dead] == [why for _, why in BAD]
        assert len(await r.read(r.topics.lanes, len(BAD))) == len(BAD)
        lanes, arrivals = w.engine.take_load()
        assert [(lane.n, lane.epoch, lane.fault) for lane in lanes] == [(0, 0, "")]
        assert {a.n for a in arrivals} == {x.partition for x in await r.read(r.topics.lanes)}
        out = Samples()
        w.engine.add_metrics("router-1", out)
        assert (w.engine.name, w.engine.state) == (KAFKA_STREAMS, "RUNNING")
        await w.stop()
        found = await r.committed(r.topics.raw, 0, r.topics.router_group)
        assert found is not None
        assert orjson.loads(found[1]) == {"in": 24, "out": 12, "filtered": 0, "dead": 12}


@PROTOCOLS
async def test_each_engine_goes_on_where_the_other_has_committed(
    kafka_server: KafkaServer, protocol: str
) -> None:
    async with streams(kafka_server, raw=1) as s:
        r = s.r
        await r.fill(r.topics.raw, 0, [event(i) for i in range(100)])
        python = await r.engine(router(r))
        await python.assign((0, 1, 0))
        await r.read(r.topics.lanes, 100)
        await python.release((0, 1))
        await python.kill()
        await r.fill(r.topics.raw, 0, [event(i) for i in range(100, 200)])
        w = await s.start(protocol=protocol)
        await w.until_taken(100)
        await w.stop()
        await r.fill(r.topics.raw, 0, [event(i) for i in range(200, 300)])
        python = await r.engine(router(r), worker="other")
        await python.assign((0, 2, 200))
        sources = await r.sources(r.topics.lanes, 300)
        require_once(sources, (f"{r.topics.raw}/0/{i}" for i in range(300)))
        await python.release((0, 2))
        found = await r.committed(r.topics.raw, 0, r.topics.router_group)
        assert found is not None
        assert orjson.loads(found[1])["in"] == 300


async def by_partition(r: Rig, topic: str) -> dict[int, list[Out]]:
    """What is in a topic, in order. Names that are not UTF-8 are as they are shown."""
    found = defaultdict(list)
    for x in await r.read(topic):
        headers = tuple((str(name), content) for name, content in x.headers)
        found[x.partition].append(Out("", x.partition, x.key, x.value, headers))
    return found


async def test_both_engines_make_the_same_of_the_same_topic(kafka_server: KafkaServer) -> None:
    """Byte for byte, and in the same order in each partition."""
    async with streams(kafka_server, raw=1) as s, foreign.sender(s.r.kafka) as sender:
        r = s.r
        theirs = Topics(
            raw=r.topics.raw,
            lanes=await kafka_server.topic("lanes", 4),
            unplaced=await kafka_server.topic("unplaced"),
            dead=await kafka_server.topic("dead", max_message_bytes=str(MAX_DEAD_BYTES)),
            router_group=kafka_server.name("group"),
        )
        records = list(Hostile(7).records(3_000))
        for i in range(0, len(records), 50):
            batch = [Foreign(x.value, x.key, x.headers) for x in records[i : i + 50]]
            assert (await sender.send(r.topics.raw, 0, foreign.batch(batch, i // 50 % 5)))[0] == 0
        python = await r.engine(router(r))
        await python.assign((0, 1, 0))
        w = await s.start("other", topics=theirs)
        await w.until_taken(len(records))
        await until(lambda: python.engine.meters.done.get(0), 60)
        await until(lambda: python.engine.meters.done[0].taken == len(records), 60)
        for mine, other in (
            (r.topics.lanes, theirs.lanes),
            (r.topics.unplaced, theirs.unplaced),
            (r.topics.dead, theirs.dead),
        ):
            expected, found = await by_partition(r, mine), await by_partition(r, other)
            assert found.keys() == expected.keys()
            for n, ours in expected.items():
                assert len(found[n]) == len(ours)
                for one, another in zip(*without_unequal_details(ours, found[n]), strict=True):
                    assert one == another


async def test_a_fenced_lease_commits_nothing(kafka_server: KafkaServer) -> None:
    async with streams(kafka_server, raw=1) as s:
        r = s.r
        await r.fill(r.topics.raw, 0, [event(i) for i in range(10)])
        w = await s.start()
        await w.until_taken(10)
        await r.makers.make_lease(f"{r.topics.raw}-w")
        await r.fill(r.topics.raw, 0, [event(i) for i in range(10, 20)])
        why = await w.until_lost()
        assert "lease is lost" in why
        assert len(await r.read(r.topics.lanes)) == 10
        again = await s.start()
        await again.until_taken(10)
        assert len(set(await r.sources(r.topics.lanes, 20))) == 20


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_program_that_dies_or_hangs_ends_the_boot(
    kafka_server: KafkaServer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java_program, "SILENT_S", 5.0)
    async with streams(kafka_server, raw=2) as s:
        r = s.r
        for n in range(2):
            await r.fill(r.topics.raw, n, [event(i) for i in range(10)])
        w = await s.start()
        await w.until_taken(20)
        [pid] = w.engine.pids
        os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        assert "Kafka Streams has ended" in await w.until_lost()
        assert not psutil.pid_exists(pid)
        for n in range(2):
            await r.fill(r.topics.raw, n, [event(i) for i in range(10, 20)])
        again = await s.start()
        await again.until_taken(20)
        sources = await r.sources(r.topics.lanes, 40)
        assert len(sources) == len(set(sources)) == 40


@PROTOCOLS
async def test_two_share_the_partitions_and_one_dies(
    kafka_server: KafkaServer, protocol: str
) -> None:
    async with streams(kafka_server, raw=4) as s:
        r = s.r
        for n in range(4):
            await r.fill(r.topics.raw, n, [event(i) for i in range(50)])
        one = await s.start("one", protocol=protocol)
        await one.until_taken(200)
        other = await s.start("other", protocol=protocol)

        def numbers(started: Started) -> set[int]:
            return {part.partition.n for part in started.engine.owned_partitions()}

        await until(lambda: sorted([*numbers(one), *numbers(other)]) == [0, 1, 2, 3], START_S)
        await until(lambda: len(numbers(one)) == len(numbers(other)) == 2, START_S)
        os.kill(one.engine.pids[0], signal.SIGKILL)
        await one.until_lost()
        for n in range(4):
            await r.fill(r.topics.raw, n, [event(i) for i in range(50, 100)])
        await until(lambda: numbers(other) == {0, 1, 2, 3}, START_S)
        sources = await r.sources(r.topics.lanes, 400)
        assert len(sources) == len(set(sources)) == 400


@PROTOCOLS
async def test_drain_leaves_the_group_and_resume_ends_the_boot(
    kafka_server: KafkaServer, protocol: str
) -> None:
    async with streams(kafka_server, raw=1) as s:
        await s.r.fill(s.r.topics.raw, 0, [event(i) for i in range(10)])
        w = await s.start(protocol=protocol)
        await w.until_taken(10)
        await w.engine.execute_command(DrainCommand(1, w.boot))
        await until(lambda: not (w.engine.pids or w.engine.owned_partitions()), 60)
        assert not w.task.done()
        await w.engine.execute_command(ResumeCommand(1, w.boot))
        assert "resumed" in await w.until_lost()


async def test_it_is_given_no_partition_and_new_settings_hold(kafka_server: KafkaServer) -> None:
    async with streams(kafka_server, raw=1) as s:
        w = await s.start()
        with pytest.raises(CommandRefused, match="shares the raw partitions out"):
            await w.engine.execute_command(AssignCommand(1, w.boot, w.topic, (Grant(0, 1, 0),)))
        w.engine.apply_settings(settings.Worker(commit_gap_ms=60_000, batch_records=1))
        await s.r.fill(s.r.topics.raw, 0, [event(i) for i in range(30)])
        await w.until_taken(30)


async def test_the_password_is_in_no_argument_variable_or_log(
    kafka_server: KafkaServer, capfd: pytest.CaptureFixture[str]
) -> None:
    async with streams(kafka_server, raw=1) as s:
        await s.r.fill(s.r.topics.raw, 0, [event(1)])
        w = await s.start()
        await w.until_taken(1)
        password = settings.read_secret(s.r.kafka.password_file)
        assert password
        [pid] = w.engine.pids
        program = psutil.Process(pid)
        assert password not in f"{program.cmdline()} {program.environ()}"
        await w.stop()
    assert password not in "".join(capfd.readouterr())
