"""The leader's session: it checks the sender of each stanza and makes an event of it. It decides
nothing."""

from __future__ import annotations

import asyncio
import uuid
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable

from slixmpp import JID, InvalidJID
from slixmpp.stanza import Message, Presence

from agents import settings
from agents.base import log
from agents.base.errors import CommandRefused, NoAnswer, NotConnected
from agents.base.text import to_one_line
from agents.core.events import (
    AffiliationChanged,
    Flooded,
    NotUnderstood,
    QuestionAsked,
    Reacted,
    TelemetryIn,
    WorkerSeen,
    XmppEvent,
)
from agents.core.model.messages import Announcement, Health
from agents.xmpp.adhoc import Requests
from agents.xmpp.blocking import BLOCK_S, Blocker
from agents.xmpp.client import IN_FLIGHT, Backoff, Handlers, Session
from agents.xmpp.gate import Budget, Ticket
from agents.xmpp.pubsub import READERS, Publisher, ensure_subscribed
from agents.xmpp.room import Room, read_affiliations
from agents.xmpp.upload import Uploads
from plugins import health, telemetry
from plugins.feeds import Published, feed_from_notification, items_from_notification
from plugins.room import Changed, HeardMessage, Occupant, message_from_stanza
from plugins.values import BadStanza

LOG = log.get_logger("xmpp.leader")
NICK = "geolane"
LEADER_PRIORITY = 10
REMEMBERED = 2000
EARLY_WORDS = 100
NICK_LIMIT = 60
# Budgets per sender. A worker sends its state once or twice per second; a person types.
STATE = Budget(20, 5)
WORDS = Budget(60, 10)
ANSWERS = Budget(2000, 200)
ANSWERED = " answers"


