"""A server with a certificate that is trusted and with bad intentions: it offers ways to log in
that hand over the password, and keeps every byte that it is told."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

_OPEN = (
    "<?xml version='1.0'?><stream:stream id='1' from='fleet.geolane.test' version='1.0' "
    "xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)
_STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


@dataclass
class RogueServer:
    """`offers`: SASL mechanisms, in its words. `iterations`: what it asks of SCRAM. `heard`: all
    that came after TLS.

    Whatever proof of SCRAM it gets, it says that it is wrong."""

    offers: tuple[str, ...]
    certificate: Path
    iterations: int = 4096
    heard: bytearray = field(default_factory=bytearray)
    tried: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"version=")
            await reader.readuntil(b">")
            writer.write(f"{_OPEN}<stream:features>{_STARTTLS}</stream:features>".encode())
            await reader.readuntil(b"<starttls")
            await reader.readuntil(b">")
            writer.write(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            await writer.start_tls(context)
            names = "".join(f"<mechanism>{name}</mechanism>" for name in self.offers)
            writer.write(
                f"{_OPEN}<stream:features><mechanisms "
                f"xmlns='{_SASL}'>{names}</mechanisms></stream:features>".encode()
            )
            while data := await reader.read(4096):
                self.heard += data
                self._answer(data.decode("utf-8", "replace"), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, text: str, writer: asyncio.StreamWriter) -> None:
        if auth := re.search(r"<auth[^>]*mechanism=.([\w-]+).[^>]*>([^<]*)", text):
            self.tried.append(auth[1])
            nonce = re.search(rb"r=([^,]*)", base64.b64decode(auth[2] + "=="))
            if auth[1].startswith("SCRAM") and nonce:
                challenge = b"r=%sx,s=c2FsdA==,i=%d" % (nonce[1], self.iterations)
                word = base64.b64encode(challenge).decode()
                writer.write(f"<challenge xmlns='{_SASL}'>{word}</challenge>".encode())
                return
        if auth or "<response" in text:
            writer.write(f"<failure xmlns='{_SASL}'><not-authorized/></failure>".encode())


@asynccontextmanager
async def rogue_server(rogue: RogueServer) -> AsyncIterator[int]:
    """Its port on loopback."""
    server = await asyncio.start_server(rogue.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
