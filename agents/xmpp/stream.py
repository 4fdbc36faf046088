"""slixmpp made fit for a fleet: one verified TLS context, fast logins, and no reconnecting of its own."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import xml.etree.ElementTree as ET
from functools import lru_cache
from pathlib import Path
from typing import Any

from slixmpp import ClientXMPP
from slixmpp.util.sasl import mechanisms

import plugins.discovery  # noqa: F401  # registers itself with slixmpp
from agents import log
from agents.core.text import one_line
from agents.errors import SettingsError
from agents.xmpp.gate import Gate, refusal, too_deep

LOG = log.get("xmpp")
TOLD_EVERY_S = 60.0


@lru_cache(maxsize=8)
def _context(ca_file: str, _mtime_ns: int) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs()
    return context


def tls_context(ca_file: str) -> ssl.SSLContext:
    """The one context of this process for `ca_file` (empty: the system's), which verifies chain and host name.

    One for all clients: a new one costs 100 ms and 1 MB. Raises SettingsError when the file cannot be used."""
    try:
        return _context(ca_file, Path(ca_file).stat().st_mtime_ns if ca_file else 0)
    except (OSError, ssl.SSLError) as e:
        raise SettingsError(f"{ca_file}: no usable certificate file ({e})") from e


SLOW_HI = mechanisms.SCRAM.Hi


def pbkdf2(self: Any, text: Any, salt: bytes, iterations: int) -> bytes:
    """SCRAM's Hi (RFC 5802 2.2) by hashlib: slixmpp's is a loop in Python, more than half of a login."""
    return hashlib.pbkdf2_hmac(self.hash().name, text.encode() if isinstance(text, str) else text, salt, iterations)


class Stream(ClientXMPP):  # type: ignore[misc]
    """One connection, from connecting to its end; a new one is made for each attempt (agents/xmpp/client.py).

    Nothing of an old connection (queued stanzas, roster, half a handshake) can reach a new one that way."""

    def __init__(self, jid: str, password: str, context: ssl.SSLContext) -> None:
        mechanisms.SCRAM.Hi = pbkdf2
        super().__init__(jid, password, plugin_config={"xep_0115": {"caps_node": "urn:geolane"}}, ssl_context=context)
        self.enable_direct_tls = False
        self.enable_starttls = True
        self.enable_plaintext = False
        self.use_ipv6 = self.use_aiodns = False
        self.whitespace_keepalive = False
        self.auto_authorize = False
        self.auto_subscribe = False
        self.heard_s = self.loop.time()
        self.gate: Gate | None = None
        self._deep, self._deep_told_s = 0, float("-inf")

    def data_received(self, data: bytes | str) -> None:
        """Any byte is a sign of life."""
        self.heard_s = self.loop.time()
        super().data_received(data)

    def _spawn_event(self, xml: ET.Element) -> None:
        """Each stanza, once it is whole: what is too much or nested too deeply ends here, and the stream goes on."""
        if self.gate is None or self.gate.passes(xml):
            self.take(xml)

    def take(self, stanza: ET.Element) -> None:
        """Hand a stanza to its handlers."""
        if not too_deep(stanza):
            super()._spawn_event(stanza)
            return
        self._deep += 1
        if self.loop.time() - self._deep_told_s >= TOLD_EVERY_S:
            self._deep_told_s = self.loop.time()
            sender = one_line(stanza.get("from", ""))
            LOG.warning("stanza_too_deep", sender=sender, tag=one_line(stanza.tag), count=self._deep)
        if answer := refusal(stanza):
            self.send_raw(answer)

    def send_raw(self, data: str | bytes) -> None:
        """Nothing is sent after the end; slixmpp would log each stanza that was on its way."""
        if self.transport is not None:
            super().send_raw(data)

    def reschedule_connection_attempt(self) -> None:
        """Do not try again: whoever owns this stream does."""
        return

    async def stop_sending(self) -> None:
        """End slixmpp's sending task, which otherwise lives until garbage collection."""
        task = self._run_out_filters
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})
