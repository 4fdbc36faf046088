"""The election: the coordinator that holds the name `geolane@fleet.DOMAIN/leader` leads; the others
are standbys that watch the name.

The server gives the name to one session only (`resource_conflict: closenew`). This gives liveness;
Kafka gives safety."""

from __future__ import annotations

import asyncio
import random
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from slixmpp.exceptions import IqError
from slixmpp.stanza import Iq, Presence

from agents import settings
from agents.base import log
from agents.base.errors import NameTaken, NoAnswer, NotConnected, XmppError
from agents.core.events import Led, LinkDown, LinkUp, NotLeading, XmppEvent
from agents.core.model.feeds import FeedItem
from agents.core.model.forms import FormAnswer as Answered
from agents.core.model.geo import GeoAnswer, GeoCommand
from agents.core.model.messages import WorkerAnswer, WorkerCommand
from agents.core.operators.registry import COMMANDS
from agents.xmpp.client import Backoff, Handlers, Login, Session
from agents.xmpp.leader_session import Leadership, RecentKeys
from agents.xmpp.pubsub import mirror_affiliations
from agents.xmpp.room import send_text_message
from plugins import geo, lanes
from plugins.health import WORKER_RESOURCE
from plugins.values import BadStanza

Answer = TypeVar("Answer")
LOG = log.get_logger("xmpp.coordinator")
STANDBY_PRIORITY = -1
LOOK_AGAIN_S = 10.0
FIRST_LOOK_S = 1.0
AFTER_GONE_S = (0.0, 0.1, 0.2, 0.4, 0.8)
STEP_DOWN_S = 5.0


