"""Flink's SQL Gateway: statements in a session, and a job that is submitted once.

https://nightlies.apache.org/flink/flink-docs-release-2.2/docs/sql/sql-gateway/rest/
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from agents import settings
from agents.analytics.flink import POLL_S, TIMEOUT_S, FlinkUrls, Job, JobManager, Rest
from agents.analytics.sql_script import Script
from agents.base.errors import (
    FlinkError,
    FlinkRefused,
    FlinkUnavailable,
    SessionExpired,
    SettingsError,
)

T = TypeVar("T")
STATEMENT_S = 60.0
"""For one statement. The first one after the gateway's start takes seconds."""
MAX_ROWS = 100_000

_RETRY_S = 0.5
_GONE = ("' does not exist.", "Can not find the submitted operation")
_DUPLICATE = "DuplicateJobSubmissionException"


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave: rows of JSON values, and the id of the job that it started."""

    rows: tuple[tuple[Any, ...], ...]  # Any: a value of JSON
    job_id: str | None


class _Info(msgspec.Struct):
    version: str


class _Session(msgspec.Struct, rename="camel"):
    session_handle: str


class _Operation(msgspec.Struct, rename="camel"):
    operation_handle: str


class _Row(msgspec.Struct):
    fields: list[Any]


class _Data(msgspec.Struct):
    data: list[_Row]


class _Page(msgspec.Struct, rename="camel"):
    result_type: str
    results: _Data | None = None
    job_id: str | None = msgspec.field(default=None, name="jobID")


class SqlGateway:
    """Holds no connection, so it outlives a restart of the gateway.

    Each method raises FlinkUnavailable, FlinkRefused and FlinkError as `Rest.request` does."""

    def __init__(
        self, urls: FlinkUrls, tls: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._rest = Rest(
            "Flink's SQL Gateway", "analytics.flink.gateway_url", urls.gateway, tls, timeout_s
        )

    async def version(self) -> str:
        """Flink's version."""
        return (await self._request("GET", "/info", _Info)).version

    async def open_session(self, properties: Mapping[str, str]) -> str:
        """A new session with these settings of Flink; returns its handle."""
        opened = await self._request("POST", "/sessions", _Session, {"properties": properties})
        return opened.session_handle

    async def close_session(self, session: str) -> None:
        """Forget its tables and settings; jobs run on. It may be gone already."""
        with suppress(SessionExpired):
            await self._request("DELETE", f"/sessions/{session}", dict[str, Any])

    async def run_statement(
        self, session: str, statement: str, timeout_s: float = STATEMENT_S
    ) -> Result:
        """Run a statement to its end; for an INSERT that is the job's start.

        Raises SessionExpired; FlinkUnavailable if it takes longer than `timeout_s` (it is cancelled
        then); FlinkError for more than MAX_ROWS rows."""
        deadline = time.monotonic() + timeout_s
        statements = f"/sessions/{session}/statements"
        started = await self._request("POST", statements, _Operation, {"statement": statement})
        operation = f"/sessions/{session}/operations/{started.operation_handle}"
        rows: list[tuple[Any, ...]] = []
        job_id, page_number, pause_s = None, 0, POLL_S / 4
        done = False
        try:
            while True:
                url = f"{operation}/result/{page_number}?rowFormat=JSON"
                page = await self._request("GET", url, _Page)
                job_id = page.job_id or job_id
                rows += (tuple(row.fields) for row in (page.results.data if page.results else ()))
                if page.result_type == "EOS":
                    done = True
                    return Result(tuple(rows), job_id)
                if len(rows) > MAX_ROWS:
                    raise FlinkError(f"a statement gives more than {MAX_ROWS:,} rows")
                if time.monotonic() > deadline:
                    raise FlinkUnavailable(
                        f"{self._rest.where} did not finish a statement within {timeout_s:g} s: "
                        "see its log; a SELECT over a stream never ends"
                    )
                if page.result_type == "NOT_READY":
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, 2 * POLL_S)
                else:
                    page_number += 1
        finally:
            if not done:
                with suppress(FlinkError):
                    await self._request("POST", f"{operation}/cancel", dict[str, Any])

    async def run_script(
        self, script: Script, properties: Mapping[str, str], timeout_s: float = STATEMENT_S
    ) -> tuple[Result, ...]:
        """Run all statements in a session of their own, each within `timeout_s`. The message of an
        error names the statement.

        Raises as `run_statement`: after SessionExpired the whole script must run again."""
        session = await self.open_session(properties)
        results = []
        try:
            for number, statement in enumerate(script.statements):
                try:
                    results.append(await self.run_statement(session, statement, timeout_s))
                except FlinkRefused as e:
                    text = f"{script.describe(number)}: {e}"
                    raise type(e)(text, e.status, e.trace) from e
                except FlinkError as e:
                    raise type(e)(f"{script.describe(number)}: {e}") from e
        finally:
            with suppress(FlinkError):
                await self.close_session(session)
        return tuple(results)

    async def _request(
        self,
        method: str,
        path: str,
        answer: type[T],
        json: Any = None,  # Any: a value that JSON can hold
    ) -> T:
        try:
            return await self._rest.request(method, f"/v2{path}", answer, json=json)
        except FlinkRefused as e:
            if any(words in e.trace for words in _GONE):
                raise SessionExpired(
                    f"{self._rest.where} does not know our session any more", e.status, e.trace
                ) from e
            raise


