"""Flink's SQL and our engine give the same rises, to the last row and figure, whatever Flink's
parallelism is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agents import settings
from agents.analytics.engine import HotspotEngine
from agents.analytics.flink import JobManager
from agents.analytics.flink_job import JobScript
from agents.analytics.sql_gateway import submit_job
from agents.core.hotspots.areas import area_of
from agents.core.hotspots.job_rows import JobRows, decode_row
from agents.core.model.hotspots import Rise
from agents.kafka.topics import Topic, ensure_topics
from tests.analytics.recorded import honeypot, need_recorded_streams, wikiticker
from tests.analytics.support import (
    NEW_YORK,
    TOKYO,
    Event,
    Parameters,
    Rig,
    closing,
    flights,
    made_stream,
    rig,
    until,
)
from tests.fixtures.flink import FlinkServer
from tests.fixtures.kafka import KafkaServer

LANES = 4
RUBBISH = ["", "84", "8F2a1072fffffff", "852a1072fffffff\n", "7" * 15, "z" * 15]
AHEAD = [Event(p, 4_102_444_800_000, NEW_YORK) for p in range(LANES)]
"""Of clocks that are ahead; after them, Flink ticks up to the closing events."""


async def rows_of_flink(
    r: Rig, flink: FlinkServer, since_s: int, count: int, parallelism: int, *, named: bool = False
) -> list[Rise]:
    """What the job writes until it has at least as many rises, or for 150 s."""
    name = r.server.name("hotspots")
    topic = f"{name}-rises"
    await ensure_topics(r.server.kafka, (Topic(topic, 1, 64),), embedded=True)
    script = JobScript(
        r.server.kafka,
        Parameters(idle_s=60, flink=settings.Flink(parallelism=parallelism)),
        replace(r.topics, rises=topic, group=name, job=name),
        named,
    )
    jobmanager = flink.jobmanager()
    job = await submit_job(
        flink.gateway(), jobmanager, name, script.read(0, since_s), script.properties
    )
    deadline, found = time.monotonic() + 150, list[Rise]()
    while len(found) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        found = await r.rises(topic)
    await asyncio.sleep(1.5)
    if parallelism > 1 and not named:  # names have one partition
        await wait_until_each_subtask_worked(jobmanager, job.job_id, parallelism)
    await jobmanager.cancel(job.job_id)
    return [row for value in await r.read(topic) if (row := decode_row(value, 1 << 60)) is not None]


async def wait_until_each_subtask_worked(
    jobmanager: JobManager, job_id: str, parallelism: int
) -> None:
    """Wait until Flink's metrics show it, for all steps but the two that have few keys (the
    partitions) and the last two, which have one subtask."""

    async def ask(path: str) -> dict[str, Any]:
        return await jobmanager._rest.request("GET", f"/jobs/{job_id}{path}", dict[str, Any])

    vertices = (await ask(""))["vertices"]
    deadline, idle = time.monotonic() + 20, vertices
    while len(idle) > 4 or vertices[0] in idle:
        assert time.monotonic() < deadline, [v["name"] for v in idle]
        idle = []
        for vertex in vertices:
            tasks = (await ask(f"/vertices/{vertex['id']}"))["subtasks"]
            worked = [t["metrics"]["read-records"] + t["metrics"]["write-records"] for t in tasks]
            if len(worked) != parallelism or not all(worked):
                idle.append(vertex)
        await asyncio.sleep(0.3)


async def assert_rows_of_flink_are_ours(
    r: Rig,
    flink: FlinkServer,
    stream: Sequence[Event],
    parallelism: int,
    *,
    named: bool = False,
) -> list[Rise]:
    """To the last row, and so are the hotspots. Returns our rises."""
    ours, since_s = await r.rises(), min(e.ms for e in stream) // 1000
    rows = await rows_of_flink(r, flink, since_s, len(ours), parallelism, named=named)
    assert [row for row in rows if row.cell] == ours
    assert list(JobRows().take(rows)) == await r.hotspots()
    return ours


async def test_both_engines_give_the_same_rises(
    kafka_server: KafkaServer, flink_server: FlinkServer
) -> None:
    """Of recorded and made streams, with rubbish, late events and a clock that is ahead, and a
    partition in which there is nothing else; Flink with two subtasks a step."""
    recorded, made = flights(12_000), made_stream(11, minutes=70, bursts=4)
    late = [Event(e.partition, e.ms - 5_000, NEW_YORK) for e in made[9_000:9_200]]
    stream = [*recorded, *made]
    rubbish = [Event(n % LANES, made[n].ms, cell) for n, cell in enumerate(RUBBISH * 10)]
    async with rig(kafka_server, LANES) as r:
        await r.send([*recorded, *made[:9_200], *rubbish, *late, *made[9_200:]])
        await r.send([*closing(stream, LANES), *AHEAD])
        w = await r.engine(Parameters(idle_s=60))
        await w.assign(1, 0)
        await r.wait_until_counted(len(stream) + len(rubbish) + len(late) + 2 * LANES)
        ours = await assert_rows_of_flink_are_ours(r, flink_server, stream, 2)
        assert {rise for rise in ours if rise.at_s < made[0].ms // 1000}  # of the recorded stream
        assert {rise for rise in ours if rise.at_s > made[0].ms // 1000}


async def test_both_engines_give_the_same_rises_of_other_recordings(
    kafka_server: KafkaServer, flink_server: FlinkServer
) -> None:
    """Attacks on honeypots all over the world, and edits of Wikipedia; Flink with one subtask."""
    need_recorded_streams()
    attacks, edits = await asyncio.to_thread(lambda: (honeypot(8_000, 3), wikiticker(3)))
    stream = [*attacks, *edits]
    async with rig(kafka_server, LANES) as r:
        await r.send([*stream, *closing(stream, LANES), *AHEAD])
        w = await r.engine(Parameters(idle_s=60))
        await w.assign(1, 0)
        await r.wait_until_counted(len(stream) + 2 * LANES)
        ours = await assert_rows_of_flink_are_ours(r, flink_server, stream, 1)
        assert {rise for rise in ours if rise.at_s < edits[0].ms // 1000}
        assert {rise for rise in ours if rise.at_s > edits[0].ms // 1000}


async def test_both_engines_give_the_same_names(
    kafka_server: KafkaServer, flink_server: FlinkServer
) -> None:
    """Names that were in `geo.context` before, of event time long ago; one cell has
    none."""
    stream = made_stream(11, minutes=70, bursts=4)
    async with rig(kafka_server, LANES) as r:
        await r.name_cells({NEW_YORK: "Newark, US"})
        await r.name_cells({NEW_YORK: "New York, US", area_of(TOKYO): "Tokyo, JP"})
        w = await r.engine(Parameters(idle_s=60))
        assert isinstance(w.engine, HotspotEngine)
        names = w.engine._names
        await until(lambda: names.name_of(area_of(TOKYO), time.time()).name == "Tokyo, JP")
        await r.send([*stream, *closing(stream, LANES), *AHEAD])
        await w.assign(1, 0)
        await r.wait_until_counted(len(stream) + 2 * LANES)
        ours = await assert_rows_of_flink_are_ours(r, flink_server, stream, 2, named=True)
        assert {rise.name for rise in ours} == {"", "New York, US", "Tokyo, JP"}
