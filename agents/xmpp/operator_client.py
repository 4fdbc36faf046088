"""A member's client, for `geolane watch`, `geolane ctl` and tests. It has the rights of any chat
client of that member."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from slixmpp.exceptions import IqError
from slixmpp.stanza import Iq, Message, Presence

from agents import settings
from agents.base.errors import CommandRefused, NoAnswer, NotConnected
from agents.core.model.forms import FormReply, Listing
from agents.xmpp.client import Handlers, Login, Session
from agents.xmpp.room import Room, send_text_message
from plugins import commands, feeds
from plugins.feeds import Published
from plugins.room import Changed, HeardMessage, Occupant, message_from_stanza
from plugins.values import BadStanza

REMEMBERED = 1000
OPERATE_S = 15.0
RENEW_S = 60.0  # a watcher that has received nothing for this long subscribes again
T = TypeVar("T")
# The server's conditions when nobody is at the address. The leader never answers with these.
_NOBODY = (
    "service-unavailable",
    "recipient-unavailable",
    "gone",
    "remote-server-not-found",
    "remote-server-timeout",
)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message: `jid` is the sender's bare JID, `room` whether it was said in the room; for the
    rest see HeardMessage."""

    jid: str
    room: bool
    text: str
    message_id: str
    replaces: str | None
    replied_to: str = ""
    unique_id: str = ""


