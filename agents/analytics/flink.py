"""Flink's REST: one request, and what it may answer; and the jobs of a JobManager.

https://nightlies.apache.org/flink/flink-docs-release-2.2/docs/ops/rest_api/
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from agents.base import http_client
from agents.base.errors import FlinkError, FlinkRefused, FlinkUnavailable
from agents.base.text import to_one_line

T = TypeVar("T")
POLL_S = 0.1
TIMEOUT_S = 10.0
"""For one request; Flink answers in milliseconds, unless it is busy with a job's start."""
ENDED = frozenset({"FINISHED", "CANCELED", "FAILED"})
"""The states that a job never leaves."""

_UNDER_WAY = "IN_PROGRESS"
_STARTING = "Not all required tasks are currently running"
"""Why a job that has just been started, or restarts, cannot make a savepoint yet."""
_OF_STATE = ("tryRestoreExecutionGraphFromSavepoint", "StateMigrationException")
"""In the trace of a failure: a checkpoint or savepoint cannot be read, or is one of another job."""
_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A job's, a session's or an operation's."""
_REASON = 500  # characters of a reason that are shown
_CLASS = re.compile(r"^(?:[\w$]+\.)+([\w$]+)")


@dataclass(frozen=True, slots=True)
class FlinkUrls:
    """Where a Flink's two REST interfaces are."""

    jobmanager: str
    gateway: str


