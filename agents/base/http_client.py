"""The one place that makes HTTP requests. A request that gets no response raises one of FAILURES,
and `cause` says why."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpx2 as httpx  # httpx, as it is maintained now, with the same names

from agents.base.supervisor import retrieve_error

FAILURES = (httpx.HTTPError, httpx.InvalidURL)
TimedOut = httpx.TimeoutException
"""The one of FAILURES for a request that took too long."""
MAX_BODY_BYTES = 32 << 20
_PLAIN = {"accept-encoding": "identity"}


async def request(
    method: str,
    url: str,
    *,
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
    unix_socket: str | None = None,
    read: bool = True,
    max_body_bytes: int = MAX_BODY_BYTES,
    **options: Any,  # Any: arguments of httpx
) -> httpx.Response:
    """Send a request over a connection of its own; follow no redirect, and use no proxy or password
    of the environment. Connecting, and each read and write, may take up to `timeout_s`, all of them
    together twice that; a body may have up to `max_body_bytes`. A compressed one is refused: it
    could grow to any size. `tls`: None trusts no certificate. `read`: False leaves the response's
    body unread. `options`: `auth` (name and password), `headers`, `json`, `content`, `params`. The
    response has the status, the body, and of the headers `date` alone."""

    async def send() -> httpx.Response:
        verify = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        way = httpx.AsyncHTTPTransport(verify=verify, uds=unix_socket, trust_env=False)
        try:
            async with (
                asyncio.timeout(2 * timeout_s),  # for a server that sends byte by byte
                httpx.AsyncClient(
                    transport=way, timeout=timeout_s, trust_env=False, headers=_PLAIN
                ) as client,
                client.stream(method, url, **options) as response,
            ):
                body = bytearray()
                if read:
                    if response.headers.get("content-encoding", "identity") != "identity":
                        raise httpx.ReadError("a compressed response, which was not asked for")
                    async for part in response.aiter_raw():
                        body += part
                        if len(body) > max_body_bytes:
                            raise httpx.ReadError(f"a response of more than {max_body_bytes} bytes")
                date = {"date": response.headers.get("date", "")}
                return httpx.Response(response.status_code, headers=date, content=bytes(body))
        except TimeoutError:
            raise httpx.ReadTimeout(f"not done within {2 * timeout_s:g} s") from None
        except ssl.SSLError as e:  # as TLS 1.3 refuses our certificate: after the handshake
            raise httpx.ReadError(str(e)) from e

    # Shielded: if it is cancelled in the TLS handshake, httpcore2 2.16 leaves the socket open.
    sending = asyncio.create_task(send())
    sending.add_done_callback(retrieve_error)
    return await asyncio.shield(sending)


def cause(failure: BaseException) -> BaseException:
    """The error that a failure began with: the operating system's, or that of TLS."""
    while True:
        # httpcore2 raises some of its errors `from None`; the first error is their argument.
        inner = failure.__cause__ or next(iter(failure.args), None)
        if not isinstance(inner, BaseException):
            return failure
        failure = inner
