"""A worker's XMPP link. It takes commands from `geolane@fleet.DOMAIN/leader` only, announces the
worker's health and publishes its load.

`obey` decides about a command. This file turns stanzas into commands, and answers and refusals into
stanzas."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from slixmpp.exceptions import IqError
from slixmpp.stanza import Iq

from agents import settings
from agents.base import log
from agents.base.errors import CommandRefused, NameTaken, NoAnswer, NotConnected, StaleEpoch
from agents.base.supervisor import first_leaf_error
from agents.core.model.feeds import TuningValues
from agents.core.model.geo import GeoAnswer, GeoCommand
from agents.core.model.messages import Announcement, Health, Telemetry, WorkerAnswer, WorkerCommand
from agents.xmpp.client import Backoff, Handlers, Login, Session, keep_connected
from agents.xmpp.pubsub import TuningFeed
from plugins import geo, health, lanes
from plugins import telemetry as telemetry_plugin
from plugins.feeds import make_publish_request
from plugins.values import BadStanza

LOG = log.get_logger("xmpp.worker")
VERSION = "0.1.0"
WAITING_COMMANDS = 64
RUNNING_COMMANDS = 32
NAME_TAKEN_LIMIT_S = 15.0
PING_PERIOD_S = 2.0


@dataclass(frozen=True, slots=True)
class _Received:
    session: Session
    iq: Iq
    command: WorkerCommand | GeoCommand


AnswerGeo = Callable[[GeoCommand], Awaitable[GeoAnswer]]


async def refuse_geo(command: GeoCommand) -> GeoAnswer:
    """What a worker does that is not a geo worker."""
    raise CommandRefused("feature-not-implemented", "this worker answers no questions about places")


class WorkerLink:
    """The link of `worker` (its account, `node-iad-1`) for one `boot`.

    StaleEpoch and CommandRefused from `obey` are answered to the leader; any other error ends
    `run`. `answer_geo`: answers questions about places and traffic."""

    def __init__(
        self,
        xmpp: settings.Xmpp,
        worker: str,
        boot: str,
        obey: Callable[[WorkerCommand], Awaitable[WorkerAnswer]],
        *,
        site: str,
        capacity_eps: float,
        ping_period_s: float = PING_PERIOD_S,
        tuned: Callable[[TuningValues], None] = lambda _: None,
        last_end: str = "",
        engine: str = "",
        answer_geo: AnswerGeo = refuse_geo,
    ) -> None:
        self._xmpp, self._worker, self._boot, self._obey = xmpp, worker, boot, obey
        self._answer_geo = answer_geo
        self._site, self._capacity_eps, self._ping_period_s = site, capacity_eps, ping_period_s
        self._last_end, self._engine = last_end, engine
        self._tuning = TuningFeed(xmpp, tuned)
        self._session: Session | None = None
        self._said = self._make_announcement(Health.DND, "starting", "")
        self._commands: asyncio.Queue[_Received] = asyncio.Queue(WAITING_COMMANDS)
        self._telemetry: Telemetry | None = None
        self._telemetry_there = asyncio.Event()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def _make_announcement(self, what: Health, state: str, status: str) -> Announcement:
        return Announcement(
            self._worker,
            what,
            self._boot,
            state,
            status,
            self._site,
            self._capacity_eps,
            version=VERSION,
            last_end=self._last_end,
            engine=self._engine,
        )

    @property
    def is_up(self) -> bool:
        """Whether there is a session now."""
        return self._session is not None and self._session.is_up

    def announce_health(self, what: Health, state: str, status: str) -> None:
        """Announce our health now, if there is a session, and after every reconnect. `state` is one
        word."""
        self._said = self._make_announcement(what, state, status)
        self._send_presence()

    def set_ping_period(self, ping_period_s: float) -> None:
        """Ping the server after `ping_period_s` seconds without a byte from it."""
        self._ping_period_s = ping_period_s
        if self._session is not None:
            self._session.quiet_s = ping_period_s

    def publish_telemetry(self, telemetry: Telemetry) -> None:
        """Publish one item; dropped while offline. While one is in flight, only the newest
        waits."""
        if self.is_up:
            self._telemetry = telemetry
            self._telemetry_there.set()

    async def wait_until_answered(self) -> None:
        """Wait until all commands are answered and the server has the answers. Without a session it
        does not wait for the server. The caller sets the time limit."""
        await self._idle.wait()
        session = self._session
        if session is not None and session.is_up:
            with suppress(NotConnected, NoAnswer, IqError):
                await session.ping(self._xmpp.fleet)

    async def run(self) -> None:
        """Stay connected until cancelled. Raises SettingsError, and NameTaken if another session
        holds our JID for 15 s."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_commands())
                await self._connect_and_serve()
        except BaseExceptionGroup as e:
            raise first_leaf_error(e) from e

    async def _connect_and_serve(self) -> None:
        handlers = Handlers(command=self._handle_command, message=self._tuning.handle_message)
        login = Login(
            self._xmpp, f"{self._worker}@{self._xmpp.fleet}/{health.WORKER_RESOURCE}", worker=True
        )
        loop = asyncio.get_running_loop()
        taken_since_s: float | None = None
        backoff = Backoff()

        async def serve(session: Session) -> None:
            nonlocal taken_since_s
            taken_since_s = None
            await self._serve_session(session)

        while True:
            try:
                await keep_connected(lambda: Session(login, handlers), serve, backoff)
            except NameTaken:
                # Our predecessor's session may last until the server's ping finds it dead (6 s).
                taken_since_s = taken_since_s or loop.time()
                if loop.time() - taken_since_s > NAME_TAKEN_LIMIT_S:
                    raise
                await asyncio.sleep(backoff.next_wait_s())

    async def _serve_session(self, session: Session) -> None:
        self._session = session
        session.quiet_s = self._ping_period_s
        self._telemetry_there.clear()
        self._send_presence()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tuning.subscribe_and_fetch(session))
                await self._publish_newest(session)
        except BaseExceptionGroup as e:
            raise first_leaf_error(e) from e
        finally:
            self._session = None

    async def _publish_newest(self, session: Session) -> None:
        feed = telemetry_plugin.feed_of_worker(self._worker)
        while True:
            await self._telemetry_there.wait()
            self._telemetry_there.clear()
            value, self._telemetry = self._telemetry, None
            if value is None or session.is_congested:
                continue
            item = telemetry_plugin.telemetry_to_xml(value)
            try:
                await session.send_request(
                    make_publish_request(
                        session.make_iq("set", self._xmpp.pubsub),
                        self._xmpp.pubsub,
                        feed,
                        "current",
                        item,
                    )
                )
            except (CommandRefused, NoAnswer) as e:
                LOG.warning("telemetry_refused", feed=feed, why=str(e))

    def _send_presence(self) -> None:
        session = self._session
        if session is not None and session.is_up:
            with suppress(NotConnected):
                session.send(health.fill_presence(session.stream.Presence(), self._said))

    # Commands

    def _handle_command(self, iq: Iq) -> None:
        """Called by slixmpp for every IQ with a `<command/>`: check sender and content, then
        enqueue."""
        if iq["type"] not in ("get", "set") or self._session is None:
            return
        if str(iq["from"].full) != f"{self._xmpp.coordinator}/leader":
            self._refuse_command(
                self._session, iq, "forbidden", "this worker obeys only the leader"
            )
            return
        try:
            if iq["type"] != "set":
                raise BadStanza("type: set is needed")
            self._commands.put_nowait(_Received(self._session, iq, self._parse_command(iq)))
            self._open += 1
            self._idle.clear()
        except BadStanza as e:
            self._refuse_command(self._session, iq, "bad-request", str(e))
        except asyncio.QueueFull:
            self._refuse_command(self._session, iq, "resource-constraint", "too many commands wait")

    def _parse_command(self, iq: Iq) -> WorkerCommand | GeoCommand:
        """Raises BadStanza."""
        if geo.is_geo_command(iq):
            return geo.command_from_iq(iq)
        return lanes.command_from_iq(iq)

    async def _run_commands(self) -> None:
        """Start commands in the order of their arrival; a slow one (a release) does not block the
        others."""
        slots = asyncio.Semaphore(RUNNING_COMMANDS)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                received = await self._commands.get()
                group.create_task(self._run_command(received)).add_done_callback(
                    lambda _: slots.release()
                )

    async def _run_command(self, received: _Received) -> None:
        session, iq = received.session, received.iq
        try:
            completed = await self._complete_command(iq, received.command)
        except StaleEpoch as e:
            self._refuse_command(session, iq, "conflict", "a higher epoch was seen", stale=e.seen)
        except CommandRefused as e:
            self._refuse_command(session, iq, e.condition, str(e))
        else:
            reply = iq.reply()
            reply.xml.append(completed)
            _send_reply(session, reply)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def _complete_command(self, iq: Iq, command: WorkerCommand | GeoCommand) -> ET.Element:
        """Carry it out, and return the completed `<command/>`."""
        node = iq.xml.find(lanes.COMMAND_TAG).get("node")
        if isinstance(command, GeoCommand):
            return geo.answer_to_xml(node, await self._answer_geo(command))
        return lanes.answer_to_xml(node, await self._obey(command))

    def _refuse_command(
        self, session: Session, iq: Iq, condition: str, text: str, stale: int | None = None
    ) -> None:
        _send_reply(session, lanes.make_refusal(iq, condition, text, stale))


def _send_reply(session: Session, reply: Iq) -> None:
    # Without a session the answer is lost, and the leader asks again (PROTOCOL 2.4).
    with suppress(NotConnected):
        session.send(reply)