class Rest:
    """`name`: what is there, for people; `key`: the setting that holds `url`. `timeout_s` is for
    one request."""

    def __init__(
        self, name: str, key: str, url: str, tls: ssl.SSLContext | None, timeout_s: float
    ) -> None:
        self.where = f"{name} at {url}"
        self._key, self._url, self._tls, self._timeout_s = key, url.rstrip("/"), tls, timeout_s

    async def request(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        json: Any = None,  # Any: a value that JSON can hold
    ) -> T:
        """Send a request, and return its answer as an `answer`.

        Raises FlinkUnavailable (nobody answers, or not in time, or only somebody before it),
        FlinkRefused (an error of Flink's), FlinkError (what answers is not Flink)."""
        shown = _ID.sub("ID", path)  # so that a retry fails in the same words
        try:
            response = await http_client.request(
                method, f"{self._url}{path}", timeout_s=self._timeout_s, tls=self._tls, json=json
            )
        except http_client.TimedOut as e:
            raise FlinkUnavailable(
                f"{self.where} did not answer `{method} {shown}` within {self._timeout_s:g} s: see "
                "its log"
            ) from e
        except http_client.FAILURES as e:
            raise FlinkUnavailable(
                f"{self.where} gives no answer to `{method} {shown}` ({http_client.cause(e)}): "
                f"check that it runs, and {self._key}"
            ) from e
        body, status = response.content, response.status_code
        try:
            if status >= 400:
                errors = msgspec.json.decode(body, type=_Errors).errors
            else:
                return msgspec.json.decode(body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            text = to_one_line(body[:200].decode("utf-8", "replace"), 100)
            said = f"{self.where} answered `{method} {shown}` with HTTP {status} and {text!r}"
            if status >= 500:  # a proxy before a Flink that is not there
                raise FlinkUnavailable(f"{said}: check that it runs, and {self._key}") from e
            raise FlinkError(f"{said} ({e}): {self._key} names something else") from e
        trace = "\n".join(errors)
        text = f"{self.where} refuses `{method} {shown}`: {find_reason(trace)}"
        if status == 503:  # no JobManager leads, for now
            raise FlinkUnavailable(text)
        raise FlinkRefused(text, status, trace)


class _Errors(msgspec.Struct):
    errors: list[str]


def find_reason(trace: str) -> str:
    """The message of a Java stack trace that explains it, as one line: that of the last cause."""
    causes = [part for part in re.split(r"^Caused by: ", trace, flags=re.M) if part.strip()]
    lines = causes[-1].splitlines() if causes else []
    if len(causes) == 1:  # no cause: what comes before is the server's own words
        first = next((i for i, line in enumerate(lines) if _CLASS.match(line)), 0)
        lines = lines[first:]
    message: list[str] = []
    for line in lines:
        if line.startswith(("\tat ", "\t... ", "End of exception")):
            break
        message.append(line.strip())
    text = _CLASS.sub(r"\1", " ".join(filter(None, message)))
    return to_one_line(text, _REASON) or "it gives no reason"


@dataclass(frozen=True, slots=True)
class Job:
    """`state`: Flink's JobStatus. Times are of the JobManager's clock, ms since 1970."""

    job_id: str
    name: str
    state: str
    started_ms: int

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class JobFailure:
    """A failure that the job was restarted after, or ended by. `of_state`: the state that it was to
    begin from cannot be used."""

    at_ms: int
    reason: str
    of_state: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`path`: a job can start from it."""

    number: int
    completed_ms: int
    took_ms: int
    size_bytes: int
    path: str
    savepoint: bool


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """`completed`, `failed`: since the job's start. `last`: the newest that is complete."""

    completed: int
    failed: int
    in_progress: int
    last: Checkpoint | None
    last_failure: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Of a whole cluster."""

    version: str
    taskmanagers: int
    slots: int
    free_slots: int


class _Overview(msgspec.Struct, rename="kebab"):
    taskmanagers: int
    slots_total: int
    slots_available: int
    flink_version: str


class _TaskManager(msgspec.Struct):
    id: str


class _TaskManagers(msgspec.Struct):
    taskmanagers: list[_TaskManager]


class _Job(msgspec.Struct, rename="kebab"):
    jid: str
    name: str
    start_time: int


class _Jobs(msgspec.Struct):
    jobs: list[_Job]


class _State(msgspec.Struct):
    id: str
    status: str


class _States(msgspec.Struct):
    jobs: list[_State]


class _Metric(msgspec.Struct):
    id: str
    value: str


class _Failure(msgspec.Struct):
    timestamp: int
    stacktrace: str = ""


class _History(msgspec.Struct):
    entries: list[_Failure]


class _Exceptions(msgspec.Struct, rename="camel"):
    exception_history: _History


class _Counts(msgspec.Struct):
    completed: int
    failed: int
    in_progress: int


class _Completed(msgspec.Struct):
    id: int
    is_savepoint: bool
    latest_ack_timestamp: int
    end_to_end_duration: int
    state_size: int
    external_path: str


class _FailedCheckpoint(msgspec.Struct):
    failure_message: str | None = None


class _Latest(msgspec.Struct):
    completed: _Completed | None = None
    savepoint: _Completed | None = None
    failed: _FailedCheckpoint | None = None


class _Checkpoints(msgspec.Struct):
    counts: _Counts
    latest: _Latest


class _Requested(msgspec.Struct, rename="kebab"):
    request_id: str


class _Status(msgspec.Struct):
    id: str


class _Cause(msgspec.Struct, rename="kebab"):
    stack_trace: str = ""


class _Operation(msgspec.Struct, rename="kebab"):
    location: str | None = None
    failure_cause: _Cause | None = None


class _Savepoint(msgspec.Struct):
    status: _Status
    operation: _Operation | None = None


class JobManager:
    """The jobs of one cluster. Holds no connection, so it outlives a restart of Flink.

    Each method raises FlinkUnavailable and FlinkError as `Rest.request` does."""

    def __init__(
        self, urls: FlinkUrls, tls: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url = urls.jobmanager
        self._rest = Rest(
            "Flink's JobManager", "analytics.flink.jobmanager_url", self._url, tls, timeout_s
        )

    async def overview(self) -> Overview:
        found = await self._rest.request("GET", "/overview", _Overview)
        return Overview(
            found.flink_version, found.taskmanagers, found.slots_total, found.slots_available
        )

    async def taskmanager_ids(self) -> frozenset[str]:
        """The resource ids of the TaskManagers that are registered."""
        found = await self._rest.request("GET", "/taskmanagers", _TaskManagers)
        return frozenset(t.id for t in found.taskmanagers)

    async def jobs(self) -> tuple[Job, ...]:
        """Those that run, and those that ended in the last hour, in their states of now: Flink
        answers most questions from a cache of 3 s (`web.refresh-interval`), but not this list."""
        states = (await self._rest.request("GET", "/jobs", _States)).jobs
        found = await self._rest.request("GET", "/jobs/overview", _Jobs)
        known = {job.jid: job for job in found.jobs}
        jobs = []
        for at in states:
            job = known.get(at.id) or await self._job(at.id)
            if job is not None:
                jobs.append(Job(job.jid, job.name, at.status, job.start_time))
        return tuple(jobs)

    async def find_job(self, name: str, own_id: str = "") -> Job | None:
        """The job of that name that has not ended; if there is none, the one with `own_id`, which
        geolane started, or the last that has ended; None if the JobManager knows none.

        Raises FlinkError if two of that name have not ended; it says which to cancel."""
        named = sorted(
            (job for job in await self.jobs() if job.name == name),
            key=lambda job: (job.job_id == own_id, job.started_ms),
        )
        live = [job for job in named if not job.ended]
        if len(live) > 1:
            *others, own = live if live[-1].job_id == own_id else live[::-1]
            ids = ", ".join(job.job_id for job in others)
            raise FlinkError(
                f"{len(live)} jobs named {name} run in {self._rest.where}, and each fences the "
                f"other's transactions: cancel {ids} (`flink cancel ID`, or PATCH "
                f"{self._url}/jobs/ID?mode=cancel), and keep {own.job_id}"
            )
        return live[0] if live else named[-1] if named else None

    async def job(self, job_id: str) -> Job | None:
        """None if the JobManager does not know it (any more)."""
        return next((job for job in await self.jobs() if job.job_id == job_id), None)

    async def _job(self, job_id: str) -> _Job | None:
        try:
            return await self._rest.request("GET", f"/jobs/{job_id}", _Job)
        except FlinkRefused as e:
            if e.status != 404:
                raise
            return None

    async def restarts(self, job_id: str) -> int:
        """How often the job was restarted after a failure, since its start."""
        found = await self._rest.request(
            "GET", f"/jobs/{job_id}/metrics?get=numRestarts", list[_Metric]
        )
        # none for the first second of a job
        return max((int(m.value) for m in found if m.value.isdecimal()), default=0)

    async def failures(self, job_id: str, most: int = 5) -> tuple[JobFailure, ...]:
        """The last failures, the newest first."""
        found = await self._rest.request(
            "GET", f"/jobs/{job_id}/exceptions?maxExceptions={most}", _Exceptions
        )
        return tuple(
            JobFailure(
                f.timestamp,
                find_reason(f.stacktrace),
                any(words in f.stacktrace for words in _OF_STATE),
            )
            for f in found.exception_history.entries
        )

    async def checkpoints(self, job_id: str) -> Checkpoints:
        found = await self._rest.request("GET", f"/jobs/{job_id}/checkpoints", _Checkpoints)
        last = max(
            (c for c in (found.latest.completed, found.latest.savepoint) if c is not None),
            key=lambda c: c.id,
            default=None,
        )
        failed = found.latest.failed
        return Checkpoints(
            found.counts.completed,
            found.counts.failed,
            found.counts.in_progress,
            Checkpoint(
                last.id,
                last.latest_ack_timestamp,
                last.end_to_end_duration,
                last.state_size,
                last.external_path,
                last.is_savepoint,
            )
            if last
            else None,
            find_reason(failed.failure_message or "") if failed else "",
        )

    async def stop_with_savepoint(
        self, job_id: str, timeout_s: float = 60, directory: str | None = None
    ) -> str:
        """Stop the job after a savepoint, as soon as all of it runs, and return the savepoint's
        path when the job has ended. All that the job has taken in until then is committed; what it
        holds in windows is in the savepoint. `directory`: None takes the cluster's own.

        Raises FlinkError if there is no savepoint; then a job that ran goes on. Raises
        FlinkUnavailable if it takes longer than `timeout_s`; then it may still happen."""
        deadline = time.monotonic() + timeout_s
        while True:
            done = await self._try_stop(job_id, directory, deadline)
            if done is not None and done.location:
                await self._wait_until_ended(job_id, deadline)
                return done.location
            trace = done.failure_cause.stack_trace if done and done.failure_cause else ""
            if _STARTING not in trace or time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
        raise FlinkError(
            f"job {job_id} cannot be stopped with a savepoint ({find_reason(trace)}): if it still "
            "runs, mend the cause, or cancel it and start it from its last checkpoint"
        )

    async def _try_stop(
        self, job_id: str, directory: str | None, deadline: float
    ) -> _Operation | None:
        asked = await self._rest.request(
            "POST",
            f"/jobs/{job_id}/stop",
            _Requested,
            json={"drain": False, "targetDirectory": directory},
        )
        return await self._wait_for_operation(
            f"/jobs/{job_id}/savepoints/{asked.request_id}",
            deadline,
            f"the savepoint of job {job_id} was not complete in time; the job may still stop: look "
            f"at it in {self._rest.where}",
        )

    async def delete_savepoint(self, path: str, timeout_s: float = 30) -> None:
        """Delete a savepoint, or a checkpoint that its job has left behind.

        Raises FlinkError if it cannot be deleted; FlinkUnavailable after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        asked = await self._rest.request(
            "POST", "/savepoint-disposal", _Requested, json={"savepoint-path": path}
        )
        done = await self._wait_for_operation(
            f"/savepoint-disposal/{asked.request_id}",
            deadline,
            f"{path} was not deleted in time by {self._rest.where}",
        )
        if done is not None and done.failure_cause is not None:
            why = find_reason(done.failure_cause.stack_trace)
            raise FlinkError(f"{self._rest.where} cannot delete {path} ({why})")

    async def _wait_for_operation(
        self, path: str, deadline: float, too_late: str
    ) -> _Operation | None:
        """The outcome of what was asked for, once it is there. Raises FlinkUnavailable with
        `too_late` after `deadline`."""
        while (done := await self._rest.request("GET", path, _Savepoint)).status.id == _UNDER_WAY:
            if time.monotonic() > deadline:
                raise FlinkUnavailable(too_late)
            await asyncio.sleep(POLL_S)
        return done.operation

    async def cancel(self, job_id: str, timeout_s: float = 30) -> None:
        """End the job now, without a savepoint; its last checkpoint stays. A job that has ended, or
        that nobody knows, is left alone.

        Raises FlinkUnavailable if it has not ended within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        try:
            await self._rest.request("PATCH", f"/jobs/{job_id}?mode=cancel", dict[str, Any])
        except FlinkRefused as e:
            if e.status not in (404, 409):  # nobody knows it, it has ended
                raise
        await self._wait_until_ended(job_id, deadline)

    async def _wait_until_ended(self, job_id: str, deadline: float) -> None:
        while (job := await self.job(job_id)) is not None and not job.ended:
            if time.monotonic() > deadline:
                raise FlinkUnavailable(
                    f"job {job_id} has not ended in time ({job.state}): look at it in "
                    f"{self._rest.where}"
                )
            await asyncio.sleep(POLL_S)
