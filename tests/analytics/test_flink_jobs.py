"""Jobs on a real Flink, between topics of a real Kafka: submitted once, found again by name, and
exact through the loss of each part."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil
import pytest
import pytest_asyncio

from agents.analytics.flink import Checkpoint, Job, JobManager
from agents.analytics.sql_gateway import Result, SqlGateway, submit_job
from agents.analytics.sql_script import Script, kafka_options, read_script
from agents.base.errors import FlinkError, FlinkRefused, FlinkUnavailable, SessionExpired
from agents.local.servers.flink_cluster import FlinkCluster
from tests.fixtures.flink import FlinkServer
from tests.fixtures.kafka import KafkaServer
from tests.kafka.support import fill, read_all, until

COPY = Path(__file__).with_name("copy.sql")
PROPERTIES = {"execution.checkpointing.interval": "500 ms"}
WAIT_S = 60.0


class KillingGateway(SqlGateway):
    """A client during whose first INSERT the gateway is killed."""

    def __init__(self, flink: FlinkServer, after_s: float) -> None:
        super().__init__(flink.cluster.urls, flink.cluster.tls())
        self._gateway, self._after_s = flink.cluster.gateway, after_s

    async def run_statement(self, session: str, statement: str, timeout_s: float = 60) -> Result:
        if statement.startswith("INSERT") and self._after_s:
            asyncio.get_running_loop().call_later(self._after_s, self._gateway.kill)
            self._after_s = 0.0
        return await super().run_statement(session, statement, timeout_s)


@dataclass
class Copying:
    """A job of a test's own that copies numbers from one topic to another."""

    kafka: KafkaServer
    flink: FlinkServer
    name: str
    source: str
    sink: str
    script: Script
    sent: int = 0

    async def submit(self, start_from: str | None = None, gateway: SqlGateway | None = None) -> Job:
        """By new clients, as a process that has just started."""
        return await submit_job(
            gateway or self.flink.gateway(),
            self.flink.jobmanager(),
            self.name,
            self.script,
            PROPERTIES,
            start_from=start_from,
        )

    async def send(self, count: int) -> None:
        numbers = range(self.sent, self.sent + count)
        self.sent += count
        await fill(self.kafka.kafka, self.source, [b'{"n":%d}' % n for n in numbers])

    async def read(self) -> list[int]:
        return sorted(
            orjson.loads(r.value)["n"] for r in await read_all(self.kafka.kafka, self.sink)
        )

    async def has_all(self) -> bool:
        await asyncio.sleep(0.2)
        return len(await self.read()) >= self.sent

    async def assert_exact(self) -> None:
        """Nothing is lost, and nothing is there twice, also when the job has ended."""
        await until(self.has_all, WAIT_S)
        jobmanager = self.flink.jobmanager()
        job = await jobmanager.find_job(self.name)
        if job is not None and not job.ended:
            await jobmanager.stop_with_savepoint(job.job_id)
        assert await self.read() == list(range(self.sent))


@pytest_asyncio.fixture
async def copying(kafka_server: KafkaServer, flink_server: FlinkServer) -> AsyncIterator[Copying]:
    name = kafka_server.name("copy")
    source, sink = await kafka_server.topic("in"), await kafka_server.topic("out")
    script = read_script(
        COPY,
        {"name": name, "source": source, "sink": sink},
        {"kafka": kafka_options(kafka_server.kafka)},
    )
    copying = Copying(kafka_server, flink_server, name, source, sink, script)
    yield copying
    await flink_server.cluster.start()
    jobmanager = flink_server.jobmanager()
    for job in await jobmanager.jobs():
        if job.name == name and not job.ended:
            await jobmanager.cancel(job.job_id)


async def checkpoint_after(
    jobmanager: JobManager, job: Job, number: int = 0, savepoint: bool = False
) -> Checkpoint:
    """The first checkpoint that is seen with a higher number."""
    async with asyncio.timeout(WAIT_S):
        while True:
            last = (await jobmanager.checkpoints(job.job_id)).last
            if last is not None and last.number > number and last.savepoint == savepoint:
                return last
            await asyncio.sleep(0.1)