class OperatorClient:
    """``async with OperatorClient(xmpp, "ana") as ana``: one session of the account `ana` at
    DOMAIN. `xmpp` names the file with its password.

    Entering raises NotConnected, SettingsError. It does not reconnect: when the session ends,
    waiting calls raise NotConnected."""

    def __init__(
        self, xmpp: settings.Xmpp, account: str, *, resource: str = "", seen: bool = True
    ) -> None:
        """`seen`: whether to send presence. Without presence, messages to the account still go to
        its other clients only."""
        self._xmpp, self.account, self._seen = xmpp, account, seen
        self.jid = f"{account}@{xmpp.domain}"
        login = Login(
            xmpp, f"{self.jid}/{resource}" if resource else self.jid, quiet_s=15.0, answer_s=8.0
        )
        self.session = Session(
            login, Handlers(message=self._handle_message, presence=self._handle_presence)
        )
        self.room = Room(
            self.session,
            xmpp.room,
            account,
            heard=self._handle_room_message,
            changed=self._note_affiliation,
        )
        self.changes: deque[Changed] = deque(maxlen=REMEMBERED)
        self._said: deque[ChatMessage] = deque(maxlen=REMEMBERED)
        self._items: dict[str, asyncio.Queue[Published]] = {}
        self._news = asyncio.Event()
        self.subject = ""

    async def __aenter__(self) -> Self:
        await self.session.open()
        if self._seen:
            self.session.send(self.session.stream.make_presence())
        return self

    async def __aexit__(
        self, *_: type[BaseException] | BaseException | TracebackType | None
    ) -> None:
        await self.session.close()

    # Incoming stanzas

    def _handle_presence(self, presence: Presence) -> None:
        if presence.xml.get("from", "").partition("/")[0] == self._xmpp.room:
            self.room.handle_presence(presence)

    def _handle_message(self, message: Message) -> None:
        sender = message.xml.get("from", "")
        if sender == self._xmpp.pubsub:
            for item in feeds.items_from_notification(message, self._xmpp.pubsub):
                if queue := self._items.get(item.feed):
                    if queue.full():
                        queue.get_nowait()
                    queue.put_nowait(item)
        elif sender.partition("/")[0] == self._xmpp.room:
            if subject := message.xml.findtext("{jabber:client}subject"):
                self.subject = subject
            self.room.handle_message(message)
        elif said := message_from_stanza(message, self.jid):
            self._add_message(
                ChatMessage(
                    *(sender.partition("/")[0], False, said.text, said.message_id),
                    *(said.replaces, said.replied_to, said.unique_id),
                )
            )

    def _handle_room_message(self, said: HeardMessage, who: Occupant) -> None:
        self._add_message(
            ChatMessage(
                who.jid,
                True,
                said.text,
                said.message_id,
                said.replaces,
                said.replied_to,
                said.unique_id,
            )
        )

    def _add_message(self, said: ChatMessage) -> None:
        self._said.append(said)
        self._news.set()

    def _note_affiliation(self, change: Changed) -> None:
        self.changes.append(change)

    # A member's actions

    async def join_room(self) -> None:
        """Join the ops room. Raises CommandRefused (`registration-required`: not a member),
        NoAnswer, NotConnected."""
        await self.session.run_while_up(self.room.join())

    async def send_to_room(self, text: str, *, correct: str | None = None) -> str:
        """Say `text` in the room and return the message's id. `correct`: the id of the message that
        it replaces. Raises NotConnected."""
        return await self.room.send_message(text, correct)

    def send_to_person(self, jid: str, text: str, *, correct: str | None = None) -> str:
        """Say `text` to `jid` only and return the message's id. Raises NotConnected."""
        return send_text_message(self.session, jid, "chat", text, correct)

    async def wait_for_message(
        self, match: Callable[[ChatMessage], bool] = lambda _: True, timeout_s: float = 10.0
    ) -> ChatMessage:
        """The first matching message that was not returned before. Raises NoAnswer after
        `timeout_s`, NotConnected."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.session.run_while_up(self._take_message(match))
        except TimeoutError:
            raise NoAnswer(f"nothing of that kind was said within {timeout_s:g} s") from None

    async def _take_message(self, match: Callable[[ChatMessage], bool]) -> ChatMessage:
        while True:
            for said in self._said:
                if match(said):
                    self._said.remove(said)
                    return said
            self._news.clear()
            await self._news.wait()

    @property
    def _leader(self) -> str:
        return f"{self._xmpp.coordinator}/leader"

    async def list_commands(self) -> Listing:
        """The operator commands that this account may give. Raises as `send_command_step`."""
        return await self._send_and_read(
            commands.make_items_request(self.session.make_iq("get", self._leader)),
            commands.listing_from_result,
        )

    async def send_command_step(
        self,
        command: str,
        session: str = "",
        action: str = "execute",
        fields: Mapping[str, str] | None = None,
    ) -> FormReply:
        """Send one step of an operator command (XEP-0050).

        Raises NotConnected (no session, or no coordinator leads: nobody received the step),
        NoAnswer (it may have been done), CommandRefused."""
        iq = self.session.make_iq("set", self._leader)
        iq.xml.append(commands.command_step_to_xml(command, session, action, fields))
        return await self._send_and_read(iq, commands.reply_from_result)

    async def _send_and_read(self, iq: Iq, read: Callable[[Iq], T]) -> T:
        try:
            return read(await self.session.send_iq(iq, OPERATE_S))
        except IqError as e:
            refused = commands.refusal_from_error(e.iq)
            if refused.condition in _NOBODY:
                raise NotConnected(f"no coordinator leads: no session at {self._leader}") from None
            raise CommandRefused(refused.condition, refused.text, refused.detail) from None
        except BadStanza as e:
            raise NoAnswer(f"{self._leader}: its answer cannot be read ({e})") from None

    async def watch_feed(self, feed: str, newest: int = 1) -> AsyncGenerator[Published]:
        """Yield the `newest` items of `feed`, then each item as it arrives, until closed. Of more
        than 1,000 unread items the oldest are dropped.

        Subscribes this session only (its full JID), so that the account's other clients receive
        nothing, and unsubscribes at the end. Raises CommandRefused (with the service's condition,
        such as `closed-node`), NoAnswer, NotConnected."""
        service, stream = self._xmpp.pubsub, self.session.stream
        queue = self._items[feed] = asyncio.Queue(REMEMBERED)
        ours = False
        try:
            await self.subscribe_to_feed(feed)
            ours = True
            request = feeds.make_last_item_request(stream.Iq(), service, feed, newest)
            known = feeds.items_from_result(await self.session.send_request(request))[:newest]
            for item in known:
                yield item
            while True:
                item = await self._next_item(feed, queue)
                if any(_is_same_item(item, before) for before in known):
                    # Sent again: the feed sends its last item to new subscribers, or the account is
                    # subscribed, too.
                    continue
                known = [item]
                yield item
        finally:
            del self._items[feed]
            if ours and self.session.is_up:
                request = feeds.make_subscribe_request(
                    stream.Iq(), service, feed, self.session.jid, undo=True
                )
                with suppress(CommandRefused):  # somebody has ended it already
                    await self.session.send_request(request)

    async def _next_item(self, feed: str, queue: asyncio.Queue[Published]) -> Published:
        """The next item. After RENEW_S without one it subscribes again, since the subscription may
        have ended; this raises if we may no longer read the feed."""
        while True:
            try:
                async with asyncio.timeout(RENEW_S):
                    return await self.session.run_while_up(queue.get())
            except TimeoutError:
                await self.subscribe_to_feed(feed)

    async def subscribe_to_feed(self, feed: str) -> None:
        """Subscribe this session; idempotent. Raises as `watch_feed`."""
        service, stream = self._xmpp.pubsub, self.session.stream
        await self.session.send_request(
            feeds.make_subscribe_request(stream.Iq(), service, feed, self.session.jid)
        )


def _is_same_item(a: Published, b: Published) -> bool:
    return a.item_id == b.item_id and ET.tostring(a.payload) == ET.tostring(b.payload)
