"""`/metrics` of a process, and `/ready`, which tells whoever started it. Threads of its own serve
HTTP and write the text. The event loop only copies its own state, so that a scrape is consistent,
and slow or many scrapers delay nobody.

prometheus_client writes the text and has the threading server. Its `start_http_server` is not used:
it has no limit on clients and no time-out for a client that sends nothing, and it answers a failed
scrape with a traceback on standard error."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import io
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from agents import settings
from agents.base import log
from agents.base.errors import SettingsError
from agents.base.systemd_notify import Service
from agents.observe.metrics.samples import Samples

LOOK_BOUND_S = 5.0
"""The event loop has this long to answer; then the scrape fails, and with it `up` in Prometheus."""
CLIENT_BOUND_S = 10.0
CLIENTS = 20

_log = log.get_logger("metrics")


class _Late(Exception):
    """The event loop did not answer in time."""


class _Looks(Collector):
    """Asks the event loop for samples, from a scraper's thread."""

    def __init__(self, look: Callable[[Samples], None], loop: asyncio.AbstractEventLoop) -> None:
        self._look, self._loop = look, loop

    def collect(self) -> Iterator[Family]:
        done: concurrent.futures.Future[Samples] = concurrent.futures.Future()

        def take() -> None:
            if done.set_running_or_notify_cancel():
                samples = Samples()
                try:
                    self._look(samples)
                except Exception as e:  # noqa: BLE001 - a failed scrape must not end the process
                    done.set_exception(e)
                else:
                    done.set_result(samples)

        try:
            self._loop.call_soon_threadsafe(take)
            samples = done.result(LOOK_BOUND_S)
        except TimeoutError:
            done.cancel()
            raise _Late(f"the event loop did not answer within {LOOK_BOUND_S:g} s") from None
        except RuntimeError as e:
            if self._loop.is_closed():
                raise _Late("the process is ending") from e
            raise
        return samples.families()


class _App:
    """prometheus_client's app, with a bound on clients and an answer for a failed scrape. Each kind
    of failure is logged once, until a scrape succeeds."""

    def __init__(self, registry: CollectorRegistry, service: Service) -> None:
        self._app = make_wsgi_app(registry)
        self._service = service
        self._free = threading.BoundedSemaphore(CLIENTS)
        self._said: set[str] = set()

    def __call__(
        self, environ: dict[str, Any], start_response: Any
    ) -> Iterable[bytes]:  # Any: WSGI (PEP 3333)
        if environ.get("PATH_INFO") == "/ready":
            if self._service.is_ready:
                return _answer(start_response, "200 OK", "ready")
            return _answer(start_response, "503 Service Unavailable", "not ready yet")
        if environ.get("PATH_INFO") not in ("/metrics", "/"):
            return _answer(start_response, "404 Not Found", "see /metrics")
        if not self._free.acquire(blocking=False):
            return _answer(start_response, "503 Service Unavailable", "too many clients")
        try:
            answer: Iterable[bytes] = self._app(environ, start_response)
        except Exception as e:  # noqa: BLE001 - the scraper gets the error
            if (what := type(e).__name__) not in self._said:
                self._said.add(what)
                _log.warning(
                    "scrape_failed", error=str(e) or what, exc_info=not isinstance(e, _Late)
                )
            return _answer(start_response, "503 Service Unavailable", str(e) or what)
        finally:
            self._free.release()
        self._said.clear()
        return answer


def _answer(start_response: Any, status: str, text: str) -> list[bytes]:  # Any: WSGI
    # A new list for each answer: wsgiref adds this answer's Content-Length to it.
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


class _Server(ThreadingWSGIServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away or sent nothing is not worth a log line."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_BOUND_S

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""

    def get_stderr(self) -> Any:  # Any: as wsgiref has it
        return io.StringIO()


def _bind(where: settings.Metrics, app: _App) -> WSGIServer:
    """Blocks while the name is resolved. Raises SettingsError."""
    try:
        family, *_, address = socket.getaddrinfo(
            where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = type("Server", (_Server,), {"address_family": family})
        return make_server(str(address[0]), where.port, app, server, _Handler)
    except (OSError, OverflowError) as e:
        what = f"{where.host}:{where.port}"
        if isinstance(e, socket.gaierror):
            raise SettingsError(
                f"metrics.host: {where.host!r} is not an address of this machine ({e.strerror})"
            ) from e
        if isinstance(e, OverflowError):
            raise SettingsError(
                f"metrics.port: {where.port} is not a valid port; it is from 0 (none) to 65535"
            ) from e
        if e.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"metrics.port: {what} is taken by another process; each process needs its own"
            ) from e
        if e.errno == errno.EADDRNOTAVAIL:
            raise SettingsError(
                f"metrics.host: {where.host} is not an address of this machine"
            ) from e
        raise SettingsError(f"metrics: cannot listen on {what}: {e.strerror or e}") from e


@contextlib.asynccontextmanager
async def served(
    where: settings.Metrics, look: Callable[[Samples], None], service: Service
) -> AsyncIterator[int]:
    """Inside, `/metrics` at `where` serves the samples of `look`, and `/ready` answers 200 once
    `service` is ready, before that 503; port 0: nothing is served. Yields the port.

    `look` is called on this event loop, once per scrape, and must not block. Raises SettingsError
    if the port cannot be opened."""
    if where.port == 0:
        yield 0
        return
    book = CollectorRegistry(auto_describe=False, support_collectors_without_names=True)
    ProcessCollector(registry=book)
    book.register(_Looks(look, asyncio.get_running_loop()))
    server = await asyncio.to_thread(_bind, where, _App(book, service))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
    thread.start()
    _log.info("metrics_served", host=where.host, port=where.port)
    try:
        yield where.port
    finally:
        await asyncio.to_thread(_close, server)


def _close(server: WSGIServer) -> None:
    server.shutdown()
    server.server_close()
