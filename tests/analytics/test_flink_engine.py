"""The engine that looks after a job, on a real Flink and Kafka: every hotspot of the definition,
each change once, whatever happens to the engine and to the job."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace
from structlog.testing import capture_logs

from agents import settings
from agents.admin.doctor.flink import FlinkCheck
from agents.admin.doctor.judge.verdict import Level
from agents.analytics import flink_job
from agents.analytics.checkpoint import JobRecord
from agents.analytics.flink import FlinkUrls, JobManager
from agents.analytics.flink_engine import FlinkEngine
from agents.analytics.flink_job import JobHealth, find_newest_checkpoint
from agents.analytics.sql_gateway import SqlGateway
from agents.base.ports import find_free_port
from agents.core.hotspots.areas import area_of
from agents.core.model.hotspots import HotspotState
from tests.analytics.support import (
    NEW_YORK,
    TOKYO,
    Event,
    Parameters,
    Rig,
    Running,
    closing,
    expected_hotspots,
    expected_rises,
    made_stream,
    rig,
    until,
)
from tests.fixtures.flink import FlinkServer
from tests.fixtures.kafka import KafkaServer

BOUND_S = 60.0


@pytest_asyncio.fixture
async def r(
    kafka_server: KafkaServer, flink_server: FlinkServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    monkeypatch.setattr(flink_job, "LOOK_S", 0.3)
    async with rig(kafka_server) as r:
        yield r
        for running in r.running:
            await running.kill()
        for job in await flink_server.jobmanager().jobs():
            if job.name == r.topics.job and not job.ended:
                await flink_server.jobmanager().cancel(job.job_id)


async def start(r: Rig, flink: FlinkServer, epoch: int, idle_s: float = 60) -> Running:
    w = await r.flink_engine(Parameters(idle_s=idle_s), (flink.jobmanager(), flink.gateway()))
    await w.assign(epoch, (await r.committed())[0])
    return w


def ending(stream: list[Event]) -> list[Event]:
    """They end all hotspots, and bring the tick that says so."""
    last = closing(stream)
    return [*last, *(e._replace(ms=e.ms + 20_000) for e in last)]


async def wait_for_restart(jobmanager: JobManager, *job_ids: str) -> None:
    """Of one of the jobs."""
    deadline = time.monotonic() + BOUND_S
    while not any([await jobmanager.restarts(job_id) for job_id in job_ids]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.3)


async def wait_for_changes(r: Rig, count: int) -> None:
    deadline = time.monotonic() + BOUND_S
    while (have := len(await r.hotspots())) < count:
        assert time.monotonic() < deadline, f"{have} of {count} changes"
        await asyncio.sleep(0.3)


def fault(w: Running) -> str:
    return "".join(lane.fault for lane in w.engine.owned_partitions())


def health(w: Running) -> JobHealth:
    assert isinstance(w.engine, FlinkEngine)
    return w.engine.job_health


async def test_flink_that_is_away_at_the_start_is_told_and_then_works(
    r: Rig, flink_server: FlinkServer
) -> None:
    stream = made_stream(1)
    await r.send([*stream, *ending(stream)])
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    away = FlinkUrls(jobmanager=nowhere, gateway=nowhere)
    w = await r.flink_engine(Parameters(idle_s=60), (JobManager(away), SqlGateway(away)))
    await w.assign(1, 0)
    await until(lambda: "gives no answer" in fault(w))
    assert fault(w).startswith("aside: ")
    assert "analytics.flink.jobmanager_url" in fault(w)
    assert isinstance(w.engine, FlinkEngine)
    assert w.engine._keeper is not None
    w.engine._keeper.jobmanager = flink_server.jobmanager()
    w.engine._keeper.gateway = flink_server.gateway()
    expected = expected_hotspots(expected_rises(stream))
    await wait_for_changes(r, len(expected))
    assert await r.hotspots() == expected
    assert not fault(w)
    assert health(w).state == "RUNNING"
    analytics = settings.Analytics(engine="flink", flink=flink_server.cluster.settings())
    loaded = settings.Settings(analytics=analytics)
    (check,), (other,) = (
        FlinkCheck(loaded, name).list_checks() for name in (r.topics.job, "not there")
    )
    verdict = await check.look()
    assert (verdict.level, "is RUNNING, 0 restarts" in verdict.found) == (Level.OK, True)
    assert (await other.look()).level is Level.FAULT
    assert not FlinkCheck(settings.Settings()).list_checks()
    await until(lambda: w.engine.take_load()[0][0].lag_events == 0)


async def test_a_job_reads_the_names_of_geo_context_where_there_are_some(
    r: Rig, flink_server: FlinkServer
) -> None:
    stream, names = made_stream(1), {NEW_YORK: "New York, US", area_of(TOKYO): "Tokyo, JP"}
    await r.name_cells(names)
    await r.send([*stream, *ending(stream)])
    await start(r, flink_server, 1)
    unnamed = expected_hotspots(expected_rises(stream))
    await wait_for_changes(r, len(unnamed))
    found = await r.hotspots()
    assert [replace(h, name="", named_by="") for h in found] == unnamed
    assert {h.name for h in found} <= {"", *names.values()}
    assert {h.named_by for h in found} == {"", "offline"}


async def test_a_change_of_the_engine_loses_no_hotspot_and_tells_none_twice(
    kafka_server: KafkaServer,
) -> None:
    """To Flink, which is away, and back again."""
    stream = made_stream(3)
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    away = FlinkUrls(jobmanager=nowhere, gateway=nowhere)
    async with rig(kafka_server) as r:
        w = await r.engine(Parameters(idle_s=60))
        await w.assign(1, 0)
        await r.send(stream)
        await r.wait_until_counted(len(stream))
        offset = await w.release(1)
        before = await r.hotspots()
        assert before[-1].state is not HotspotState.ENDED, "none is open"

        w = await r.flink_engine(Parameters(idle_s=60), (JobManager(away), SqlGateway(away)))
        await w.assign(2, offset)
        await until(lambda: "gives no answer" in fault(w))
        offset = await w.release(2)
        assert await r.hotspots() == before

        w = await r.engine(Parameters(idle_s=60))
        await w.assign(3, offset)
        await r.send(closing(stream))
        expected = expected_hotspots(expected_rises(stream))
        await wait_for_changes(r, len(expected))
        assert await r.hotspots() == expected
        rises = await r.rises()
        assert len(rises) == len(set(rises)) == len(expected_rises(stream))


def test_the_newest_checkpoint_is_found_beside_an_older_one(tmp_path: Path) -> None:
    def path(name: str) -> str:
        return f"file:{tmp_path}/{name}"

    assert find_newest_checkpoint(path("chk-3")) == path("chk-3"), "its folder cannot be read"
    for name in ("chk-3", "chk-10", "chk-9"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_metadata").touch()
    (tmp_path / "chk-11").mkdir()  # not complete
    assert find_newest_checkpoint(path("chk-3")) == path("chk-10")
    assert find_newest_checkpoint(path("savepoint-1")) == path("savepoint-1")
    for elsewhere in ("", "s3://bucket/chk-3", "file://host/chk-3"):
        assert find_newest_checkpoint(elsewhere) == elsewhere


def test_only_what_nobody_else_has_made_is_deleted() -> None:
    upgraded = JobRecord("", "", 0, 0, "s3://b/savepoint-1", deletable=True)
    stopped = JobRecord("", "", 0, 0, "s3://b/savepoint-1")
    for record in (upgraded, stopped):
        assert record.is_deletable("s3://b/job/chk-7")
        assert not record.is_deletable("s3://b/savepoint-2")
    assert upgraded.is_deletable("s3://b/savepoint-1")
    assert not stopped.is_deletable("s3://b/savepoint-1")


async def test_a_second_job_and_a_state_that_is_spoilt_are_told_and_change_no_hotspot(
    r: Rig, flink_server: FlinkServer
) -> None:
    """The second is a copy of ours: it writes the same rows, under the same transactional ids, so
    each fences the other."""
    stream, jobmanager = made_stream(4, minutes=80, bursts=5), flink_server.jobmanager()
    expected = expected_hotspots(expected_rises(stream))
    parts = [stream[len(stream) * n // 3 : len(stream) * (n + 1) // 3] for n in range(3)]
    with capture_logs() as logs:
        await r.send(parts[0])
        w = await start(r, flink_server, 1)
        await until(lambda: health(w).checkpoint_age_s is not None, BOUND_S)
        assert isinstance(w.engine, FlinkEngine)
        assert w.engine._keeper is not None
        record, script = w.engine._keeper.record, w.engine._script
        assert record is not None
        copy = await flink_server.gateway().run_script(
            script.read(record.from_ms, record.since_s),
            {**script.properties, "pipeline.name": r.topics.job},
        )
        second = copy[-1].job_id or ""
        await until(lambda: "2 jobs named" in fault(w))
        assert f"cancel {second} (`flink cancel ID`" in fault(w)
        assert f"keep {record.job_id}" in fault(w)
        await r.send(parts[1])
        await wait_for_restart(jobmanager, record.job_id, second)
        await jobmanager.cancel(second)
        await until(lambda: not fault(w), BOUND_S)

        await jobmanager.cancel(record.job_id)
        path = flink_server.cluster.last_checkpoint(record.job_id)
        assert path is not None
        os.truncate(f"{path.removeprefix('file://')}/_metadata", 100)
        await until(lambda: "begins anew with the last hour" in fault(w), BOUND_S)
        assert Path(path.removeprefix("file://")).name in fault(w)
        await until(lambda: not fault(w), BOUND_S)
        await r.send([*parts[2], *ending(stream)])
        await wait_for_changes(r, len(expected))
    assert await r.hotspots() == expected
    told = [log["why"] for log in logs if log["event"] == "flink_job_trouble"]
    for words in ("2 jobs named", "somebody has cancelled", "begins anew"):
        assert sum(words in why for why in told) == 1, "\n".join(told)


async def test_nothing_is_lost_or_told_twice_through_kills_cancels_and_upgrades(
    r: Rig, flink_server: FlinkServer
) -> None:
    stream, jobmanager = made_stream(2, minutes=90, bursts=6), flink_server.jobmanager()
    expected = expected_hotspots(expected_rises(stream))
    parts = [stream[len(stream) * n // 4 : len(stream) * (n + 1) // 4] for n in range(4)]
    await r.send(parts[0])
    w = await start(r, flink_server, 1)
    await wait_for_changes(r, 1)
    await r.send(parts[1][:500])
    await w.kill()
    first = await jobmanager.find_job(r.topics.job)
    assert first is not None
    assert not first.ended, "it did not run on"

    w = await start(r, flink_server, 2)
    await r.send(parts[1][500:])
    await until(lambda: health(w).checkpoint_age_s is not None)
    assert await jobmanager.find_job(r.topics.job) == first, "started a second time"
    await jobmanager.cancel(first.job_id)
    await until(lambda: "somebody has cancelled the Flink job" in fault(w))
    await r.send(parts[2])
    await until(lambda: not fault(w), BOUND_S)
    second = await jobmanager.find_job(r.topics.job)
    assert second is not None
    assert (second.job_id != first.job_id, second.ended) == (True, False)

    await w.release(2)
    w = await start(r, flink_server, 3, idle_s=61)  # a setting that changes no row here
    await until(lambda: health(w).state == "RUNNING", BOUND_S)
    await r.send(parts[3][:500])
    await until(lambda: health(w).checkpoint_age_s is not None, BOUND_S)
    cluster = flink_server.cluster
    os.kill(cluster.taskmanager.pid or 0, signal.SIGKILL)
    await r.send([*parts[3][500:], *ending(stream)])
    await until(lambda: cluster.taskmanager.pid is None)
    await cluster.start()
    await wait_for_changes(r, len(expected))
    assert await r.hotspots() == expected
    rises = await r.rises()
    assert len(rises) == len(set(rises))
    await until(lambda: health(w).restarts > 0)
    folders = {path.parent.parent.name for path in cluster.folder.glob("checkpoints/*/chk-*/*")}
    assert not {first.job_id, second.job_id} & folders, "old checkpoints are not deleted"
    assert not list((cluster.folder / "savepoints").iterdir())
    third = await jobmanager.find_job(r.topics.job)
    assert third is not None
    assert third.job_id != second.job_id
    assert [j.state for j in await jobmanager.jobs() if j.job_id == second.job_id] == ["FINISHED"]
