"""An XMPP session that records what the server offers and does."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Any

from slixmpp.stanza import Presence
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from agents import settings
from agents.xmpp.client import Handlers, Login, Session
from plugins import namespaces as ns

_FEATURES = "{http://etherx.jabber.org/streams}features"
_CHALLENGE = "{urn:ietf:params:xml:ns:xmpp-sasl}challenge"
_RESUMABLE = ("{urn:xmpp:sm:3}sm", "{urn:xmpp:sm:2}sm")


def open_session(xmpp: settings.Xmpp, bare: str) -> SessionProbe:
    """A session of the account `bare`, to be used with `async with`. Nobody else uses its resource:
    it is neither `leader` nor a worker's."""
    return SessionProbe(
        Login(xmpp, f"{bare}/doctor-{secrets.token_hex(4)}", quiet_s=30.0, answer_s=10.0),
        Handlers(),
    )


class SessionProbe(Session):
    """`challenged`: the server asked for the proof of a password. `refused`: it refused the login.
    `resumable`: it offers XEP-0198. `presences`: all that arrived."""

    def __init__(self, login: Login, handlers: Handlers) -> None:
        super().__init__(login, handlers)
        self.challenged = self.refused = self.resumable = False
        self.presences: list[Presence] = []
        self._pings: list[float] = []

    def _register_handlers(self, handlers: Handlers) -> None:
        handlers.presence = self.presences.append
        super()._register_handlers(handlers)
        for path, note in (
            (_FEATURES, self._note_features),
            (_CHALLENGE, self._note_challenge),
            (f"{{{ns.CLIENT}}}iq/{{{ns.PING}}}ping", self._note_ping),
        ):
            self.stream.register_handler(Callback(f"doctor {path}", MatchXPath(path), note))
        self.stream.add_event_handler("failed_all_auth", self._note_refusal)

    def _note_features(self, features: Any) -> None:  # Any: slixmpp has no types
        self.resumable = self.resumable or any(
            features.xml.find(tag) is not None for tag in _RESUMABLE
        )

    def _note_challenge(self, _: Any) -> None:
        self.challenged = True

    def _note_refusal(self, _: Any) -> None:
        self.refused = not self.stream.unusable_mechanisms()

    def _note_ping(self, iq: Any) -> None:
        if iq["type"] == "get" and len(self._pings) < 10:
            self._pings.append(asyncio.get_running_loop().time())

    async def stay_silent(self, bound_s: float) -> tuple[list[float], float | None]:
        """Send nothing from now on, as a frozen process would. Returns the seconds until each ping,
        and until the server ended the session (None: not within `bound_s`)."""
        loop = asyncio.get_running_loop()
        self.stream.send_raw = lambda data: None  # type: ignore[method-assign]
        begun, gone_s = loop.time(), None
        self._pings = []
        with suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                await asyncio.shield(self._over)
                gone_s = loop.time() - begun
        self.abort("watched")
        return [at - begun for at in self._pings], gone_s
