"""What Flink, or something in its place, may answer badly: each is one clear error, in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest

from agents.analytics import sql_gateway
from agents.analytics.flink import FlinkUrls, Job, JobManager, find_reason
from agents.analytics.sql_gateway import SqlGateway, submit_job
from agents.analytics.sql_script import Script
from agents.base import http_client
from agents.base.errors import FlinkError, FlinkRefused, FlinkUnavailable, SessionExpired
from tests.base.test_http_client import dripping, server

TRACE = """<Exception on server side:
org.apache.flink.table.gateway.api.utils.SqlGatewayException: Failed to fetchResults.
\tat org.apache.flink.table.gateway.rest.Handler.handle(Handler.java:91)
Caused by: org.apache.flink.table.api.ValidationException: Unable to create a sink.

Table options are:

'topic'='hot\x1b[31mspots'
\tat org.apache.flink.table.Factory.create(Factory.java:1)
\t... 3 more

End of exception on server side>"""


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Some\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def urls(port: int) -> FlinkUrls:
    return FlinkUrls(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}")


@asynccontextmanager
async def flink(answers: Mapping[str, Any]) -> AsyncIterator[tuple[FlinkUrls, list[str]]]:
    """A server that gives the answer of the first `METHOD /PATH` that a request begins with (bytes
    as they are, else JSON; `{}` if there is none). Yields its addresses, and what it was asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            line = (await reader.readuntil(b"\r\n")).decode().rpartition(" ")[0]
            asked.append(line)
            answer: Any = next((a for key, a in answers.items() if line.startswith(key)), {})
            writer.write(answer if isinstance(answer, bytes) else http(200, orjson.dumps(answer)))
            await writer.drain()
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield urls(listening.sockets[0].getsockname()[1]), asked


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (http(200, b"<html>hello</html>"), FlinkError, r"HTTP 200 and '<html>hello.* names someth"),
        (http(200, b'{"taskmanagers": 1'), FlinkError, "names something else"),
        (http(200, b'{"jobs": "many"}'), FlinkError, r"Expected `array`.* names something else"),
        (http(200, b'{"jobs": [{"id": 1, "status": "\xff"}]}'), FlinkError, "names something else"),
        (http(200, b""), FlinkError, "names something else"),
        (http(204, b""), FlinkError, "names something else"),
        (http(302, b""), FlinkError, "HTTP 302"),
        (http(401, b"<h1>who?</h1>"), FlinkError, "HTTP 401 and '<h1>who"),
        (http(502, b"<html>\x1b[2Jbad gateway</html>"), FlinkUnavailable, r"HTTP 502.*check that"),
        (http(500, b""), FlinkUnavailable, "HTTP 500 and ''"),
        (
            http(503, orjson.dumps({"errors": ["Service temporarily unavailable"]})),
            FlinkUnavailable,
            "temporarily",
        ),
        (
            http(500, orjson.dumps({"errors": ["Internal server error.", TRACE]})),
            FlinkRefused,
            r"refuses `GET /jobs`: ValidationException: Unable to create a sink\. Table options",
        ),
        (http(404, orjson.dumps({"errors": []})), FlinkRefused, "it gives no reason"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", FlinkUnavailable, "gives no answer to `GET /jobs`"),
        (b"", FlinkUnavailable, r"not answer `GET /jobs` within 0\.3 s: see its log"),
    ],
)
async def test_a_bad_answer_is_one_clear_error(
    answer: bytes, error: type[FlinkError], says: str
) -> None:
    async with server(answer) as port:
        with pytest.raises(FlinkError, match=says) as failed:
            await JobManager(urls(port), timeout_s=0.3).jobs()
    text = str(failed.value)
    assert type(failed.value) is error
    assert text.isprintable()
    assert len(text) < 800
    assert f"Flink's JobManager at http://127.0.0.1:{port}" in text
    if "check that" in text or "names something else" in text:
        assert "analytics.flink.jobmanager_url" in text


async def test_an_answer_without_end_is_bounded() -> None:
    begun = time.monotonic()
    async with dripping(0.05, b"x") as port:
        with pytest.raises(FlinkUnavailable, match="did not answer"):
            await SqlGateway(urls(port), timeout_s=0.3).version()
    async with dripping(0, bytes(1 << 16)) as port:
        with pytest.raises(FlinkUnavailable, match=f"more than {http_client.MAX_BODY_BYTES} bytes"):
            await SqlGateway(urls(port), timeout_s=5).version()
    assert time.monotonic() - begun < 10


async def test_nobody_there_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(FlinkUnavailable, match=r"check that it runs, and analytics\.flink\.g"):
        await SqlGateway(urls(1)).version()


def test_the_reason_of_a_trace_is_its_last_cause() -> None:
    trace = """java.util.concurrent.CompletionException: java.lang.RuntimeException: no
\tat java.base/java.util.concurrent.CompletableFuture.run(CompletableFuture.java:1)
Caused by: java.lang.RuntimeException: no
\t... 5 more"""
    assert find_reason(trace) == "RuntimeException: no"
    assert find_reason("Not found: /jars") == "Not found: /jars"
    assert find_reason("org.apache.flink.X$YException: a\n b\n\tat c") == "X$YException: a b"
    assert find_reason("") == find_reason("\n") == "it gives no reason"
    assert len(find_reason("x" * 100_000)) <= 500


