"""A server at fault is asked again with pauses, then left alone; nothing waits without a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest
from structlog.testing import capture_logs

from agents.base.errors import ProviderFailed, ProviderUnavailable
from agents.base.token_bucket import TokenBucket
from agents.geo import online
from agents.geo.circuit import FIRST_S, OPEN_AFTER
from agents.geo.online import IN_FLIGHT, Online, Refusal
from agents.local.demo.maps.http_stand_in import HttpFault, HttpRequest, HttpResponse, HttpStandIn


class Echo(HttpStandIn):
    """Answers each request with its path."""

    def answer(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, {"path": request.path})


class Answer(msgspec.Struct):
    path: str


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(server: Echo, clock: Clock) -> Online:
    return Online("Echo", server.url, pause_s=0.001, clock=clock, dice=lambda: 1.0)


async def test_a_fault_that_passes_is_not_seen(server: Echo, client: Online) -> None:
    server.fail(HttpFault(status=500), HttpFault(share=0.3))
    assert await client.request("/x", Answer) == Answer("/x")
    assert (client.counts.calls, client.counts.failed) == (3, 2)


async def test_after_faults_in_a_row_it_is_left_alone_then_tried_and_used_again(
    server: Echo, client: Online, clock: Clock
) -> None:
    server.always = HttpFault(status=503)
    with capture_logs() as logs:
        for _ in range(4):
            with pytest.raises(ProviderUnavailable):
                await client.request("/x", Answer)
        assert len(server.requests) == OPEN_AFTER  # the rest was not sent
        with pytest.raises(ProviderUnavailable, match="Echo answers with status 503") as away:
            await client.request("/x", Answer)
        assert away.value.retry_s == FIRST_S
        clock.now += FIRST_S
        with pytest.raises(ProviderUnavailable, match="503"):  # the trial: once, without a retry
            await client.request("/x", Answer)
        assert len(server.requests) == OPEN_AFTER + 1
        server.always = None
        clock.now += 2 * FIRST_S
        assert await client.request("/x", Answer) == Answer("/x")
    assert [entry["event"] for entry in logs] == ["maps_circuit_open", "maps_circuit_closed"]


async def test_nobody_answering_is_a_fault_with_its_cause() -> None:
    client = Online("Nobody", "http://127.0.0.1:1", pause_s=0.001)
    with pytest.raises(ProviderUnavailable, match="Nobody gives no answer"):
        await client.request("/x", Answer)


async def test_a_server_that_refuses_us_is_not_sent_to_for_as_long_as_was_said(
    server: Echo, client: Online, clock: Clock
) -> None:
    server.fail(HttpFault(status=403, body=b'{"error":{"message":"no"}}'))
    assert await client.request("/x", Answer) == Refusal(403, "no")
    assert str(client.refuse_for(60, "knows us not")) == "Echo knows us not"
    clock.now += 59
    with pytest.raises(ProviderUnavailable, match="Echo knows us not") as away:
        await client.request("/x", Answer)
    assert (away.value.retry_s, len(server.requests)) == (1.0, 1)


async def test_that_it_refuses_us_is_logged_once_and_so_is_the_end(
    server: Echo, client: Online, clock: Clock
) -> None:
    server.always = HttpFault(status=401)
    with capture_logs() as logs:
        for _ in range(3):
            assert await client.request("/x", Answer) == Refusal(401, "")
            client.refuse_for(60, "knows us not")
            clock.now += 60
        server.always = None
        for _ in range(2):
            assert await client.request("/x", Answer) == Answer("/x")
    assert [entry["event"] for entry in logs] == ["maps_refused", "maps_circuit_closed"]
    assert logs[0]["reason"] == "knows us not"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message":"a"}', "a"),
        (b'{"error":"b"}', "b"),
        (b'{"error":{"message":"c\\nd"}}', "c\\nd"),
        (b'{"error":7}', ""),
        (b"<html>", ""),
        (b"", ""),
        (b'{"error":{"message":"' + b"x" * 1000 + b'"}}', "x" * 156 + " ..."),
    ],
)
async def test_the_servers_own_words_are_shown_on_one_short_line(
    server: Echo, client: Online, body: bytes, message: str
) -> None:
    server.fail(HttpFault(status=400, body=body))
    assert await client.request("/x", Answer) == Refusal(400, message)


async def test_few_requests_are_under_way_and_few_wait(
    server: Echo, client: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "WAITING", 20)
    server.always = HttpFault(wait_s=0.05)
    got = await asyncio.gather(
        *(client.request("/x", Answer) for _ in range(30)), return_exceptions=True
    )
    assert sum(isinstance(g, Answer) for g in got) == 20
    assert sum("wait for Echo already" in str(g) for g in got) == 10
    assert IN_FLIGHT < 20


async def test_what_is_given_up_leaves_the_trial_to_the_next(
    server: Echo, client: Online, clock: Clock
) -> None:
    server.always = HttpFault(status=500)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await client.request("/x", Answer)
    clock.now += 2 * FIRST_S
    server.always = HttpFault(wait_s=60)
    trial = asyncio.create_task(client.request("/x", Answer))
    while len(server.requests) == OPEN_AFTER:
        await asyncio.sleep(0.01)
    trial.cancel()
    await asyncio.wait([trial])
    server.always = None
    assert await client.request("/x", Answer) == Answer("/x")


async def test_a_public_server_gets_one_request_a_second(server: Echo) -> None:
    client = Online("Echo", server.url, limit=TokenBucket(1, 20))
    begun = asyncio.get_running_loop().time()
    await asyncio.gather(*(client.request("/x", Answer) for _ in range(5)))
    assert asyncio.get_running_loop().time() - begun >= 4 / 20 - 0.01


@dataclass(slots=True)
class Dated(HttpStandIn):
    """Tells the date that it is given."""

    date: str = ""

    def answer(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, {"path": request.path}, {"Date": self.date})


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        ("Mon, 99999999999999999999 Jan 2024 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
        ("yesterday", None),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 60.0),
        ("Mon, 01 Jan 2024 00:00:00 -0000", 60.0),
    ],
)
async def test_an_odd_date_harms_nobody(
    date: str, ahead_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Chicago")
    time.tzset()
    try:
        async with Dated(date=date) as server:
            client = Online("Dated", server.url, wall_clock=lambda: 1_704_067_260.0)
            assert await client.request("/x", Answer) == Answer("/x")
            assert client.ahead_s == ahead_s
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_an_answer_that_is_too_large_is_a_fault(server: Echo, client: Online) -> None:
    server.always = HttpFault(body=b'{"path":"' + b"x" * online.MAX_BODY_BYTES + b'"}')
    with pytest.raises(ProviderFailed, match="gives no answer \\(a response of more than 1048576"):
        await client.request("/x", Answer)


async def test_the_clock_of_the_server_is_compared(server: Echo, client: Online) -> None:
    server.now = lambda: 1_795_000_000.0
    client.wall_clock = lambda: 1_795_000_090.0
    await client.request("/x", Answer)
    assert client.ahead_s == 90.0
