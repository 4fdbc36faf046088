"""A request says why it failed, trusts nobody by itself, goes where it was told, and leaves no
socket behind."""

from __future__ import annotations

import asyncio
import datetime
import gc
import gzip
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from agents.base import http_client
from ejabberd import certificate


@asynccontextmanager
async def server(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback that gives everyone `answer` (None: it stays silent). Yields its
    port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is not None:
                writer.write(answer)
                await writer.drain()
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    _, pem = certificate.make_certificates(["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    file = tmp_path / "server.pem"
    file.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_a_failure_says_what_the_system_said(tmp_path: Path) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    for url, path, kind in (
        ("http://127.0.0.1:1/", None, ConnectionRefusedError),
        ("http://nobody.localhost/", None, socket.gaierror),
        ("http://localhost/", str(tmp_path / "missing.sock"), FileNotFoundError),
        ("http://localhost/", str(dead), ConnectionRefusedError),
    ):
        with pytest.raises(http_client.FAILURES) as failed:
            await http_client.request("GET", url, timeout_s=5, unix_socket=path)
        assert isinstance(http_client.cause(failed.value), kind), url
    with pytest.raises(http_client.FAILURES):
        await http_client.request("GET", "http://[::1/", timeout_s=5)
    gc.collect()  # an open socket is a warning, and that an error


async def test_silence_is_a_time_out() -> None:
    async with server(None) as port:
        with pytest.raises(http_client.TimedOut):
            await http_client.request("GET", f"http://127.0.0.1:{port}/", timeout_s=0.1)


async def test_a_failure_that_nobody_waits_for_any_more_is_silent() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with server(None) as port:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await http_client.request("GET", f"http://127.0.0.1:{port}/", timeout_s=0.2)
        while any("send" in repr(task.get_coro()) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
    gc.collect()
    assert told == []


async def test_no_certificate_is_trusted_unless_an_authority_is_named(tls: ssl.SSLContext) -> None:
    async with server(OK, tls) as port:
        for context in (None, ssl.create_default_context()):
            with pytest.raises(http_client.FAILURES) as failed:
                await http_client.request(
                    "GET", f"https://127.0.0.1:{port}/", timeout_s=5, tls=context
                )
            assert isinstance(http_client.cause(failed.value), ssl.SSLCertVerificationError)
    gc.collect()


async def test_a_server_that_refuses_our_certificate_is_a_failure(
    tls: ssl.SSLContext,
) -> None:
    """In TLS 1.3 it does so after our side of the handshake."""
    tls.verify_mode = ssl.CERT_REQUIRED
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    async with server(OK, tls) as port:
        with pytest.raises(http_client.FAILURES):
            await http_client.request("GET", f"https://127.0.0.1:{port}/", timeout_s=5, tls=ours)
    gc.collect()


async def test_a_request_that_is_cancelled_in_the_handshake_leaves_no_socket() -> None:
    accepted, closed = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()  # to the end, that is until the client has closed
        writer.close()
        closed.set()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as listening:
        url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        tls = ssl.create_default_context()
        request = asyncio.create_task(http_client.request("GET", url, timeout_s=0.2, tls=tls))
        await asyncio.wait_for(accepted.wait(), 5)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await asyncio.wait_for(closed.wait(), 5)
    gc.collect()


async def test_redirects_and_proxies_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with server(away) as port:
        response = await http_client.request("GET", f"http://127.0.0.1:{port}/", timeout_s=5)
    assert response.status_code == 302


async def test_of_the_headers_only_the_date_is_there() -> None:
    answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nServer: x\r\nContent-Length: 2\r\n\r\n{}"
    async with server(answer) as port:
        response = await http_client.request("GET", f"http://127.0.0.1:{port}/", timeout_s=5)
    assert (response.headers["date"], response.content) == ("now", b"{}")
    assert "server" not in response.headers


async def test_a_small_response_cannot_fill_the_memory() -> None:
    packed = gzip.compress(gzip.compress(bytes(64 << 20)))
    assert len(packed) < 1000
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: %d\r\n\r\n"
    async with server(head % len(packed) + packed) as port:
        tracemalloc.start()
        try:
            with pytest.raises(http_client.FAILURES, match="compressed"):
                await http_client.request("GET", f"http://127.0.0.1:{port}/", timeout_s=5)
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


async def test_a_body_that_nobody_wants_is_not_read() -> None:
    endless = b"HTTP/1.1 201 Created\r\nContent-Length: 1000000\r\n\r\nx"
    async with server(endless) as port:
        url = f"http://127.0.0.1:{port}/"
        response = await http_client.request("PUT", url, timeout_s=5, content=b"x", read=False)
    assert response.status_code == 201


@asynccontextmanager
async def dripping(pause_s: float, part: bytes) -> AsyncIterator[int]:
    """A server whose response has no end: `part` again and again, to one client. Yields its
    port."""
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not reader.at_eof():
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
        writer.close()
        closed.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_server_that_sends_byte_by_byte_is_a_time_out() -> None:
    async with dripping(0.05, b"x") as port:
        with pytest.raises(http_client.TimedOut):
            await http_client.request("GET", f"http://127.0.0.1:{port}/", timeout_s=0.3)
    gc.collect()


async def test_a_body_without_end_is_refused() -> None:
    async with dripping(0, bytes(1 << 16)) as port:
        with pytest.raises(http_client.FAILURES, match="more than 1048576 bytes"):
            await http_client.request(
                "GET", f"http://127.0.0.1:{port}/", timeout_s=5, max_body_bytes=1 << 20
            )
    gc.collect()
