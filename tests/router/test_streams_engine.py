"""Raw events on their way through the real engine on Kafka Streams, on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
import pytest

from agents import settings
from agents.base.errors import LeaseLost
from agents.core.model.messages import LeaseCommand
from agents.kafka.compacted import publish_lane_map
from agents.router.streams_config import StreamsSetup
from agents.router.streams_engine import StreamsEngine
from tests.fixtures.kafka import KafkaServer
from tests.router.streams import needs_jars
from tests.router.test_router import BAD, MAP
from tests.worker.support import Rig, event, rig, until
from tests.worker.test_engine import LIMIT

pytestmark = [needs_jars, pytest.mark.timeout(300)]


@dataclass
class Started:
    """One router's engine at work."""

    engine: StreamsEngine
    task: asyncio.Task[None]
    lost: list[LeaseLost] = field(default_factory=list)

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, LeaseLost):
            await self.task


class Streams:
    """Routers of one group on the topics of a rig."""

    def __init__(self, r: Rig, maps: str) -> None:
        self.r, self.maps = r, maps
        self.running: list[Started] = []

    async def start(self, worker: str = "w") -> Started:
        """Start one under a new lease of transactional id `worker`, which fences the one before."""
        r = self.r
        boot, tid = r.server.name("boot"), f"{r.topics.raw}-{worker}"
        pid, epoch = await r.makers.make_lease(tid)
        setup = StreamsSetup(
            r.kafka, settings.Router(heap_mb=256), MAP.version, 1, r.topics, self.maps
        )
        engine = StreamsEngine(setup, settings.Worker(max_event_bytes=LIMIT), boot)
        task = asyncio.create_task(engine.run())
        self.running.append(Started(engine, task))
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


async def test_it_sorts_as_the_python_engine_does(kafka_server: KafkaServer) -> None:
    async with streams(kafka_server, raw=1) as s:
        r = s.r
        raw: list[tuple[bytes, bytes | None]] = []
        for i, (bad, _) in enumerate(BAD):
            raw += [(b"good%d" % i, event(i)), (b"bad%d" % i, bad)]
        await r.fill(r.topics.raw, 0, raw)
        w = await s.start()
        await until(
            lambda: w.engine.meters.done.get(0) and w.engine.meters.done[0].taken == 24, 120
        )
        dead = await r.read(r.topics.dead, len(BAD))
        assert [dict(x.headers)["geolane-reason"].decode() for x in dead] == [why for _, why in BAD]
        assert len(await r.read(r.topics.lanes, len(BAD))) == len(BAD)
        await until(lambda: w.engine.meters.done)
        await w.stop()
        found = await r.committed(r.topics.raw, 0, r.topics.router_group)
        assert found is not None
        assert orjson.loads(found[1]) == {"in": 24, "out": 12, "filtered": 0, "dead": 12}
        assert found[0] == 24
