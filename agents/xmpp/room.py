"""Our occupancy of the ops room: join, check that we are still in (XEP-0410), rejoin. Speakers are
identified by their real JID."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from slixmpp.exceptions import IqError
from slixmpp.stanza import Message, Presence

from agents.base import log
from agents.base.errors import CommandRefused, NoAnswer, NotConnected
from agents.xmpp.client import Backoff, Session
from plugins import room as stanzas
from plugins.upload import mark_as_link
from plugins.values import replace_invalid_xml

LOG = log.get_logger("xmpp.room")
JOIN_TIMEOUT_S = 10.0
PING_PERIOD_S = 20.0
SAY_PATIENCE_S = 5.0
REMEMBERED = 200  # ids of our messages that people may react to
# XEP-0410 3.1: these errors come from our own client, so we are in the room. Others say that we are
# not.
_STILL_IN = {"service-unavailable", "feature-not-implemented", "item-not-found"}


class Room:
    """Our occupancy of `room` (bare JID) under `nick`, while `session` lasts.

    `heard` receives live messages with their speaker, `changed` the affiliations that the room
    tells, `reacted` what our message was about to which an occupant has reacted."""

    def __init__(
        self,
        session: Session,
        room: str,
        nick: str,
        *,
        heard: Callable[[stanzas.HeardMessage, stanzas.Occupant], None],
        changed: Callable[[stanzas.Changed], None],
        reacted: Callable[[tuple[str, ...], stanzas.Occupant], None] = lambda about, who: None,
    ) -> None:
        self.session, self.room, self.nick = session, room, nick
        self.occupants: dict[str, stanzas.Occupant] = {}
        self.joined = asyncio.Event()
        self._lost = asyncio.Event()
        self._refused = ""
        self._answered = asyncio.Event()
        self._heard, self._changed, self._reacted = heard, changed, reacted
        # What our last messages were about, by their id and, once the room has sent them back, by
        # the id that it gave them.
        self._about: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    # Incoming stanzas (called by slixmpp's reader)

    def handle_presence(self, presence: Presence) -> None:
        """Handle a presence from an address of the room."""
        if presence.xml.get("type") == "error":
            if not self.joined.is_set():
                self._refused = str(presence["error"]["condition"]) or "undefined-condition"
                self._answered.set()
            return
        who = stanzas.occupant_from_presence(presence)
        if who is None:
            return
        if "110" in who.codes:
            self._handle_self_presence(who)
        if who.here:
            self.occupants[who.nick] = who
        else:
            self.occupants.pop(who.nick, None)
        if who.jid:
            self._changed(stanzas.Changed(who.jid, who.affiliation))

    def _handle_self_presence(self, who: stanzas.Occupant) -> None:
        if who.here:
            self.nick = who.nick
            self.joined.set()
            self._answered.set()
        elif "303" in who.codes and who.new_nick:
            self.nick = who.new_nick
        else:
            self.joined.clear()
            self._lost.set()

    def handle_message(self, message: Message) -> None:
        """Handle a message from an address of the room. Messages of unknown occupants are
        ignored."""
        room, _, nick = message.xml.get("from", "").partition("/")
        if room != self.room:
            return
        if not nick:
            for change in stanzas.affiliation_changes_in(message):
                self._changed(change)
            return
        said = stanzas.message_from_stanza(message, self.room)
        who = self.occupants.get(nick)
        if not (who and who.jid and message.xml.get("type") == "groupchat"):
            return
        if nick == self.nick and (about := self._about.get(message.xml.get("id", ""))):
            self._note_about(stanzas.stanza_id_from_message(message, self.room), about)
        elif about := self._about.get(stanzas.reaction_from_stanza(message)):
            self._reacted(about, who)
        if said:
            self._heard(said, who)

    def _note_about(self, id: str, about: tuple[str, ...]) -> None:
        if not id:
            return
        self._about[id] = about
        if len(self._about) > REMEMBERED:
            self._about.popitem(last=False)

    # Life cycle

    async def stay_joined(self) -> None:
        """Join, check every 20 s that we are still in, and rejoin if not, until cancelled."""
        backoff = Backoff()
        while True:
            try:
                await self.join()
                backoff.reset()
                await self._wait_until_lost()
                LOG.warning("room_lost", room=self.room)
            except (CommandRefused, NoAnswer) as e:
                LOG.warning("room_not_joined", room=self.room, why=str(e))
            finally:
                self.joined.clear()
            await asyncio.sleep(backoff.next_wait_s())

    async def join(self) -> None:
        """Join without history. Raises CommandRefused (with the room's condition), NoAnswer,
        NotConnected."""
        self.occupants.clear()
        self._lost.clear()
        self._answered.clear()
        self._refused = ""
        self.session.send(
            stanzas.fill_join_presence(self.session.stream.Presence(), self.room, self.nick)
        )
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                await self._answered.wait()
        except TimeoutError:
            raise NoAnswer(
                f"{self.room}: no answer to the join within {JOIN_TIMEOUT_S:g} s"
            ) from None
        if self._refused:
            raise CommandRefused(self._refused, f"joining {self.room}")

    async def _wait_until_lost(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PING_PERIOD_S):
                    await self._lost.wait()
                return
            except TimeoutError:
                if not await self._is_still_in():
                    return

    async def _is_still_in(self) -> bool:
        try:
            await self.session.ping(f"{self.room}/{self.nick}")
        except IqError as e:
            return e.condition in _STILL_IN
        except NoAnswer:
            # Unknown (XEP-0410); the session's own keepalive checks the server.
            return True
        return True

    # Outgoing stanzas

    async def send_message(
        self,
        text: str,
        correct: str | None = None,
        *,
        link: bool = False,
        reply: tuple[str, str] | None = None,
        about: tuple[str, ...] = (),
    ) -> str:
        """Say `text` and return the message's id. `correct`: the id of the original message, which
        this one replaces. `link`: `text` is a URL. `reply`: nick and id of the message that this
        one replies to. `about`: given to `reacted` when somebody reacts to it.

        Waits up to 5 s for the room to be joined. Raises NotConnected."""
        try:
            async with asyncio.timeout(SAY_PATIENCE_S):
                await self.joined.wait()
        except TimeoutError:
            raise NotConnected(f"{self.room} is not joined") from None
        to = (f"{self.room}/{reply[0]}", reply[1]) if reply else None
        id = send_text_message(
            self.session, self.room, "groupchat", text, correct, link=link, reply=to
        )
        if about:
            self._note_about(id, about)
        return id

    def set_subject(self, text: str) -> None:
        """Set the room's subject. Raises NotConnected."""
        if not self.joined.is_set():
            raise NotConnected(f"{self.room} is not joined")
        message = self.session.stream.Message(sto=self.room, stype="groupchat")
        message["subject"] = replace_invalid_xml(text)
        self.session.send(message)


def send_text_message(
    session: Session,
    to: str,
    kind: str,
    text: str,
    correct: str | None,
    *,
    link: bool = False,
    reply: tuple[str, str] | None = None,
) -> str:
    """Send one message and return its id. `link`: `text` is a URL, and clients show what it leads
    to. `reply`: address and id of the message that this one replies to. Raises NotConnected."""
    message = session.stream.Message(sto=to, stype=kind)
    message["body"] = replace_invalid_xml(text)
    if not message["id"]:
        message["id"] = session.stream.new_id()
    if reply is not None:
        stanzas.mark_reply(message, *reply)
    session.send(stanzas.mark_correction(mark_as_link(message) if link else message, correct))
    return str(message["id"])


async def read_affiliations(session: Session, room: str) -> dict[str, str]:
    """Bare JID -> owner, admin or member, read from the room now. Raises NotConnected, NoAnswer,
    CommandRefused."""
    found: dict[str, str] = {}
    for affiliation in ("owner", "admin", "member"):
        iq = stanzas.make_affiliation_list_request(session.stream.Iq(), room, affiliation)
        found |= stanzas.affiliations_from_list(await session.send_request(iq))
    return found
