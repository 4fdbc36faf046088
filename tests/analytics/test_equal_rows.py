"""Flink's SQL and our engine give the same rises, to the last row and figure."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import agents.analytics
from agents.analytics.sql_gateway import submit_job
from agents.analytics.sql_script import kafka_options, read_script
from agents.core.model.hotspots import Rise
from agents.kafka.topics import Topic, ensure_topics
from kernels.hotspots.rises import COST, FACTORS, GAIN
from tests.analytics.support import (
    NEW_YORK,
    Event,
    Parameters,
    Rig,
    closing,
    flights,
    made_stream,
    rig,
)
from tests.fixtures.flink import FlinkServer
from tests.fixtures.kafka import KafkaServer

SQL = Path(agents.analytics.__file__).with_name("sql") / "hotspots.sql"
LANES = 4
RUBBISH = ["", "84", "8F2a1072fffffff", "852a1072fffffff\n", "7" * 15, "z" * 15]


async def rises_of_flink(r: Rig, flink: FlinkServer, since_s: int, count: int) -> list[Rise]:
    """What the job writes until it has at least as many rows, or for a minute."""
    topic = f"{r.topics.rises}-flink"
    await ensure_topics(r.server.kafka, (Topic(topic, 1, 64),), embedded=True)
    name = r.server.name("hotspots")
    values = {
        "lanes": r.topics.lanes,
        "rises": topic,
        "group": name,
        "prefix": name,
        "lateness_ms": "5000",
        "lateness_s": "5",
        "idle_ms": "60000",
        "since_s": str(since_s),
        "floor": "12",
        "threshold": "18000000",
    }
    for name_, factor, gain, cost in zip("ab", FACTORS, GAIN, COST, strict=True):
        values |= {f"factor_{name_}": f"{factor}", f"gain_{name_}": f"{gain}"}
        values |= {f"cost_{name_}": f"{cost}"}
    script = read_script(SQL, values, {"kafka": kafka_options(r.server.kafka)})
    job = await submit_job(
        flink.gateway(),
        flink.jobmanager(),
        name,
        script,
        {
            "execution.checkpointing.interval": "1 s",
            "table.local-time-zone": "UTC",
            "parallelism.default": "1",
        },
    )
    deadline, found = time.monotonic() + 60, list[Rise]()
    while len(found) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        found = await r.rises(topic)
    await asyncio.sleep(1.5)
    found = await r.rises(topic)
    await flink.jobmanager().cancel(job.job_id)
    return found


async def test_both_engines_give_the_same_rises(
    kafka_server: KafkaServer, flink_server: FlinkServer
) -> None:
    """Of recorded and made streams, with rubbish, late events and a clock that is ahead, and a
    partition in which there is nothing else."""
    recorded, made = flights(12_000), made_stream(11, minutes=70, bursts=4)
    late = [Event(e.partition, e.ms - 5_000, NEW_YORK) for e in made[9_000:9_200]]
    stream = [*recorded, *made]
    rubbish = [Event(n % LANES, made[n].ms, cell) for n, cell in enumerate(RUBBISH * 10)]
    ahead = [Event(p, 4_102_444_800_000, NEW_YORK) for p in range(LANES)]
    async with rig(kafka_server, LANES) as r:
        await r.send([*recorded, *made[:9_200], *rubbish, *late, *made[9_200:]])
        await r.send([*closing(stream, LANES), *ahead])
        w = await r.engine(Parameters(idle_s=60))
        await w.assign(1, 0)
        await r.wait_until_counted(len(stream) + len(rubbish) + len(late) + 2 * LANES)
        ours = await r.rises()
        since_s = min(e.ms for e in stream) // 1000
        theirs = await rises_of_flink(r, flink_server, since_s, len(ours))
        assert sorted(theirs) == sorted(ours)
        assert {rise for rise in ours if rise.at_s < made[0].ms // 1000}  # of the recorded stream
        assert {rise for rise in ours if rise.at_s > made[0].ms // 1000}
