"""The one Flink job that finds rises (sql/hotspots.sql): found by its name, started if there is
none, brought back if it has ended. It runs on when its keeper leaves, and a job that works is never
cancelled; one whose SQL or settings have changed is stopped with a savepoint.

What is to be submitted is saved first: whoever comes next knows its id, and Flink takes each id
once.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

import msgspec

from agents import settings
from agents.analytics.base_engine import AnalyticsTopics
from agents.analytics.checkpoint import JobRecord
from agents.analytics.flink import Job, JobFailure, JobManager
from agents.analytics.sql_gateway import SqlGateway, submit_job
from agents.analytics.sql_script import Script, kafka_options, read_script
from agents.base import log
from agents.base.errors import FlinkError, FlinkUnavailable, GeolaneError
from kernels.hotspots.rises import COST, FACTORS, GAIN

LOOK_S = 2.0
RETRY_S, MOST_RETRY_S = 1.0, 30.0
NO_CHECKPOINT_S = 60.0
"""A job that completes none for this long shows nothing of what it finds."""
CACHED_S = 3.5
"""After the end of a job, the JobManager may name an older checkpoint for this long
(`web.refresh-interval`), which exists no more."""
STATE_TTL = "3 d"
"""How long Flink keeps the usual figure of a cell without events, on its own clock. It must be more
than the 24 h of event time for which it counts, and than a job may be away."""
SQL = Path(__file__).with_name("sql") / "hotspots.sql"

_log = log.get_logger("analytics.flink")


@dataclass(frozen=True, slots=True)
class JobScript:
    """What the job runs. `named`: it names cells after the topic `geo.context`, which must then be
    there."""

    kafka: settings.Kafka
    analytics: settings.Analytics
    topics: AnalyticsTopics
    named: bool = False

    @property
    def properties(self) -> dict[str, str]:
        return {
            "execution.checkpointing.interval": f"{self.analytics.flink.checkpoint_ms} ms",
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            "table.exec.state.ttl": STATE_TTL,
            "table.local-time-zone": "UTC",
            "parallelism.default": f"{self.analytics.flink.parallelism}",
        }

    @property
    def fingerprint(self) -> str:
        """Changes with everything that a running job would not know of, but for the login: each
        owner has its own. Blocks."""
        values = [SQL.read_text("utf-8"), self.kafka.bootstrap, self.kafka.security]
        values += [f"{x}={y}" for x, y in sorted((self._values() | self.properties).items())]
        return hashlib.sha256("\0".join(values).encode()).hexdigest()[:32]

    def read(self, from_ms: int, since_s: int) -> Script:
        """Blocks. Raises SettingsError."""
        values = self._values() | {"from_ms": f"{from_ms}", "since_s": f"{since_s}"}
        return read_script(SQL, values, {"kafka": kafka_options(self.kafka)})

    def _values(self) -> dict[str, str]:
        p = self.analytics
        minutes, ms = divmod(round(p.lateness_s * 1000), 60_000)
        hours, minutes = divmod(minutes, 60)
        values = {
            "lanes": self.topics.lanes,
            "rises": self.topics.rises,
            "context": self.topics.context,
            "found": "named" if self.named else "unnamed",
            "group": self.topics.group,
            "prefix": self.topics.job,
            "lateness_ms": f"{round(p.lateness_s * 1000)}",
            "lateness": f"0 {hours:02}:{minutes:02}:{ms / 1000:06.3f}",
            "idle_ms": f"{round(p.idle_s * 1000)}",
            "floor": f"{p.floor_events}",
            "threshold": f"{round(p.threshold_nats * 1_000_000)}",
        }
        for name, factor, gain, cost in zip("ab", FACTORS, GAIN, COST, strict=True):
            values |= {f"factor_{name}": f"{factor}", f"gain_{name}": f"{gain}"}
            values |= {f"cost_{name}": f"{cost}"}
        return values


@dataclass(frozen=True, slots=True)
class JobHealth:
    """`state`: Flink's, empty if there is no job. `restarts`: since its start. `checkpoint_age_s`:
    None before the first."""

    state: str = ""
    restarts: int = 0
    checkpoint_age_s: float | None = None


@dataclass(slots=True)
class JobKeeper:
    """`find_begin`: (append time of the first record to read, its event time in s); None if there
    is none yet. `save`: returns when `record` is committed. `trouble`: what people must know,
    empty while the job works."""

    jobmanager: JobManager
    gateway: SqlGateway
    script: JobScript
    record: JobRecord | None
    find_begin: Callable[[], Awaitable[tuple[int, int] | None]]
    save: Callable[[], Awaitable[None]]
    trouble: str = ""
    health: JobHealth = field(default_factory=JobHealth)
    _fingerprint: str = ""
    _tries: int = 0
    _missed: int = 0
    _checkpoint: tuple[int, float] = (-1, 0.0)
    _unreached: bool = False

    @property
    def name(self) -> str:
        return self.script.topics.job

    async def run(self) -> None:
        """Look after it until cancelled."""
        self._fingerprint = await asyncio.to_thread(lambda: self.script.fingerprint)
        self._checkpoint = -1, time.monotonic()
        while True:
            pause_s = LOOK_S
            try:
                pause_s = await self._look()
                self._unreached = False
            except FlinkUnavailable as e:
                if not self._unreached:  # its words differ from request to request
                    self._report(f"{e}")
                self._unreached = True
            except GeolaneError as e:
                self._unreached = False
                self._report(f"{e}")
                pause_s = self._back_off()
            await asyncio.sleep(pause_s)

    def _report(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            _log.error("flink_job_trouble", job=self.name, why=trouble)
        elif self.trouble and not trouble:
            _log.info("flink_job_works", job=self.name)
        self.trouble = trouble

    def _back_off(self) -> float:
        self._tries += 1
        return min(RETRY_S * 2.0 ** min(self._tries - 1, 10), MOST_RETRY_S)

    async def _look(self) -> float:
        """Returns when to look again, in s. Raises GeolaneError."""
        record = self.record
        job = await self.jobmanager.find_job(self.name, record.job_id if record else "")
        if job is None or (job.ended and (record is None or job.job_id != record.job_id)):
            return await self._start_missing()
        self._missed = 0
        if job.ended and record is not None:
            return await self._start_ended(job, record)
        if record is None or job.job_id != record.job_id:
            return await self._adopt(job)
        if record.script != self._fingerprint:
            return await self._upgrade(record)
        return await self._note_running(job, record)

    async def _note_running(self, job: Job, record: JobRecord) -> float:
        if not record.seen:
            record = msgspec.structs.replace(record, seen=True)
        checkpoints = await self.jobmanager.checkpoints(job.job_id)
        last, now, age_s = checkpoints.last, time.monotonic(), None
        if last is not None:
            age_s = max(0.0, time.time() - last.completed_ms / 1000)
            if last.number != self._checkpoint[0]:
                self._checkpoint = last.number, now
            record = msgspec.structs.replace(record, checkpoint=last.path)
        self.record = record
        if record.checkpoint and record.deletable:
            self.record = msgspec.structs.replace(record, start_from="", deletable=False)
            await self.save()
            await self._delete_start(record)
        restarts = await self.jobmanager.restarts(job.job_id)
        self.health = JobHealth(job.state, restarts, age_s)
        if job.state in ("FAILING", "RESTARTING"):
            failure = await self._find_failure(job)
            if self._lacks_state(record, failure):
                await self.jobmanager.cancel(job.job_id)
                return await self._start_anew_without_state(record, failure.reason)
            self._report(
                f"Flink restarts the job {self.name} after a failure ({failure.reason}): if it "
                "does not recover by itself, mend the cause"
            )
        elif now - self._checkpoint[1] > NO_CHECKPOINT_S:
            why = checkpoints.last_failure or "see its page, and whether Flink has free slots"
            self._report(
                f"the Flink job {self.name} has completed no checkpoint for more than "
                f"{NO_CHECKPOINT_S:g} s, so nothing that it finds shows: {why}"
            )
        elif job.state == "RUNNING":
            self._tries = 0
            self._report("")
        return LOOK_S

    async def _delete_start(self, record: JobRecord) -> None:
        """Delete what its job began from, after another record is saved, of a newer state."""
        try:
            await self.jobmanager.delete_savepoint(record.start_from)
        except FlinkError as e:
            _log.warning("flink_state_not_deleted", path=record.start_from, error=f"{e}")

    async def _adopt(self, job: Job) -> float:
        """It runs, and our record does not know it: another program has started it, or the record
        is lost."""
        _log.warning("flink_job_adopted", job=self.name, id=job.job_id)
        known = self.record or JobRecord("", self._fingerprint, 0, 0)
        adopted = msgspec.structs.replace(
            known, job_id=job.job_id, checkpoint="", seen=True, deletable=False
        )
        self.record = adopted
        await self.save()
        return 0.0

    async def _start_missing(self) -> float:
        """No job of ours is known to the JobManager."""
        self.health = JobHealth()
        record = self.record
        if record is None:
            return await self._start_anew("there is no job of that name")
        if not record.seen:  # was it submitted? the same id once more
            return await self._start(msgspec.structs.replace(record, script=self._fingerprint))
        self._missed += 1
        if self._missed < 2:  # a JobManager that recovers may not list it yet
            return RETRY_S
        self._report(
            f"Flink's JobManager does not know the job {self.name} any more: it has been started "
            "again without high availability. The job is started from its last checkpoint."
        )
        newest = await asyncio.to_thread(find_newest_checkpoint, record.checkpoint)
        return await self._start(self._follow(record, newest or record.start_from))

    async def _start_ended(self, job: Job, record: JobRecord) -> float:
        """Our job has ended, and the JobManager still knows how."""
        self.health = JobHealth(job.state)
        failure = await self._find_failure(job) if job.state == "FAILED" else None
        if failure is not None and self._lacks_state(record, failure):
            return await self._start_anew_without_state(record, failure.reason)
        if failure is not None:
            self._report(
                f"the Flink job {self.name} has failed ({failure.reason}); it is started again"
            )
        else:
            how = "cancelled" if job.state == "CANCELED" else "stopped"
            self._report(
                f"somebody has {how} the Flink job {self.name}; it is started again where it was. "
                "To keep it away, stop this worker first."
            )
        await asyncio.sleep(CACHED_S)
        last = (await self.jobmanager.checkpoints(job.job_id)).last
        own = last.path if last is not None else record.checkpoint
        own = await asyncio.to_thread(find_newest_checkpoint, own)
        if failure is not None:
            await asyncio.sleep(self._back_off())
        return await self._start(self._follow(record, own or record.start_from))

    async def _find_failure(self, job: Job) -> JobFailure:
        failures = await self.jobmanager.failures(job.job_id, 1)
        return failures[0] if failures else JobFailure(0, "it gives no reason", False)

    @staticmethod
    def _lacks_state(record: JobRecord, failure: JobFailure) -> bool:
        """Whether what it was to begin from cannot be used, so that trying again is of no use."""
        return failure.of_state and bool(record.start_from) and not record.checkpoint

    async def _start_anew_without_state(self, record: JobRecord, why: str) -> float:
        self._report(
            f"the Flink job {self.name} cannot go on from {record.start_from} ({why}), so it "
            "begins anew with the last hour of events. Nothing is told twice; a hotspot of older "
            "events may be missing. Find out what has changed or removed that state; geolane does "
            "not delete it."
        )
        return await self._start_anew("its state cannot be used")

    async def _upgrade(self, record: JobRecord) -> float:
        _log.info("flink_job_upgraded", job=self.name, why="its SQL or its settings have changed")
        path = await self.jobmanager.stop_with_savepoint(record.job_id)
        following = self._follow(record, path)
        return await self._start(msgspec.structs.replace(following, deletable=True))

    def _follow(self, record: JobRecord, start_from: str) -> JobRecord:
        return JobRecord(
            secrets.token_hex(16),
            self._fingerprint,
            record.from_ms,
            record.since_s,
            start_from,
            deletable=record.is_deletable(start_from),
        )

    async def _start_anew(self, why: str) -> float:
        begin = await self.find_begin()
        if begin is None:
            return RETRY_S  # nothing to read yet
        _log.info("flink_job_begun_anew", job=self.name, why=why, since_s=begin[1])
        return await self._start(JobRecord(secrets.token_hex(16), self._fingerprint, *begin))

    async def _start(self, record: JobRecord) -> float:
        script = await asyncio.to_thread(self.script.read, record.from_ms, record.since_s)
        before, self.record = self.record, record
        await self.save()
        if (
            before is not None
            and before.deletable
            and record.start_from not in ("", before.start_from)
        ):
            await self._delete_start(before)
        self._missed = 0
        job = await submit_job(
            self.gateway,
            self.jobmanager,
            self.name,
            script,
            self.script.properties,
            start_from=record.start_from or None,
            job_id=record.job_id,
        )
        self._checkpoint = -1, time.monotonic()
        _log.info(
            "flink_job_started", job=self.name, id=job.job_id, start_from=record.start_from or "-"
        )
        return RETRY_S


def find_newest_checkpoint(path: str) -> str:
    """The newest checkpoint beside this one: of the same job, later than we saw. `path` itself if
    its folder is not one that we can read. Blocks."""
    found = urlparse(path)
    if found.scheme != "file" or found.netloc or "/chk-" not in path:
        return path
    try:
        newest = find_last_checkpoint(Path(unquote(found.path)).parent)
    except (OSError, ValueError):
        return path
    return f"{path.rpartition('/')[0]}/{newest.name}" if newest is not None else path


def find_last_checkpoint(folder: Path) -> Path | None:
    """The last completed checkpoint in a job's folder of them; None if it has none. Blocks. Raises
    OSError, ValueError for a folder with other things in it."""
    found = [
        (int(file.parent.name.removeprefix("chk-")), file.parent)
        for file in folder.glob("chk-*/_metadata")
    ]
    return max(found)[1] if found else None
