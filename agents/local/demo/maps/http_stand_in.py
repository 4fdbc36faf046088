"""An HTTP server on loopback that stands in for another: it answers requests of a known form, and
fails in the ways in which servers and networks fail, as often as it is told to."""

from __future__ import annotations

import asyncio
import email.utils
import http
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 1 << 20
CLIENT_S = 30.0
CLIENTS = 200
KEPT_REQUESTS = 10_000


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came. Names of headers are in lower case."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes

    @property
    def params(self) -> dict[str, str]:
        """By name; of a name that comes twice, the last."""
        return dict(self.query)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`body`: any JSON; or bytes, as they are."""

    status: int = 200
    body: Any = None  # Any: JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class HttpFault:
    """How one request fails. `path`: only requests for it fail. `status`: the answer's, with `body`
    if given. `wait_s`: before anything is sent. `share`: of the answer's bytes that are sent before
    the connection ends, 0 to 1. `body`: sent instead of the answer's, with status 200 if none is
    given."""

    path: str = ""
    status: int | None = None
    wait_s: float = 0.0
    share: float = 1.0
    body: bytes | None = None


@dataclass(slots=True)
class HttpStandIn:
    """Listens while it is entered. `faults`: of the next requests, each used once; `always`: of
    all. `requests`: the newest that came. `now`: epoch seconds."""

    now: Callable[[], float] = time.time
    faults: deque[HttpFault] = field(default_factory=deque)
    always: HttpFault | None = None
    requests: deque[HttpRequest] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    content_type: str = "application/json"
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, request: HttpRequest) -> HttpResponse:
        """To be defined by each kind."""
        raise NotImplementedError

    def fail(self, *faults: HttpFault) -> None:
        """The next requests fail like this, one each."""
        self.faults.extend(faults)

    def sent(self, path: str) -> list[HttpRequest]:
        """The requests for `path` that came."""
        return [request for request in self.requests if request.path == path]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=MAX_HEAD_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None  # noqa: S101 - it was entered
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs it as one
        self._tasks.add(task)
        try:
            if len(self._tasks) <= CLIENTS:
                with suppress(OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
                    async with asyncio.timeout(CLIENT_S):
                        await self._serve_one(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request for each connection."""
        request = await _read_request(reader)
        self.requests.append(request)
        fault = self._take_fault(request.path) or HttpFault()
        if fault.wait_s:
            await asyncio.sleep(fault.wait_s)
        response = self.answer(request)
        if fault.status is not None or fault.body is not None:
            response = HttpResponse(fault.status or 200, fault.body or b"", response.headers)
        payload = self._to_bytes(response)
        writer.write(payload[: round(len(payload) * fault.share)])
        await writer.drain()

    def _take_fault(self, path: str) -> HttpFault | None:
        for fault in self.faults:
            if fault.path in ("", path):
                self.faults.remove(fault)
                return fault
        return self.always if self.always and self.always.path in ("", path) else None

    def _to_bytes(self, response: HttpResponse) -> bytes:
        content = response.content
        headers = {
            "Date": email.utils.formatdate(self.now(), usegmt=True),
            "Content-Type": self.content_type,
            "Content-Length": str(len(content)),
            "Connection": "close",
            **response.headers,
        }
        reason = http.HTTPStatus(response.status).phrase
        head = f"HTTP/1.1 {response.status} {reason}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return head.encode("latin-1") + b"\r\n" + content


async def _read_request(reader: asyncio.StreamReader) -> HttpRequest:
    """Raises ValueError for one that is not HTTP/1.1, or too large."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.strip().split("\r\n")
    method, target, _ = line.split(" ")
    headers = {}
    for entry in rest:
        name, _, value = entry.partition(":")
        headers[name.strip().lower()] = value.strip()
    size = int(headers.get("content-length", "0"))
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ValueError(f"a body of {size} bytes")
    parts = urlsplit(target)
    query = parse_qsl(parts.query, keep_blank_values=True, errors="replace")
    return HttpRequest(
        method, unquote(parts.path), tuple(query), headers, await reader.readexactly(size)
    )