class RecentKeys:
    """Remembers the last 2,000 keys; `add_if_new` is true once for each key."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add_if_new(self, key: tuple[str, str]) -> bool:
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)
        return True


class Leadership:
    """One leadership, from binding `/leader` to losing it. `emit` only enqueues. `seen` is shared
    by all leaderships of a process, so that a question is not asked again after a rejoin."""

    def __init__(
        self, xmpp: settings.Xmpp, emit: Callable[[XmppEvent], None], seen: RecentKeys
    ) -> None:
        self._xmpp, self._emit, self._seen = xmpp, emit, seen
        self.publisher = Publisher(xmpp.pubsub)
        self.pings = asyncio.Semaphore(IN_FLIGHT)
        self.standbys: set[str] = set()
        self.affiliations: dict[str, str] | None = None
        self.requests = Requests(xmpp.domain, emit, lambda iq: self.session.send(iq))
        self._early: list[HeardMessage] = []
        self._workers: set[str] = set()
        self._new_worker = asyncio.Event()
        self._session: Session | None = None
        self._room: Room | None = None
        self._uploads: Uploads | None = None
        self._blocker: Blocker | None = None

    @property
    def handlers(self) -> Handlers:
        return Handlers(
            self._handle_message,
            self._handle_presence,
            self.requests.handle_command,
            self.requests.handle_items_request,
            self._ticket_for_stanza,
            self._handle_flood,
        )

    @property
    def session(self) -> Session:
        """Raises NotConnected."""
        if self._session is None or not self._session.is_up:
            raise NotConnected("not leading")
        return self._session

    @property
    def room(self) -> Room:
        """Raises NotConnected."""
        if self._room is None or not self.session.is_up:
            raise NotConnected("not leading")
        return self._room

    @property
    def uploads(self) -> Uploads:
        """Raises NotConnected."""
        if self._uploads is None or not self.session.is_up:
            raise NotConnected("not leading")
        return self._uploads

    def use_session(self, session: Session) -> None:
        """Use `session` from now on: commands can be sent. Workers and room are not heard before
        `run`."""
        self._session = session
        self._blocker = Blocker(session)
        self._uploads = Uploads(session, self._xmpp.domain, self._xmpp.ca_file)
        self._room = Room(
            session,
            self._xmpp.room,
            NICK,
            heard=self._handle_room_message,
            changed=self._note_affiliation,
            reacted=self._handle_reaction,
        )

    async def run(self) -> None:
        """Send presence (the server then probes every worker for us), join the room and publish,
        until cancelled."""
        session = self.session
        session.send(session.stream.make_presence(ppriority=LEADER_PRIORITY, pstatus="leading"))
        async with asyncio.TaskGroup() as group:
            if self._blocker is not None:
                group.create_task(self._blocker.run())
            group.create_task(self.room.stay_joined())
            group.create_task(self._learn_affiliations())
            group.create_task(self._keep_subscribed())
            group.create_task(self.publisher.run(session))

    async def refresh_affiliations(self) -> dict[str, str]:
        """Read the affiliations, and handle the messages that arrived before they were known."""
        self.affiliations = await read_affiliations(self.session, self._xmpp.room)
        early, self._early = self._early, []
        for said in early:
            self._handle_private_message(said)
        return dict(self.affiliations)

    async def _learn_affiliations(self) -> None:
        backoff = Backoff()
        while self.affiliations is None:
            try:
                await self.refresh_affiliations()
            except (CommandRefused, NoAnswer) as e:
                LOG.warning("affiliations_unknown", why=str(e))
                await asyncio.sleep(backoff.next_wait_s())

    async def _keep_subscribed(self) -> None:
        me = self._xmpp.coordinator
        while True:
            await self._new_worker.wait()
            await asyncio.sleep(0.2)  # a fleet arrives at once: one request for all
            self._new_worker.clear()
            feeds = [telemetry.feed_of_worker(worker) for worker in self._workers]
            try:
                await ensure_subscribed(self.session, self._xmpp.pubsub, feeds, me)
            except (CommandRefused, NoAnswer) as e:
                LOG.warning("telemetry_not_subscribed", why=str(e))

    # Incoming stanzas (called by slixmpp's reader)

    def _ticket_for_stanza(self, stanza: ET.Element) -> Ticket | None:
        """The budget that a stanza uses. The server, its services and the other coordinators have
        no limit."""
        sender = stanza.get("from", "")
        bare, what = sender.partition("/")[0], stanza.tag.rpartition("}")[2]
        if bare == self._xmpp.pubsub:
            feed = feed_from_notification(stanza) if what == "message" else ""
            return Ticket(feed, STATE, state=True) if feed else None
        answers = what == "iq" and stanza.get("type") in ("result", "error")
        if bare == self._xmpp.room:
            if answers or "/" not in sender:
                return None
            return (
                Ticket(sender, STATE, state=True) if what == "presence" else Ticket(sender, WORDS)
            )
        if "@" not in bare or bare == self._xmpp.coordinator:
            return None
        if what == "presence":
            return Ticket(bare, STATE, state=True)
        if answers:
            return Ticket(f"{bare}{ANSWERED}", ANSWERS)
        return Ticket(bare, WORDS)

    def _handle_flood(self, sender: str, count: int) -> None:
        """Ask the server to block the sender; a worker then counts as gone until it is heard again.
        Called at most every 30 s per sender."""
        bare = sender.removesuffix(ANSWERED)
        account = (
            _parse_jid(f"{bare}/{health.WORKER_RESOURCE}")
            if "/" not in bare and "@" in bare
            else None
        )
        blocked = (
            account is not None and self._blocker is not None and self._blocker.block_account(bare)
        )
        self._emit(Flooded(bare, count, BLOCK_S if blocked else 0.0))
        if blocked and self.session.stream.gate is not None:
            self.session.stream.gate.drop_waiting_stanza(sender)
        if blocked and account and (worker := health.worker_from_jid(account, self._xmpp.fleet)):
            self._emit(WorkerSeen(Announcement(worker, Health.UNAVAILABLE)))

    def _is_blocked(self, bare: str) -> bool:
        return self._blocker is not None and self._blocker.is_blocked(bare)

    def _handle_presence(self, presence: Presence) -> None:
        sender = _parse_jid(presence.xml.get("from", ""))
        if sender is None:
            return
        if sender.bare == self._xmpp.room:
            if self._room:
                self._room.handle_presence(presence)
        elif sender.bare == self._xmpp.coordinator:
            self._note_standby(sender.resource, presence.xml.get("type", ""))
        elif worker := health.worker_from_jid(sender, self._xmpp.fleet):
            if self._is_blocked(sender.bare):
                return  # it was under way before the block
            try:
                said = health.announcement_from_presence(presence, worker)
            except BadStanza as e:
                self._emit(NotUnderstood(worker, "presence", str(e)))
                return
            if said:
                if worker not in self._workers:
                    self._workers.add(worker)
                    self._new_worker.set()
                self._emit(WorkerSeen(said))

    def _note_standby(self, resource: str, kind: str) -> None:
        if resource == "leader":
            return
        if kind == "":
            self.standbys.add(resource)
        elif kind == "unavailable":
            self.standbys.discard(resource)

    def _handle_message(self, message: Message) -> None:
        sender = _parse_jid(message.xml.get("from", ""))
        if sender is None:
            return
        if sender.full == self._xmpp.pubsub:
            for item in items_from_notification(message, self._xmpp.pubsub):
                self._handle_telemetry(item)
        elif sender.bare == self._xmpp.room:
            if self._room:
                self._room.handle_message(message)
        elif sender.domain == self._xmpp.domain and message.xml.get("type", "normal") in (
            "normal",
            "chat",
        ):
            said = message_from_stanza(message, self._xmpp.coordinator)
            if said and self.affiliations is not None:
                self._handle_private_message(said)
            elif said and len(self._early) < EARLY_WORDS:
                self._early.append(said)

    def _handle_telemetry(self, item: Published) -> None:
        publisher = _parse_jid(item.publisher)
        worker = health.worker_from_jid(publisher, self._xmpp.fleet) if publisher else None
        if worker is None or item.feed != telemetry.feed_of_worker(worker):
            why = f"an item from {item.publisher}"
            self._emit(NotUnderstood(item.feed, "telemetry", why))
            return
        if self._is_blocked(item.publisher.partition("/")[0]):
            return  # it counts as gone, although the PubSub service passes its telemetry on
        try:
            self._emit(TelemetryIn(worker, telemetry.telemetry_from_xml(item.payload)))
        except BadStanza as e:
            self._emit(NotUnderstood(worker, "telemetry", str(e)))

    def _handle_room_message(self, said: HeardMessage, who: Occupant) -> None:
        if who.jid != self._xmpp.coordinator:
            self._emit_question(said, who.jid, to_one_line(who.nick, NICK_LIMIT), room=True)

    def _handle_reaction(self, about: tuple[str, ...], who: Occupant) -> None:
        if who.jid != self._xmpp.coordinator:
            self._emit(Reacted(who.jid, about))

    def _handle_private_message(self, said: HeardMessage) -> None:
        sender = JID(said.sender).bare
        if (self.affiliations or {}).get(sender) in READERS:
            self._emit_question(said, str(sender), "", room=False)

    def _emit_question(self, said: HeardMessage, jid: str, nick: str, *, room: bool) -> None:
        unique_id = said.unique_id or uuid.uuid4().hex
        if self._seen.add_if_new((jid, unique_id)):
            self._emit(
                QuestionAsked(jid, nick, said.text, room, unique_id, said.replaces, said.message_id)
            )

    def _note_affiliation(self, change: Changed) -> None:
        if self.affiliations is None or change.jid == self._xmpp.coordinator:
            return
        if self.affiliations.get(change.jid, "none") != change.affiliation:
            self.affiliations[change.jid] = change.affiliation
            self._emit(AffiliationChanged(change.jid, change.affiliation))


def _parse_jid(text: str) -> JID | None:
    try:
        return JID(text)
    except InvalidJID:
        return None
