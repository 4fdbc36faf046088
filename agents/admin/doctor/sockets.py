"""The lowest layer: whether a port is open, speaks TLS, and with which certificate.

`open_xmpp_stream` also opens an XMPP stream by hand. It shows, before any login, which hosts the
server serves, whether with STARTTLS, and with which certificate."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import psutil

from agents.admin.doctor.judge.certificate import Certificate
from agents.admin.doctor.judge.verdict import Verdict, fault, ok

CONNECT_S = 2.0
TLS_S = 2.0


@contextlib.asynccontextmanager
async def connect(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection. Raises OSError, TimeoutError."""
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # not an orderly close: over TLS that waits for the other side
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(1):
                await writer.wait_closed()


def explain_failure(error: OSError | TimeoutError) -> str:
    """Why a connection could not be made, in a few words."""
    match error:
        case TimeoutError():
            return f"no answer within {CONNECT_S:g} s"
        case socket.gaierror():
            return "there is no host of this name"
        case ConnectionRefusedError():
            return "nothing listens there"
    text = error.strerror or str(error) or type(error).__name__
    return (
        "nothing listens there" if "Connect call failed" in text and "111" in str(error) else text
    )


async def try_addresses(addresses: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Try all addresses at once. Returns HOST:PORT -> why it cannot be reached; empty if it can."""

    async def try_address(host: str, port: int) -> str:
        try:
            async with connect(host, port):
                return ""
        except OSError as e:  # TimeoutError is one
            return explain_failure(e)

    wanted = list(dict.fromkeys(addresses))
    answers = await asyncio.gather(*(try_address(*address) for address in wanted))
    return {f"{host}:{port}": answer for (host, port), answer in zip(wanted, answers, strict=True)}


def listens_to_others(port: int) -> bool:
    """Whether something on this machine listens at `port` on an address other than loopback.
    Blocks."""
    found = psutil.net_connections("tcp")
    listening = (
        c.laddr
        for c in found
        if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
    )
    # Java's and Erlang's sockets may serve IPv6 and IPv4 at once: ::ffff:127.0.0.1
    hosts = (address.ip.partition("%")[0].removeprefix("::ffff:") for address in listening)
    return not all(ipaddress.ip_address(host).is_loopback for host in hosts)


@dataclass(frozen=True, slots=True)
class Handshake:
    """`certificate`: None if the port does not speak TLS. `refused`: why the certificate was
    refused, or None."""

    certificate: Certificate | None
    refused: ssl.SSLCertVerificationError | None = None


def open_context() -> ssl.SSLContext:
    """A context that accepts any certificate. Use it to examine one, never to send anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def start_tls(
    writer: asyncio.StreamWriter, context: ssl.SSLContext, name: str
) -> Certificate | None:
    """Start TLS on an open connection. Raises SSLError, OSError, TimeoutError."""
    async with asyncio.timeout(TLS_S):
        await writer.start_tls(context, server_hostname=name)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return Certificate.from_der(der) if der else None


async def examine_tls(host: str, port: int, context: ssl.SSLContext | None) -> Handshake:
    """Read the certificate, then verify it with `context` (None: do not).

    Raises OSError if nothing answers."""
    async with connect(host, port) as (_, writer):
        try:
            seen = await start_tls(writer, open_context(), host)
        except (ssl.SSLError, OSError):
            return Handshake(None)
    if context is None:
        return Handshake(seen)
    async with connect(host, port) as (_, writer):
        try:
            await start_tls(writer, context, host)
        except ssl.SSLCertVerificationError as e:
            return Handshake(seen, e)
    return Handshake(seen)


# XMPP before a login.

WORDS_S = 2.0
MOST_BYTES = 64 << 10
_TLS = "urn:ietf:params:xml:ns:xmpp-tls"


@dataclass(frozen=True, slots=True)
class Greeting:
    """How the server answered for one host. `began`: it was ready for TLS. `certificate`: the one
    it showed, if TLS succeeded."""

    verdict: Verdict
    certificate: Certificate | None = None
    began: bool = False


async def open_xmpp_stream(
    address: str, port: int, host: str, *, tls: bool = False, context: ssl.SSLContext | None = None
) -> Greeting:
    """Open a stream to `host`. With `tls`, begin TLS too, and verify the certificate if a `context`
    is given.

    Raises SSLCertVerificationError (only with a `context`), OSError, TimeoutError."""
    async with connect(address, port) as (reader, writer):
        writer.write(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams' "
            f"version='1.0' to={quoteattr(host)}>".encode()
        )
        said = await _read_until(reader, b"</stream:features>", b"</stream:stream>")
        if b"host-unknown" in said:
            return Greeting(
                fault(
                    f"the server does not know {host}",
                    "add it to ejabberd's hosts, or correct xmpp.domain",
                )
            )
        if b"</stream:features>" not in said:
            return Greeting(
                fault(
                    f"{address}:{port} speaks no XMPP for clients",
                    "correct xmpp.port (5222 is usual)",
                )
            )
        if _TLS.encode() not in said:
            return Greeting(
                fault(f"{host} offers no STARTTLS", "starttls: true at ejabberd's port for clients")
            )
        if not tls:
            return Greeting(ok(host))
        writer.write(f"<starttls xmlns='{_TLS}'/>".encode())
        if b"<proceed" not in await _read_until(reader, b"/>", b"</stream:stream>"):
            return Greeting(
                fault(
                    f"{host} refuses STARTTLS", "look at ejabberd's log: it may have no certificate"
                )
            )
        try:
            return Greeting(
                ok(host), await start_tls(writer, context or open_context(), host), began=True
            )
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError) as e:
            why = getattr(e, "reason", None) or "the connection ends"
            todo = f"certfiles: ejabberd needs a certificate that names {host}"
            return Greeting(fault(f"{host}: no TLS ({why})", todo), began=True)


async def _read_until(reader: asyncio.StreamReader, *ends: bytes) -> bytes:
    """What arrives until one of `ends`, the end of the stream, WORDS_S, or MOST_BYTES."""
    said = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(WORDS_S):
            while not any(end in said for end in ends) and len(said) < MOST_BYTES:
                if not (more := await reader.read(4096)):
                    break
                said += more
    return said