async def test_no_part_runs_as_root_or_is_reached_by_others(flink_server: FlinkServer) -> None:
    cluster = flink_server.cluster
    for part in cluster.parts:
        process = psutil.Process(part.pid or 0)
        assert process.uids().real == cluster.user.uid != 0 or not cluster.user.switch
        listening = [
            c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN
        ]
        assert {a.ip.removeprefix("::ffff:") for a in listening} == {"127.0.0.1"}
    for file in cluster.folder.rglob("*"):
        assert not file.stat().st_mode & 0o007 or file.parent == cluster.folder, file
    for client in (JobManager(cluster.urls).overview, SqlGateway(cluster.urls).version):
        with pytest.raises(FlinkUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await client()


def test_a_later_run_would_find_what_a_killed_one_left(flink_server: FlinkServer) -> None:
    cluster = flink_server.cluster
    following = FlinkCluster(cluster.folder)
    assert [part.find_stale_pid() for part in following.parts] == [p.pid for p in cluster.parts]
    assert following.urls == cluster.urls


async def test_a_client_without_our_key_is_refused(flink_server: FlinkServer) -> None:
    tls = await asyncio.to_thread(flink_server.cluster.tls)
    bare = type(tls)(tls.protocol)
    bare.load_verify_locations(flink_server.cluster.client_certificate)
    with pytest.raises(FlinkUnavailable, match="gives no answer"):
        await JobManager(flink_server.cluster.urls, bare).overview()
    with pytest.raises(FlinkUnavailable, match="gives no answer"):
        await SqlGateway(flink_server.cluster.urls, bare).version()
    assert (await flink_server.jobmanager().overview()).version == "2.2.1"


async def test_a_job_goes_on_after_a_killed_taskmanager_exactly_once(copying: Copying) -> None:
    cluster, jobmanager = copying.flink.cluster, copying.flink.jobmanager()
    assert await jobmanager.find_job(copying.name) is None
    await copying.send(500)
    job = await copying.submit()
    assert job.name == copying.name
    await checkpoint_after(jobmanager, job)
    await copying.send(500)
    os.kill(cluster.taskmanager.pid or 0, signal.SIGKILL)
    await copying.send(500)

    await until(copying.flink.has_lost_a_part)
    await cluster.start()
    await copying.send(500)
    await until(copying.has_all, WAIT_S)
    again = await copying.submit()
    assert again.job_id == job.job_id, "submitted a second time"
    assert not again.ended

    async def counted() -> bool:
        return await jobmanager.restarts(job.job_id) >= 1

    await until(counted, WAIT_S)
    failures = await jobmanager.failures(job.job_id)
    # and perhaps later ones, of starts before there is a TaskManager again
    reasons = [f.reason.casefold().replace(" ", "") for f in failures]
    assert any("taskmanager" in why or "taskexecutor" in why for why in reasons), reasons
    await copying.assert_exact()


async def test_a_job_stopped_with_a_savepoint_goes_on_from_there(copying: Copying) -> None:
    jobmanager = copying.flink.jobmanager()
    await copying.send(1000)
    job = await copying.submit()
    await until(copying.has_all, WAIT_S)
    path = await jobmanager.stop_with_savepoint(job.job_id)
    assert (await checkpoint_after(jobmanager, job, savepoint=True)).path == path
    ended = await jobmanager.find_job(copying.name)
    assert ended is not None
    assert (ended.state, ended.ended) == ("FINISHED", True)
    with pytest.raises(FlinkError, match="cannot be stopped with a savepoint"):
        await jobmanager.stop_with_savepoint(job.job_id)
    await copying.send(1000)
    following = await copying.submit(start_from=path)
    assert following.job_id != job.job_id
    path = await jobmanager.stop_with_savepoint(following.job_id)  # it waits until the job runs
    await copying.send(100)
    await copying.submit(start_from=path)
    await copying.assert_exact()


async def test_a_job_that_somebody_cancelled_goes_on_from_its_last_checkpoint(
    copying: Copying,
) -> None:
    jobmanager = copying.flink.jobmanager()
    await copying.send(1000)
    job = await copying.submit()
    await until(copying.has_all, WAIT_S)
    last = await checkpoint_after(jobmanager, job)
    assert last.size_bytes > 0
    await copying.flink.jobmanager().cancel(job.job_id)
    await jobmanager.cancel(job.job_id)  # once more is no error
    seen = await jobmanager.find_job(copying.name)
    assert seen is not None
    assert (seen.job_id, seen.state) == (job.job_id, "CANCELED")
    path = copying.flink.cluster.last_checkpoint(job.job_id)
    await copying.send(1000)
    await copying.submit(start_from=path)
    await copying.assert_exact()


async def test_a_job_whose_jobmanager_is_lost_goes_on_from_its_last_checkpoint(
    copying: Copying,
) -> None:
    cluster = copying.flink.cluster
    await copying.send(500)
    job = await copying.submit()
    await checkpoint_after(copying.flink.jobmanager(), job)
    await copying.send(500)
    os.kill(cluster.jobmanager.pid or 0, signal.SIGKILL)
    await copying.send(500)

    await until(copying.flink.has_lost_a_part)
    await cluster.start()
    assert await copying.flink.jobmanager().find_job(copying.name) is None
    await copying.submit(start_from=cluster.last_checkpoint(job.job_id))
    await copying.assert_exact()


async def test_a_gateway_that_is_started_again_forgets_sessions_and_no_job(
    copying: Copying,
) -> None:
    cluster, gateway = copying.flink.cluster, copying.flink.gateway()
    session = await gateway.open_session({})
    assert (await gateway.run_statement(session, "SELECT 'it''s', 7")).rows == (("it's", 7),)
    await copying.send(100)
    killing = KillingGateway(copying.flink, after_s=0.3)
    submitting = asyncio.create_task(copying.submit(gateway=killing))
    await until(copying.flink.has_lost_a_part, WAIT_S)
    with pytest.raises(FlinkUnavailable, match=r"no answer .*analytics\.flink\.gateway_url"):
        await gateway.version()
    await cluster.start()
    job = await submitting
    with pytest.raises(SessionExpired, match="does not know our session"):
        await gateway.run_statement(session, "SELECT 1")
    await gateway.close_session(session)  # no error: it is gone
    named = [j for j in await copying.flink.jobmanager().jobs() if j.name == copying.name]
    assert [j.job_id for j in named] == [job.job_id]
    await copying.assert_exact()


async def test_a_submission_that_is_sent_twice_starts_one_job(copying: Copying) -> None:
    """As after an answer that was lost: Flink takes each job's id once."""
    gateway = copying.flink.gateway()
    properties = {"pipeline.name": copying.name, "$internal.pipeline.job-id": "ab" * 16}
    first = await gateway.run_script(copying.script, properties)
    assert first[-1].job_id == "ab" * 16
    with pytest.raises(FlinkRefused, match="already been submitted"):
        await gateway.run_script(copying.script, properties)


async def test_two_jobs_of_one_name_are_an_error_that_says_what_to_do(copying: Copying) -> None:
    first = await copying.submit()
    second = await copying.flink.gateway().run_script(
        copying.script, PROPERTIES | {"pipeline.name": copying.name}
    )
    ids = [first.job_id, second[-1].job_id or ""]
    with pytest.raises(FlinkError, match=rf"2 jobs named .* cancel {ids[1]} .* keep {ids[0]}"):
        await copying.submit()
    with pytest.raises(FlinkError, match=rf"2 jobs named .* cancel {ids[0]} .* keep {ids[1]}"):
        await copying.flink.jobmanager().find_job(copying.name, ids[1])
    await copying.flink.jobmanager().cancel(ids[1])
    assert await copying.submit() == first


async def test_a_statement_that_is_wrong_is_named_and_shows_no_password(copying: Copying) -> None:
    wrong = Script("hotspots.sql", ("CREATE TEMPORARY TABLE a (n INT) WITH ('x' = 'secret')",))
    wrong = Script(wrong.origin, (*wrong.statements, "INSERT INTO b SELECT n FROM a"))
    with pytest.raises(FlinkRefused) as failed:
        await submit_job(
            copying.flink.gateway(), copying.flink.jobmanager(), copying.name, wrong, {}
        )
    assert "hotspots.sql, statement 2 (INSERT INTO b SELECT)" in str(failed.value)
    assert "secret" not in str(failed.value)
    password = (copying.kafka.broker.folder / "secrets" / "kafka-admin").read_text().strip()
    for part in copying.flink.cluster.parts:
        assert password not in copying.flink.cluster.log_of(part).read_text()


async def test_a_statement_without_end_is_cancelled(flink_server: FlinkServer) -> None:
    gateway = flink_server.gateway()
    session = await gateway.open_session({})
    await gateway.run_statement(
        session,
        "CREATE TEMPORARY TABLE endless (n BIGINT) "
        "WITH ('connector' = 'datagen', 'rows-per-second' = '10')",
    )
    with pytest.raises(FlinkUnavailable, match="a SELECT over a stream never ends"):
        await gateway.run_statement(session, "SELECT n FROM endless", 1)
    await gateway.close_session(session)

    async def cancelled() -> bool:
        return all(job.ended for job in await flink_server.jobmanager().jobs())

    await until(cancelled, WAIT_S)
