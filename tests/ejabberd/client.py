"""A raw slixmpp session for tests of what the *server* allows: no reconnect, no policy, every
refusal is visible."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

from tests.fixtures.xmpp import XmppServer

WAIT_S = 10.0
EVENT = "{http://jabber.org/protocol/pubsub#event}"


@dataclass
class Client:
    """`raw`: slixmpp's client (untyped). `messages`, `presences`: what came, in order, as XML.
    `end`: why the session ended."""

    raw: Any
    messages: asyncio.Queue[ET.Element] = field(default_factory=asyncio.Queue)
    presences: asyncio.Queue[ET.Element] = field(default_factory=asyncio.Queue)
    end: asyncio.Future[str] = field(default_factory=asyncio.Future)

    async def message(self, wanted: Callable[[ET.Element], bool] = lambda _: True) -> ET.Element:
        """The next message that is `wanted`; others are dropped."""
        async with asyncio.timeout(WAIT_S):
            while not wanted(found := await self.messages.get()):
                pass
        return found

    async def presence(self, sender: str, kind: str | None = None) -> ET.Element:
        """The next presence of `sender` (start of its JID) of type `kind` (None: available)."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await self.presences.get()
                if found.get("from", "").startswith(sender) and found.get("type") == kind:
                    return found

    async def iq(self, kind: str, to: str, payload: str) -> ET.Element:
        """Send one IQ and return the answer. Raises slixmpp's IqError with the server's
        condition."""
        stanza = self.raw.make_iq(itype=kind, ito=to)
        stanza.append(ET.fromstring(payload))
        answer: ET.Element = (await stanza.send(timeout=WAIT_S)).xml
        return answer

    async def refused(self, kind: str, to: str, payload: str) -> str:
        """The condition with which this IQ is refused; `accepted` if it is not."""
        try:
            await self.iq(kind, to, payload)
        except IqError as e:
            return str(e.condition)
        return "accepted"

    async def answers(self) -> None:
        """Wait until the server has handled what was sent before."""
        await self.iq("get", self.raw.boundjid.domain, "<ping xmlns='urn:xmpp:ping'/>")


def _context(server: XmppServer) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.server.ca_file)
    return context


@contextlib.asynccontextmanager
async def session(
    server: XmppServer,
    account: str,
    resource: str = "etl",
    *,
    priority: int | None = 0,
    password: str | None = None,
) -> AsyncIterator[Client]:
    """A session of `account`, with presence unless `priority` is None. Raises
    ConnectionRefusedError with the server's reason."""
    jid = f"{server.jid(account)}/{resource}"
    raw = ClientXMPP(jid, password or server.password(account), ssl_context=_context(server))
    raw.enable_direct_tls = False
    raw.use_ipv6 = False
    client = Client(raw)
    bound: asyncio.Future[str] = asyncio.Future()

    def ended(reason: object) -> None:
        if not client.end.done():
            client.end.set_result(str(reason))
        if not bound.done():
            bound.set_exception(ConnectionRefusedError(client.end.result()))

    def started(_: object) -> None:
        if not bound.done():
            bound.set_result(str(raw.boundjid))

    raw.add_event_handler("session_start", started)
    raw.add_event_handler("failed_all_auth", lambda _: ended("not-authorized"))
    raw.add_event_handler("stream_error", lambda error: ended(error["condition"]))
    raw.add_event_handler("session_bind", lambda jid: None if jid.full else ended("conflict"))
    raw.add_event_handler("disconnected", ended)
    every_message = StanzaPath(
        "message"
    )  # slixmpp's event `message` leaves out those without a body
    raw.register_handler(
        Callback("all", every_message, lambda m: client.messages.put_nowait(m.xml))
    )
    raw.add_event_handler("presence", lambda p: client.presences.put_nowait(p.xml))
    raw.add_event_handler("presence_error", lambda p: client.presences.put_nowait(p.xml))
    raw.connect("127.0.0.1", server.server.c2s_port)
    try:
        await asyncio.wait_for(bound, WAIT_S)
        if priority is not None:
            raw.send_presence(ppriority=priority)
        yield client
    finally:
        raw.abort()
        await asyncio.wait(
            [asyncio.ensure_future(raw.disconnected)], timeout=1
        ) if raw.transport else None


# ---- XEP-0060, by hand: what is sent is what the test says ----


def publish(feed: str, content: str = "<x xmlns='urn:test'/>", item: str = "current") -> str:
    return (
        f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{feed}'><item "
        f"id='{item}'>{content}</item>"
        "</publish></pubsub>"
    )


def subscribe(feed: str, jid: str) -> str:
    return (
        f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='{feed}' "
        f"jid='{jid}'/></pubsub>"
    )


def items(feed: str) -> str:
    return f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{feed}'/></pubsub>"


def create(feed: str) -> str:
    return f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><create node='{feed}'/></pubsub>"


def event_of(feed: str) -> Callable[[ET.Element], bool]:
    """Whether a message carries items of `feed`."""
    return lambda m: any(i.get("node") == feed for i in m.iter(f"{EVENT}items"))
