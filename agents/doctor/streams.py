"""The first words of an XMPP stream, said by hand: which hosts are served, with STARTTLS and which certificate, before any login."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from agents.doctor.judge.certificate import Certificate
from agents.doctor.sockets import connected, open_context, start_tls
from agents.doctor.verdict import Verdict, fault, ok

WORDS_S = 2.0
MOST_BYTES = 64 << 10
_TLS = "urn:ietf:params:xml:ns:xmpp-tls"


@dataclass(frozen=True, slots=True)
class Greeting:
    """How the server answered for one host. `began`: it was ready for TLS; `certificate`: where that came about."""

    verdict: Verdict
    certificate: Certificate | None = None
    began: bool = False


async def greet(
    address: str, port: int, host: str, *, tls: bool = False, context: ssl.SSLContext | None = None
) -> Greeting:
    """Open a stream to `host`; with `tls`, begin TLS too, and check the certificate if a `context` is given.

    Raises SSLCertVerificationError (with a `context` alone), OSError, TimeoutError."""
    async with connected(address, port) as (reader, writer):
        writer.write(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
            f"version='1.0' to={quoteattr(host)}>".encode()
        )
        said = await _until(reader, b"</stream:features>", b"</stream:stream>")
        if b"host-unknown" in said:
            return Greeting(
                fault(f"the server does not know {host}", "add it to ejabberd's hosts, or correct xmpp.domain")
            )
        if b"</stream:features>" not in said:
            return Greeting(fault(f"{address}:{port} speaks no XMPP for clients", "correct xmpp.port (5222 is usual)"))
        if _TLS.encode() not in said:
            return Greeting(fault(f"{host} offers no STARTTLS", "starttls: true at ejabberd's port for clients"))
        if not tls:
            return Greeting(ok(host))
        writer.write(f"<starttls xmlns='{_TLS}'/>".encode())
        if b"<proceed" not in await _until(reader, b"/>", b"</stream:stream>"):
            return Greeting(fault(f"{host} refuses STARTTLS", "look at ejabberd's log: it may have no certificate"))
        try:
            return Greeting(ok(host), await start_tls(writer, context or open_context(), host), began=True)
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError) as e:
            why = getattr(e, "reason", None) or "the connection ends"
            todo = f"certfiles: ejabberd needs a certificate that names {host}"
            return Greeting(fault(f"{host}: no TLS ({why})", todo), began=True)


async def _until(reader: asyncio.StreamReader, *ends: bytes) -> bytes:
    """What comes until one of `ends`, until the other side ends, or within 2 s."""
    said = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(WORDS_S):
            while not any(end in said for end in ends) and len(said) < MOST_BYTES:
                if not (more := await reader.read(4096)):
                    break
                said += more
    return said
