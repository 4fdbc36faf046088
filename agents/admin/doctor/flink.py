"""The Flink of analytics.engine = "flink": whether it answers, and whether the one job runs."""

from __future__ import annotations

import asyncio

from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.verdict import Verdict, fault, ok, warning
from agents.analytics.sql_gateway import connect_flink
from agents.kafka.rights import FLINK_JOB
from agents.settings import Settings

GROUP = "flink"
VERSION = "2.2"


class FlinkCheck:
    """`job`: its name."""

    def __init__(self, settings: Settings, job: str = FLINK_JOB) -> None:
        self._settings, self._job = settings.analytics, job

    def list_checks(self) -> list[Check]:
        """None if Flink is not used."""
        if self._settings.engine != "flink":
            return []
        return [
            Check(GROUP, "job", self._check_job, todo="docs/flink.md says what it needs"),
        ]

    async def _check_job(self) -> Verdict:
        jobmanager, gateway = await asyncio.to_thread(connect_flink, self._settings.flink)
        version = await gateway.version()
        there = await jobmanager.overview()
        job = await jobmanager.find_job(self._job)
        if job is None or job.ended:
            how = "is not there" if job is None else f"has ended ({job.state})"
            return fault(
                f"the job {self._job} {how}",
                "start `geolane analytics`, which starts it; if it runs, read its log",
            )
        last = (await jobmanager.checkpoints(job.job_id)).last
        restarts = await jobmanager.restarts(job.job_id)
        found = f"Flink {version}; {self._job} is {job.state}, {restarts} restarts, "
        found += f"checkpoint {last.number} in {last.took_ms} ms" if last else "no checkpoint yet"
        if job.state != "RUNNING":
            return warning(found, "see its failures on the JobManager's page")
        for of in (version, there.version):
            if not of.startswith(f"{VERSION}."):
                return warning(f"{found} (tested with {VERSION})", f"use Flink {VERSION}")
        return ok(found)
