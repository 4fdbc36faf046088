"""A node that is far from its broker: whatever waits there arrives, or the lane says why not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from agents.core.model.topology import ASIDE
from agents.local.servers.delay_proxy import DelayProxy
from agents.local.servers.delays import Delays, DistantBroker
from tests.fixtures.kafka import KafkaServer
from tests.worker.support import Rig, event, rig, until
from tests.worker.test_engine import done, node

pytestmark = pytest.mark.stack

DEFAULT_BUFFER = 100 << 10
"""`socket.send.buffer.bytes` of a broker that was told nothing."""
RTT_MS, FAR = 150.0, "far"


@asynccontextmanager
async def far_rig(
    folder: Path, lanes: int, window_bytes: int
) -> AsyncIterator[tuple[Rig, DelayProxy]]:
    """`rig.kafka` leads to the broker over a distance, `rig.server.kafka` directly."""
    broker = DistantBroker(folder / "kafka", Delays("near", {"near": 0.0, FAR: RTT_MS}, folder))
    links = [replace(link, window_bytes=window_bytes) for link in broker.links]
    async with DelayProxy(links) as proxy:
        await broker.start(120)
        try:
            async with rig(KafkaServer(broker), lanes=lanes) as r:
                yield r, proxy
        finally:
            await broker.stop()


async def fill(r: Rig, n: int, count: int, size: int) -> None:
    """Events of this size into a lane."""
    names = ("geolane-src", "geolane-raw-ms", "geolane-cell", "geolane-ts", "geolane-map")
    values = (b"raw/0/0", b"1", b"842664dffffffff", b"978964500000", b"1")
    await r.fill(
        r.topics.lanes,
        n,
        [(b"k", event(i, pad="x" * size)) for i in range(count)],
        headers=list(zip(names, values, strict=True)),
    )


async def test_a_far_node_drains_a_backlog_larger_than_passes_within_a_time_out(
    server_folder: Path,
) -> None:
    lanes, each = 8, 70
    async with far_rig(server_folder, lanes, DEFAULT_BUFFER) as (r, _):
        for n in range(lanes):
            await fill(r, n, each, 10_000)
        near, r.kafka = r.kafka, replace(r.kafka, bootstrap=r.server.broker.bootstrap_at(FAR))  # type: ignore[attr-defined]
        w = await r.engine(node(r))
        r.kafka = near
        await w.assign(*((n, 1, 0) for n in range(lanes)))
        await until(lambda: done(w) == lanes * each, 60)
        assert len(await r.read(r.topics.clean, lanes * each)) == lanes * each
        assert not w.task.done()


async def test_a_record_batch_that_does_not_pass_is_told_with_its_lane_and_the_way(
    server_folder: Path,
) -> None:
    async with far_rig(server_folder, 2, 4_096) as (r, proxy):
        await fill(r, 0, 1, 500_000)
        near, r.kafka = r.kafka, replace(r.kafka, bootstrap=r.server.broker.bootstrap_at(FAR))  # type: ignore[attr-defined]
        w = await r.engine(node(r))
        r.kafka = near
        await w.assign((0, 1, 0), (1, 1, 0))

        def fault(n: int = 0) -> str:
            return {lane.n: lane.fault for lane in w.engine.take_load()[0]}.get(n, "")

        await until(fault, 60)
        said = fault()
        assert said.startswith(f"{ASIDE}a fetch from broker 1 does not pass within 5 s")
        assert "RTT 15" in said
        assert "kB/s" in said
        assert "socket.send.buffer.bytes" in said
        assert fault(1) == ""  # nothing waits there
        await until(lambda: w.engine.meters.faults == 1)
        await proxy.change_link(FAR, window_bytes=0)
        await until(lambda: done(w) == 1, 40)
        await until(lambda: not fault(), 20)
