"""slixmpp adapted to a fleet: one verified TLS context, fast logins, and no reconnection of its
own."""

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
from slixmpp.util.sasl.client import SASLCancelled

import plugins.discovery  # noqa: F401  # registers itself with slixmpp
from agents.base import log
from agents.base.errors import SettingsError, system_reason
from agents.base.files import read_whole_file
from agents.base.text import to_one_line
from agents.xmpp.gate import Gate, is_too_deep, make_depth_refusal

LOG = log.get_logger("xmpp")
TOLD_EVERY_S = 60.0


@lru_cache(maxsize=8)
def _load_context(ca_file: str, cert_file: str, _mtimes_ns: tuple[int, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for file in filter(None, (ca_file, cert_file)):
        read_whole_file(Path(file))  # OpenSSL would read a device without end
    if ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs()
    if cert_file:
        context.load_cert_chain(cert_file)
    return context


def tls_context(ca_file: str, cert_file: str = "") -> ssl.SSLContext:
    """The shared context for `ca_file` (empty: the system's certificates). It verifies chain and
    host name, and presents `cert_file` to the server.

    All clients share it, since a new one costs 100 ms and 1 MB. Raises SettingsError if a file
    cannot be used."""
    try:
        mtimes_ns = tuple(Path(file).stat().st_mtime_ns for file in (ca_file, cert_file) if file)
        return _load_context(ca_file, cert_file, mtimes_ns)
    except (OSError, ssl.SSLError) as e:
        files = " or ".join(filter(None, (ca_file, cert_file)))
        raise SettingsError(f"{files}: no usable certificate file ({system_reason(e)})") from e


MECHANISMS = {
    "SCRAM": ("SCRAM-SHA-512-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"),
    "EXTERNAL": ("EXTERNAL",),
}
"""The mechanisms that we accept, by the setting `xmpp.sasl`. By itself slixmpp would use any that
the server offers, even PLAIN after the server has refused SCRAM."""
ITERATIONS = (4096, 1_000_000)
"""Lower and upper limit. The lower one is that of RFC 7677, 4: an eavesdropper must not guess
quickly. The upper one takes about a second."""
SLOW_HI = mechanisms.SCRAM.Hi


def pbkdf2(self: Any, text: Any, salt: bytes, iterations: int) -> bytes:
    """SCRAM's Hi (RFC 5802 2.2) with hashlib. slixmpp has a loop in Python, which takes more than
    half of a login's time."""
    if not ITERATIONS[0] <= iterations <= ITERATIONS[1]:
        raise SASLCancelled(f"the server asks for {iterations} iterations")
    return hashlib.pbkdf2_hmac(
        self.hash().name, text.encode() if isinstance(text, str) else text, salt, iterations
    )


class Stream(ClientXMPP):  # type: ignore[misc]
    """One connection from start to end; each attempt makes a new one (agents/xmpp/client.py).

    So nothing of an old connection (queued stanzas, roster, half a handshake) reaches a new one."""

    def __init__(
        self, jid: str, password: str, context: ssl.SSLContext, sasl: str = "SCRAM"
    ) -> None:
        mechanisms.SCRAM.Hi = pbkdf2
        config = {
            "xep_0115": {"caps_node": "urn:geolane"},
            "feature_mechanisms": {"use_mechs": MECHANISMS[sasl], "encrypted_plain": False},
        }
        super().__init__(jid, password, plugin_config=config, ssl_context=context)
        if sasl == "EXTERNAL":  # names our account, so that a certificate of another is refused
            self.credentials["authzid"] = self.requested_jid.bare
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

    def unusable_mechanisms(self) -> str:
        """The mechanisms that the server offers if we accept none of them; else empty."""
        sasl = self.plugin["feature_mechanisms"]
        if sasl.attempted_mechs or sasl.mech_list & set(sasl.use_mechs):
            return ""
        return ", ".join(repr(name)[:40] for name in sorted(sasl.mech_list)[:10]) or "nothing"

    def data_received(self, data: bytes | str) -> None:
        """Note that the server has sent something: any byte is a sign of life."""
        self.heard_s = self.loop.time()
        super().data_received(data)

    def _spawn_event(self, xml: ET.Element) -> None:
        """Handle a complete stanza, unless its sender's budget is used up."""
        if self.gate is None or self.gate.passes(xml):
            self.handle_stanza(xml)

    def handle_stanza(self, stanza: ET.Element) -> None:
        """Give a stanza to its handlers. One that is nested too deeply is refused, and the stream
        continues."""
        if not is_too_deep(stanza):
            super()._spawn_event(stanza)
            return
        self._deep += 1
        if self.loop.time() - self._deep_told_s >= TOLD_EVERY_S:
            self._deep_told_s = self.loop.time()
            sender = to_one_line(stanza.get("from", ""))
            LOG.warning(
                "stanza_too_deep", sender=sender, tag=to_one_line(stanza.tag), count=self._deep
            )
        if answer := make_depth_refusal(stanza):
            self.send_raw(answer)

    def send_raw(self, data: str | bytes) -> None:
        """Send, unless the connection has ended: slixmpp would log each stanza that was left."""
        if self.transport is not None:
            super().send_raw(data)

    def reschedule_connection_attempt(self) -> None:
        """Do nothing: the owner of this stream retries."""
        return

    async def stop_sending(self) -> None:
        """Cancel slixmpp's sending task, which otherwise lives until garbage collection."""
        task = self._run_out_filters
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})