SESSION = {"sessionHandle": "s"}
OPERATION = {"operationHandle": "o"}
GONE = http(
    500, orjson.dumps({"errors": ["x\nCaused by: a.b.C: Session 's' does not exist.\n\tat d"]})
)


async def test_a_statement_that_is_never_ready_is_cancelled_in_time() -> None:
    async with flink(
        {"POST /v2/sessions/s/st": OPERATION, "GET /v2/": {"resultType": "NOT_READY"}}
    ) as (at, asked):
        with pytest.raises(FlinkUnavailable, match=r"did not finish a statement within 0\.3 s"):
            await SqlGateway(at).run_statement("s", "SELECT 1", 0.3)
    assert asked[-1] == "POST /v2/sessions/s/operations/o/cancel"
    assert len(asked) < 12


async def test_pages_without_end_are_bounded_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_gateway, "MAX_ROWS", 100)
    page = {"resultType": "PAYLOAD", "results": {"data": [{"kind": "INSERT", "fields": [1]}] * 30}}
    async with flink({"POST /v2/sessions/s/st": OPERATION, "GET /v2/": page}) as (at, asked):
        with pytest.raises(FlinkError, match="more than 100 rows"):
            await SqlGateway(at).run_statement("s", "SELECT 1")
    assert [a for a in asked if "/result/" in a][-1].startswith(
        "GET /v2/sessions/s/operations/o/result/3?"
    )


async def test_a_session_that_is_gone_has_an_error_of_its_own() -> None:
    async with flink({"POST /v2/": GONE, "DELETE /v2/": GONE}) as (at, _):
        gateway = SqlGateway(at)
        with pytest.raises(SessionExpired, match="does not know our session any more"):
            await gateway.run_statement("s", "SELECT 1")
        await gateway.close_session("s")


async def test_a_script_whose_session_is_lost_again_and_again_is_given_up() -> None:
    answers = {
        "POST /v2/sessions/s/statements": GONE,
        "POST /v2/sessions": SESSION,
        "GET /jobs": {"jobs": []},
    }
    script = Script("a.sql", ("CREATE TABLE t (n INT)", "INSERT INTO t SELECT 1"))
    async with flink(answers) as (at, asked):
        with pytest.raises(FlinkUnavailable, match=r"job x was not submitted in time: a\.sql, st"):
            await submit_job(SqlGateway(at), JobManager(at), "x", script, {}, timeout_s=1)
    assert asked.count("POST /v2/sessions") > 1


async def test_a_script_must_start_one_job() -> None:
    at = urls(1)
    for statements in (("SELECT 1",), ("INSERT INTO a SELECT 1", "insert into b SELECT 1")):
        script = Script("a.sql", statements)
        with pytest.raises(FlinkError, match=r"a\.sql: it starts \d jobs, and must start 1"):
            await submit_job(SqlGateway(at), JobManager(at), "x", script, {})


async def test_a_savepoint_that_takes_too_long_is_told() -> None:
    answers = {
        "POST /jobs/j/stop": {"request-id": "r"},
        "GET /jobs/j/savepoints/r": {"status": {"id": "IN_PROGRESS"}},
    }
    async with flink(answers) as (at, _):
        with pytest.raises(FlinkUnavailable, match=r"savepoint of job j was not complete in time"):
            await JobManager(at).stop_with_savepoint("j", 0.3)


async def test_a_job_that_is_just_starting_is_stopped_when_it_runs() -> None:
    trace = "a.CheckpointException: Not all required tasks are currently running.\n\tat b"
    failed = {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"stack-trace": trace}}}
    done = {"status": {"id": "COMPLETED"}, "operation": {"location": "file:/savepoint"}}
    answers: dict[str, Any] = {
        "POST /jobs/j/stop": {"request-id": "r"},
        "GET /jobs/j/savepoints/r": failed,
        "GET /jobs": {"jobs": []},
    }
    async with flink(answers) as (at, asked):
        stopping = asyncio.create_task(JobManager(at).stop_with_savepoint("j", 5))
        while asked.count("POST /jobs/j/stop") < 2:
            await asyncio.sleep(0.01)
        answers["GET /jobs/j/savepoints/r"] = done
        assert await stopping == "file:/savepoint"
        answers["GET /jobs/j/savepoints/r"] = failed
        with pytest.raises(FlinkError, match=r"cannot be stopped with a savepoint \(Checkpoint"):
            await JobManager(at).stop_with_savepoint("j", 0.2)


async def test_the_state_of_a_job_is_not_taken_from_flinks_cache() -> None:
    answers = {
        "GET /jobs/overview": {
            "jobs": [{"jid": "a", "name": "x", "start-time": 1, "state": "RUNNING"}]
        },
        "GET /jobs/b": {"jid": "b", "name": "x", "start-time": 2, "state": "CREATED"},
        "GET /jobs/c": http(404, orjson.dumps({"errors": ["a.NotFoundException: no c"]})),
        "GET /jobs": {
            "jobs": [
                {"id": "a", "status": "CANCELED"},
                {"id": "b", "status": "RUNNING"},
                {"id": "c", "status": "RUNNING"},
            ]
        },
    }
    async with flink(answers) as (at, _):
        assert await JobManager(at).jobs() == (
            Job("a", "x", "CANCELED", 1),
            Job("b", "x", "RUNNING", 2),
        )
        assert await JobManager(at).find_job("x") == Job("b", "x", "RUNNING", 2)
        assert await JobManager(at).find_job("y") is None