async def submit_job(
    gateway: SqlGateway,
    jobmanager: JobManager,
    name: str,
    script: Script,
    properties: Mapping[str, str],
    *,
    start_from: str | None = None,
    job_id: str | None = None,
    timeout_s: float = 180,
) -> Job:
    """Start the one job that `script` defines, called `name`, and return it, even if it has failed
    already; if a job of that name runs, return that one and start nothing. `start_from`: the path
    of a savepoint or checkpoint.

    Flink takes each job's id once: a submission whose answer is lost, with the session or with the
    gateway, is sent again and cannot start a second job. `job_id`: an id that nobody has used, 32
    hexadecimal digits, from a caller that writes it down first (with `start_from`, which is where
    to begin again until the job has a checkpoint of its own); None makes one.

    Raises FlinkError for a script that starts no job, or several, and as `SqlGateway.run_script`
    does; FlinkUnavailable if it has not worked within about `timeout_s`, which bounds each
    statement, too: a busy machine takes a minute to plan a large one."""
    if (count := script.count_jobs()) != 1:
        raise FlinkError(
            f"{script.origin}: it starts {count} jobs, and must start 1: put its INSERTs between "
            "`BEGIN STATEMENT SET;` and `END;`"
        )
    running = await jobmanager.find_job(name)
    if running is not None and not running.ended:
        return running
    job_id = job_id or secrets.token_hex(16)
    session = {
        **properties,
        "pipeline.name": name,
        "$internal.pipeline.job-id": job_id,  # as Flink's own application mode sets it
        **({"execution.state-recovery.path": start_from} if start_from else {}),
    }
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            await gateway.run_script(script, session, timeout_s)
            break
        except (SessionExpired, FlinkUnavailable) as e:
            if time.monotonic() > deadline:
                raise FlinkUnavailable(f"job {name} was not submitted in time: {e}") from e
            await asyncio.sleep(_RETRY_S)
        except FlinkRefused as e:
            # An earlier try did it, or it failed as it began.
            if _DUPLICATE not in e.trace and await jobmanager.job(job_id) is None:
                raise
            break
    job = await jobmanager.job(job_id)
    if job is None:
        raise FlinkUnavailable(
            f"job {name} was submitted, and the JobManager does not know it: it has been started "
            "again meanwhile, or analytics.flink.jobmanager_url names another Flink than the "
            "gateway's"
        )
    return job


def connect_flink(flink: settings.Flink) -> tuple[JobManager, SqlGateway]:
    """Clients for the Flink of the settings. Blocks. Raises SettingsError."""
    tls = None
    if flink.jobmanager_url.startswith("https") or flink.gateway_url.startswith("https"):
        try:
            tls = ssl.create_default_context(cafile=flink.ca_file or None)
            if flink.cert_file:
                tls.load_cert_chain(flink.cert_file)
        except (OSError, ssl.SSLError) as e:
            raise SettingsError(
                f"analytics.flink: ca_file ({flink.ca_file!r}) or cert_file ({flink.cert_file!r}) "
                f"cannot be used: {e}"
            ) from e
    urls = FlinkUrls(jobmanager=flink.jobmanager_url, gateway=flink.gateway_url)
    return JobManager(urls, tls), SqlGateway(urls, tls)
