"""`geolane up --analytics flink`: a Flink of its own, whose job the analytics worker starts with
its own login and rights, and brings back."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from agents.analytics.base_engine import AnalyticsTopics
from agents.analytics.flink import Job, JobManager
from agents.base.errors import FlinkError
from agents.local.stack import ANALYTICS_FLINK
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]
ANALYTICS = ANALYTICS_FLINK


async def running_job(jobmanager: JobManager, other_than: str = "") -> Job:
    """The job, once it has completed a checkpoint."""
    deadline, why = time.monotonic() + 180, "there is none"
    while time.monotonic() < deadline:
        try:
            job = await jobmanager.find_job(AnalyticsTopics().job)
            if job is not None and not job.ended and job.job_id != other_than:
                checkpoints = await jobmanager.checkpoints(job.job_id)
                if checkpoints.last is not None:
                    return job
                why = f"{job.state}, no checkpoint {checkpoints.last_failure}"
        except FlinkError as e:
            why = str(e)
        await asyncio.sleep(0.5)
    raise AssertionError(f"no job that works: {why}")


async def test_the_job_is_started_and_brought_back_after_a_lost_jobmanager(
    running: Running,
) -> None:
    cluster = running.stack.servers.flink
    assert cluster is not None
    replay, sending = running.replay(2000)
    await running.account(replay, sending)
    jobmanager = JobManager(cluster.urls, await asyncio.to_thread(cluster.tls))
    job = await running_job(jobmanager)
    os.kill(cluster.jobmanager.pid or 0, signal.SIGKILL)
    again = await running_job(jobmanager, other_than=job.job_id)
    assert again.name == job.name
    path = cluster.last_checkpoint(job.job_id)
    assert path is not None, "it began without a checkpoint"