class CoordinatorLink:
    """The XMPP link of one coordinator process. `emit` is called on the event loop for every event
    and only enqueues."""

    def __init__(self, xmpp: settings.Xmpp, boot: str, emit: Callable[[XmppEvent], None]) -> None:
        self._xmpp, self._boot, self._emit = xmpp, boot, emit
        self._seen = RecentKeys()
        self._leadership: Leadership | None = None
        self._leader_session: Session | None = None
        self._name_gone = asyncio.Event()
        self._leader_there = False
        self._not_before_s = 0.0
        self._stepping_down = False

    # Election

    async def run(self) -> None:
        """Lead if the name is free, else stand by; connect again until cancelled. Raises
        SettingsError."""
        backoff = Backoff()
        while True:
            try:
                await self._connect_once()
                backoff.reset()
            except XmppError as e:
                LOG.warning("xmpp_down", why=str(e))
                await asyncio.sleep(backoff.next_wait_s())

    async def _connect_once(self) -> None:
        """Connect once: as leader, or as standby until we lead. Returns or raises at the end of the
        session."""
        try:
            if asyncio.get_running_loop().time() >= self._not_before_s:
                try:
                    await self._claim_name()
                except NameTaken:
                    self._leader_there = True
                else:
                    self._emit(LinkUp())
            if self._leader_session is None:
                await self._stand_by()
            await self._lead_until_end()
        finally:
            if self._leader_session is not None:
                await self._leader_session.close()
                self._leader_session = None

    async def _claim_name(self) -> None:
        """Log in under the leader's name. Raises NameTaken, NotConnected."""
        leadership = Leadership(self._xmpp, self._emit, self._seen)
        login = Login(self._xmpp, f"{self._xmpp.coordinator}/leader", operated=tuple(COMMANDS))
        session = Session(login, leadership.handlers)
        await session.open()
        leadership.use_session(session)
        self._leadership, self._leader_session = leadership, session

    async def _lead_until_end(self) -> None:
        leadership, session = self._leadership, self._leader_session
        if leadership is None or session is None:
            return
        LOG.info("leading", jid=session.jid)
        self._emit(Led())
        reason = "link_down"
        try:
            await session.run_while_up(leadership.run())
        except* NotConnected as e:
            if session.reason.endswith("conflict"):
                reason = "replaced"
            LOG.warning("not_leading", why=str(e.exceptions[0]))
        finally:
            self._leadership = None
            self._emit(NotLeading("stepped_down" if self._stepping_down else reason))
            self._emit(LinkDown())
            self._stepping_down = False

    async def _stand_by(self) -> None:
        """Wait under another resource until we hold the name. Raises NotConnected if this session
        ends first."""
        self._name_gone.clear()
        login = Login(self._xmpp, f"{self._xmpp.coordinator}/standby-{self._boot}")
        async with Session(login, Handlers(presence=self._handle_presence)) as session:
            LOG.info("standing_by", jid=session.jid)
            self._emit(LinkUp())
            try:
                session.send(
                    session.stream.make_presence(ppriority=STANDBY_PRIORITY, pstatus="standing by")
                )
                await session.run_while_up(self._claim_when_free())
            except BaseException:
                self._emit(LinkDown())
                raise

    def _handle_presence(self, presence: Presence) -> None:
        if presence.xml.get("from") != f"{self._xmpp.coordinator}/leader":
            return
        kind = presence.xml.get("type", "")
        if kind == "unavailable":
            self._leader_there = False
            self._name_gone.set()
        elif kind == "":
            self._leader_there = True

    async def _claim_when_free(self) -> None:
        """Claim the name when the leader's session ends. Also try 1 s after the start, and every
        10 s in case we missed that."""
        waits = [FIRST_LOOK_S]
        while True:
            try:
                async with asyncio.timeout(
                    waits.pop(0) if waits else LOOK_AGAIN_S * random.uniform(0.8, 1.2)
                ):
                    await self._name_gone.wait()
                self._name_gone.clear()
                # The server may free the name a moment after its `unavailable`, and other standbys
                # try as well.
                waits = [0.02 * random.random() + wait_s for wait_s in AFTER_GONE_S]
                continue
            except TimeoutError:
                pass
            now_s = asyncio.get_running_loop().time()
            if now_s < self._not_before_s:
                waits = [self._not_before_s - now_s]
                continue
            try:
                await self._claim_name()
                return
            except NameTaken:
                if self._leader_there:
                    waits = []
            except NotConnected as e:
                LOG.warning("claim_failed", why=str(e))

    @property
    def is_leading(self) -> bool:
        """Whether we hold the name now."""
        return (
            self._leadership is not None
            and self._leader_session is not None
            and self._leader_session.is_up
        )

    @property
    def standby_count(self) -> int:
        """The number of standbys that the leader sees; 0 while not leading."""
        return len(self._leadership.standbys) if self._leadership and self.is_leading else 0

    async def step_down(self) -> None:
        """Give up the name and do not claim it for 5 s, so that a standby gets it. The event
        NotLeading follows."""
        self._not_before_s = asyncio.get_running_loop().time() + STEP_DOWN_S
        if self._leader_session is not None:
            self._stepping_down = True
            await self._leader_session.close()

    # The leader's actions

    def _require_leadership(self) -> Leadership:
        if self._leadership is None:
            raise NotConnected("not leading")
        return self._leadership

    async def send_command(
        self, worker: str, command: WorkerCommand, timeout_s: float
    ) -> WorkerAnswer:
        """Send `command` to `worker` (its account) and return the answer. At most 20 commands are
        in flight.

        Raises NotConnected; NoAnswer (time-out, nobody there, or an unreadable answer: the worker
        may have obeyed); StaleEpoch; CommandRefused; ValueError for more than 500 lanes."""
        return await self._request(
            worker, lanes.command_to_xml(command), lanes.answer_from_result, timeout_s
        )

    async def ask_geo(self, worker: str, command: GeoCommand, timeout_s: float) -> GeoAnswer:
        """Ask the geo worker `worker` and return its answer. Raises as `send_command` does, without
        StaleEpoch."""
        return await self._request(
            worker, geo.command_to_xml(command), geo.answer_from_result, timeout_s
        )

    async def _request(
        self, worker: str, command: ET.Element, read: Callable[[Iq], Answer], timeout_s: float
    ) -> Answer:
        """Send a command, and read its answer."""
        session = self._require_leadership().session
        iq = session.make_iq("set", self._jid_of_worker(worker))
        iq.xml.append(command)
        result = await session.send_request(iq, timeout_s)
        try:
            return read(result)
        except BadStanza as e:
            raise NoAnswer(f"{worker}: its answer cannot be read ({e})") from None

    async def ping_worker(self, worker: str, timeout_s: float) -> None:
        """Ping `worker` (XEP-0199); any answer counts. Raises NoAnswer if the worker does not
        answer and the server, asked after it, does; NotConnected if neither does, which says
        nothing about the worker: what others send us may delay all that we wait for."""
        leadership = self._require_leadership()
        session, pings = leadership.session, leadership.pings
        try:
            await session.ping(self._jid_of_worker(worker), timeout_s, pings)
        except IqError as e:
            if e.condition in ("service-unavailable", "recipient-unavailable", "item-not-found"):
                raise NoAnswer(f"{worker}: no session there") from None
        except NoAnswer:
            try:
                await session.ping(self._xmpp.fleet, timeout_s, pings)
            except NoAnswer as e:
                raise NotConnected(str(e)) from None
            except IqError:
                pass  # an answer
            raise

    def _jid_of_worker(self, worker: str) -> str:
        return f"{worker}@{self._xmpp.fleet}/{WORKER_RESOURCE}"

    def publish_item(self, item: FeedItem) -> None:
        """Publish an item on an operator feed, in order. Dropped while not leading: feeds are
        caches."""
        if self._leadership and self.is_leading:
            self._leadership.publisher.enqueue_item(item)

    async def send_to_room(
        self,
        text: str,
        *,
        correct: str | None = None,
        link: bool = False,
        reply: tuple[str, str] | None = None,
        about: tuple[str, ...] = (),
    ) -> str:
        """Say `text` in the room and return the message's id. `correct`: the id of the original
        message, which this one replaces. `link`: `text` is a URL. `reply`: nick and id of the
        message that this one replies to. `about`: the troubles that it tells.

        Waits up to 5 s for the room. Raises NotConnected."""
        return await self._require_leadership().room.send_message(
            text, correct, link=link, reply=reply, about=about
        )

    def send_to_person(
        self, jid: str, text: str, *, correct: str | None = None, link: bool = False
    ) -> str:
        """Say `text` to `jid` (bare) only and return the message's id. `correct` and `link` as in
        `send_to_room`. Raises NotConnected."""
        return send_text_message(
            self._require_leadership().session, jid, "chat", text, correct, link=link
        )

    async def upload_file(self, name: str, content: bytes, content_type: str) -> str:
        """Upload a file for people's clients and return its URL. Raises NotConnected, NoAnswer,
        CommandRefused."""
        return await self._require_leadership().uploads.upload_file(name, content, content_type)

    def answer_request(self, ref: str, answer: Answered) -> None:
        """Answer the AdHoc or AdHocList request `ref`. Dropped while not leading, or if the request
        no longer waits."""
        if self._leadership and self.is_leading:
            self._leadership.requests.answer_request(ref, answer)

    def set_subject(self, text: str) -> None:
        """Set the room's subject. Raises NotConnected, also while the room is not joined."""
        self._require_leadership().room.set_subject(text)

    async def read_affiliations(self) -> dict[str, str]:
        """Bare JID -> owner, admin or member, read from the room now. Raises NotConnected,
        NoAnswer, CommandRefused."""
        return await self._require_leadership().refresh_affiliations()

    async def mirror_affiliations(
        self, affiliations: Mapping[str, str], feeds: Iterable[str]
    ) -> None:
        """Let exactly the owners, admins and members of the room read `feeds`. Raises NotConnected,
        NoAnswer, CommandRefused."""
        session = self._require_leadership().session
        await mirror_affiliations(
            session, self._xmpp.pubsub, self._xmpp.domain, affiliations, feeds
        )
