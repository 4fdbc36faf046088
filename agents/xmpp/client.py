"""The one place that connects: a Session is one connection, and `keep_connected` makes them one
after the other.

A session is up, or it is over for good and says why. slixmpp's own reconnection, queueing and
resumption are not used."""

from __future__ import annotations

import asyncio
import random
import xml.etree.ElementTree as ET
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from slixmpp import JID
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.stanza import Iq, Message, Presence
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from agents import settings
from agents.base import log
from agents.base.errors import (
    CommandRefused,
    NameTaken,
    NoAnswer,
    NotConnected,
    PasswordRefused,
    SettingsError,
    StaleEpoch,
    XmppError,
    system_reason,
)
from agents.base.supervisor import retrieve_error
from agents.base.text import to_one_line
from agents.xmpp.gate import Gate, Ticket
from agents.xmpp.stream import MECHANISMS, Stream, tls_context
from plugins import namespaces as ns
from plugins.lanes import stale_epoch_from_error

LOG = log.get_logger("xmpp")
T = TypeVar("T")

LOGIN_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 5.0
IN_FLIGHT = 20
BACKLOG_BYTES = 1 << 20
# The server's conditions when nobody is at the address: the command has reached no one.
_NOBODY = {
    "service-unavailable",
    "recipient-unavailable",
    "item-not-found",
    "gone",
    "remote-server-not-found",
    "remote-server-timeout",
}


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in where. `jid`: full, or bare to let the server choose the resource. The password
    is read at each login.

    After `quiet_s` without a byte the session sends a ping; after `answer_s` more it ends. `worker`
    and `operated`: what discovery says of us (plugins/discovery.py)."""

    xmpp: settings.Xmpp
    jid: str
    quiet_s: float = 2.0
    answer_s: float = 4.0
    worker: bool = False
    operated: tuple[str, ...] = ()  # the operator commands that the session takes


@dataclass(slots=True)
class Handlers:
    """Handlers of incoming stanzas. slixmpp's reader calls them, so they may only check and
    enqueue."""

    message: Callable[[Message], None] | None = None
    presence: Callable[[Presence], None] | None = None
    command: Callable[[Iq], None] | None = None
    items: Callable[[Iq], None] | None = (
        None  # requests for our items (XEP-0030); None: the items are fixed
    )
    ticket: Callable[[ET.Element], Ticket | None] | None = (
        None  # the sender's budget that a stanza uses (gate.py)
    )
    flooded: Callable[[str, int], None] = lambda sender, count: (
        None
    )  # a sender whose stanzas were dropped, and their number


class Session:
    """One connection from login to its end: ``async with Session(login, handlers) as session``.

    Entering raises NotConnected, NameTaken (another session holds the JID) or SettingsError
    (password, certificate)."""

    def __init__(self, login: Login, handlers: Handlers) -> None:
        self.login, self._handlers = login, handlers
        self.quiet_s = login.quiet_s
        self.stream: Stream
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[str] = loop.create_future()
        self._pending: set[asyncio.Future[Iq]] = set()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._keepalive: asyncio.Task[None] | None = None
        self._stage = "nothing"
        self._refusal = ""

    # Life cycle

    async def open(self) -> Self:
        """Log in, as entering does."""
        xmpp, account = self.login.xmpp, self.login.jid.partition("@")[0]
        password, cert_file = await asyncio.to_thread(_read_credentials, xmpp, account)
        context = await asyncio.to_thread(tls_context, xmpp.ca_file, cert_file)
        self.stream = Stream(self.login.jid, password, context, xmpp.sasl)
        self._register_handlers(self._handlers)
        if self._handlers.ticket is not None:
            self.stream.gate = Gate(
                self._handlers.ticket, self._take_delayed_stanza, self._handle_flood
            )
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT_S):  # a stalled handshake never ends by itself
                self.stream.connect(xmpp.host, xmpp.port)
                await self._started
                await self.stream.plugin["geolane_discovery"].announce_features()
        except TimeoutError:
            await self._close_stream()
            where = f"{xmpp.host}:{xmpp.port}"
            raise NotConnected(
                f"{where}: no session within {LOGIN_TIMEOUT_S:g} s, stuck after {self._stage}"
            ) from None
        except BaseException:
            await self._close_stream()
            raise
        self._keepalive = asyncio.create_task(self._keep_alive())
        return self

    async def close(self) -> None:
        """Close the stream and end the session, as leaving does."""
        if self._keepalive:
            self._keepalive.cancel()
            await asyncio.wait({self._keepalive})
        await self._close_stream()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, *_: type[BaseException] | BaseException | TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_up(self) -> bool:
        return self._started.done() and not self._over.done()

    @property
    def jid(self) -> str:
        """The full JID that the server gave."""
        return str(self.stream.boundjid.full)

    @property
    def reason(self) -> str:
        """Why it is over; empty while it is not."""
        return self._over.result() if self._over.done() else ""

    async def run_while_up(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` and return its result. If the session ends first, cancel `work` and raise
        NotConnected."""
        task: asyncio.Future[Any] = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._over}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                result: T = task.result()
                return result
            raise NotConnected(self._over.result())
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    task.exception()  # retrieved; the caller is told of the session's end instead

    def abort(self, reason: str) -> None:
        """End the session at once, as a crash would."""
        self._end_session(reason)
        self.stream.cancel_connection_attempt()
        self.stream.abort()

    def _take_delayed_stanza(self, stanza: ET.Element) -> None:
        if self.is_up:
            self.stream.handle_stanza(stanza)

    def _handle_flood(self, sender: str, count: int) -> None:
        LOG.warning("flooded", sender=to_one_line(sender), count=count)
        self._handlers.flooded(sender, count)

    def _end_session(self, reason: str, error: type[NotConnected] = NotConnected) -> None:
        if not self._over.done():
            self._over.set_result(reason)
        if not self._started.done():
            self._started.set_exception(error(reason))
            self._started.exception()  # retrieved, also if nobody waits for it
        for future in self._pending:
            if not future.done():
                future.set_exception(NotConnected(reason))

    async def _close_stream(self) -> None:
        """Close the stream, wait up to 1 s for the server to do the same, then cut the
        connection."""
        stream = self.stream
        if self.is_up and stream.transport is not None:
            try:
                stream.send_raw("</stream:stream>")
                async with asyncio.timeout(1.0):
                    await asyncio.shield(self._over)
            except (TimeoutError, OSError):
                pass
        self.abort("closed")
        if stream.gate is not None:
            stream.gate.close()
        for _ in range(50):
            if stream.transport is None:
                break
            await asyncio.sleep(0.01)
        await stream.stop_sending()

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.quiet_s)
            if loop.time() - self.stream.heard_s < self.quiet_s:
                continue
            asked_s = loop.time()
            ping = self.make_iq("get", str(self.stream.boundjid.host))
            ET.SubElement(ping.xml, f"{{{ns.PING}}}ping")
            ping.send(timeout=self.login.answer_s).add_done_callback(retrieve_error)
            await asyncio.sleep(self.login.answer_s)
            await asyncio.sleep(
                0.05
            )  # our own loop may have been blocked: let it read what has arrived
            if self.stream.heard_s < asked_s:
                self.abort("the server is silent")
                return

    # Incoming stanzas

    def _register_handlers(self, handlers: Handlers) -> None:
        stream = self.stream
        stream.register_plugin("xep_0199")
        stream.register_plugin("xep_0115", {"caps_node": "urn:geolane"})
        stream.register_plugin(
            "geolane_discovery", {"worker": self.login.worker, "operated": self.login.operated}
        )
        if handlers.items:  # ours replaces slixmpp's own answer
            stream.remove_handler("Disco Items")
        for path, handler in (
            ("message", handlers.message),
            ("presence", handlers.presence),
            (f"iq/{{{ns.COMMANDS}}}command", handlers.command),
            (f"iq/{{{ns.DISCO_ITEMS}}}query", handlers.items),
        ):
            if handler:
                matcher = MatchXPath(f"{{{ns.CLIENT}}}{path}")
                stream.register_handler(
                    Callback(f"geolane {path}", matcher, partial(_call_and_log_fault, handler))
                )
        for stage in (
            "connected",
            "tls_success",
            "stream_negotiated",
            "auth_success",
            "session_bind",
        ):
            stream.add_event_handler(stage, partial(self._note_stage, stage))
        stream.add_event_handler("session_bind", self._check_bound_jid)
        stream.add_event_handler("session_start", self._note_session_start)
        stream.add_event_handler(
            "connection_failed", lambda why: self._end_session(self._describe_failure(why))
        )
        stream.add_event_handler("failed_auth", self._note_refusal_text)
        stream.add_event_handler("failed_all_auth", self._end_refused_login)
        stream.add_event_handler(
            "ssl_invalid_chain", lambda why: self._end_session(f"the server's certificate: {why}")
        )
        stream.add_event_handler(
            "stream_error", lambda error: self._end_session(f"stream error: {error['condition']}")
        )
        stream.add_event_handler(
            "disconnected", lambda why: self._end_session(f"disconnected: {why or 'by the server'}")
        )

    def _describe_failure(self, why: object) -> str:
        """`why`: an OSError; or a text that names the JID's domain although another host was
        asked for, when the name service does not know it (slixmpp 1.17)."""
        xmpp = self.login.xmpp
        if isinstance(why, OSError):
            reason = system_reason(why)
            return f"cannot connect to {xmpp.host} port {xmpp.port} (xmpp.host): {reason}"
        return f"cannot connect: no host is called {xmpp.host} (xmpp.host)"

    def _note_refusal_text(self, failure: Any) -> None:  # Any: slixmpp has no types
        self._refusal = to_one_line(failure["text"] or failure["condition"], 100)

    def _end_refused_login(self, _: object) -> None:
        if offered := self.stream.unusable_mechanisms():
            wanted = " or ".join(MECHANISMS[self.login.xmpp.sasl])
            self._end_session(
                f"the server offers {offered} for the login, and none of {wanted} (xmpp.sasl); no "
                "password was sent",
                PasswordRefused,
            )
        elif self.login.xmpp.sasl == "EXTERNAL":
            self._end_session(
                f"the server refuses the certificate (xmpp.cert_file): {self._refusal}",
                PasswordRefused,
            )
        else:
            self._end_session("the server refuses the password", PasswordRefused)

    def _note_stage(self, stage: str, _: object) -> None:
        self._stage = stage

    def _check_bound_jid(self, jid: JID) -> None:
        # A refused bind looks like a session with an empty JID (slixmpp 1.17).
        wanted = JID(self.login.jid)
        if self._started.done() or (
            jid.bare == wanted.bare and wanted.resource in ("", jid.resource)
        ):
            return
        if jid.bare not in (
            "",
            wanted.bare,
        ):  # with a certificate, the server may choose the account
            self._end_session(
                f"the server logged us in as {to_one_line(jid.bare, 200)}, not as {wanted.bare}",
                PasswordRefused,
            )
            return
        self._started.set_exception(NameTaken(f"{wanted} is in use"))
        self._started.exception()

    def _note_session_start(self, _: object) -> None:
        if not self._started.done():
            self._started.set_result(None)

    # Outgoing stanzas

    def make_iq(self, kind: str, to: str) -> Iq:
        iq = self.stream.Iq()
        iq["type"] = kind
        iq["to"] = to
        return iq

    @property
    def is_congested(self) -> bool:
        """Whether more than 1 MiB or 1,000 stanzas wait to be sent. Stanzas that soon are stale
        should then be dropped."""
        transport = self.stream.transport
        waiting = transport.get_write_buffer_size() if transport is not None else 0
        return waiting > BACKLOG_BYTES or self.stream.waiting_queue.qsize() > 1000

    def send(self, stanza: Message | Presence | Iq) -> None:
        """Send a stanza that needs no answer. Raises NotConnected, also while congested."""
        if not self.is_up:
            raise NotConnected("there is no session")
        if self.is_congested:
            raise NotConnected("the server accepts no data")
        stanza.send()

    async def send_request(
        self, iq: Iq, timeout_s: float = REQUEST_TIMEOUT_S, slots: asyncio.Semaphore | None = None
    ) -> Iq:
        """Send `iq` and return its result. At most 20 requests are in flight; `slots` replaces this
        limit.

        Raises NotConnected; NoAnswer (time-out, or nobody is at the full JID); StaleEpoch;
        CommandRefused."""
        try:
            return await self.send_iq(iq, timeout_s, slots)
        except IqError as e:
            if e.condition == "conflict" and (seen := stale_epoch_from_error(e.iq)) is not None:
                raise StaleEpoch(seen) from None
            if e.condition in _NOBODY and iq["to"].resource:
                raise NoAnswer(f"{iq['to']}: {e.condition}") from None
            raise CommandRefused(e.condition, e.text) from None

    async def send_iq(
        self, iq: Iq, timeout_s: float = REQUEST_TIMEOUT_S, slots: asyncio.Semaphore | None = None
    ) -> Iq:
        """Like `send_request`, but every error answer raises slixmpp's IqError, for callers that
        must tell them apart."""
        try:
            async with asyncio.timeout(timeout_s), slots or self._slots:
                if not self.is_up:
                    raise NotConnected("there is no session")
                answer: asyncio.Future[Iq] = iq.send(timeout=timeout_s)
                self._pending.add(answer)
                try:
                    return await answer
                finally:
                    self._pending.discard(answer)
        except (TimeoutError, IqTimeout):
            raise NoAnswer(f"{iq['to']}: no answer within {timeout_s:g} s") from None

    async def ping(
        self, jid: str, timeout_s: float = REQUEST_TIMEOUT_S, slots: asyncio.Semaphore | None = None
    ) -> None:
        """Return when `jid` has answered a ping (XEP-0199). Raises like `send_iq`."""
        iq = self.make_iq("get", jid)
        ET.SubElement(iq.xml, f"{{{ns.PING}}}ping")
        await self.send_iq(iq, timeout_s, slots)


def _call_and_log_fault(handler: Callable[[T], None], stanza: T) -> None:
    """Call the handler and log its exceptions: a fault in one stanza must end neither session nor
    process, and slixmpp would answer any stanza with an error."""
    try:
        handler(stanza)
    except Exception:
        LOG.exception("fault_outlived", what="stanza", about=to_one_line(str(stanza), 1000))


def _read_credentials(xmpp: settings.Xmpp, account: str) -> tuple[str, str]:
    """The password and the certificate's file. With SASL EXTERNAL the password is empty, since the
    certificate proves who we are. Blocks. Raises SettingsError."""
    cert_file = xmpp.for_account(account).cert_file
    if xmpp.sasl == "EXTERNAL":
        file = settings.find_secret_file(cert_file, f"{account}.pem")
        if file is None:
            raise SettingsError(
                "xmpp.sasl is EXTERNAL: xmpp.cert_file must name the process's certificate and "
                "key, or give the process "
                f"the systemd credential {account}.pem"
            )
        return "", str(file)
    password = settings.read_secret(xmpp.password_file, account)
    if not password:
        raise SettingsError(
            f"xmpp.password_file: no password for {account}: name a file of mode 0600 that has it, "
            "or give the process "
            f"the systemd credential {account}"
        )
    return password, cert_file


class Backoff:
    """Back-off with full jitter: each wait is random between 0 and a window that doubles from
    `first_s` to `most_s`.

    A fleet that loses its server so reconnects spread over the window, not all at once."""

    def __init__(
        self,
        first_s: float = 1.0,
        most_s: float = 5.0,
        draw: Callable[[float, float], float] | None = None,
    ):
        self.first_s, self.most_s = first_s, most_s
        self.window_s = first_s
        self._draw = draw or random.uniform

    def next_wait_s(self) -> float:
        """How long to wait before the next attempt, in seconds."""
        wait_s = self._draw(0.0, self.window_s)
        self.window_s = min(self.most_s, self.window_s * 2)
        return wait_s

    def reset(self) -> None:
        """Start again at `first_s`; call it when a session is up."""
        self.window_s = self.first_s


async def keep_connected(
    connect: Callable[[], Session],
    serve: Callable[[Session], Coroutine[Any, Any, None]],
    backoff: Backoff | None = None,
) -> NoReturn:
    """Connect, `serve` while the session lasts, back off and connect again, until cancelled.

    NameTaken and SettingsError are raised; after any other XmppError it connects again."""
    backoff = backoff or Backoff()
    down = refused = False
    while True:
        try:
            async with connect() as session:
                if down:
                    LOG.info("xmpp_up", jid=session.jid)
                down = refused = False
                backoff.reset()
                await session.run_while_up(serve(session))
        except NameTaken:
            raise
        except XmppError as e:
            # A server that comes back may refuse what it took before: that is told, too.
            now_refused = isinstance(e, PasswordRefused)
            if not down or (now_refused and not refused):
                LOG.warning("xmpp_down", why=str(e))
            down, refused = True, refused or now_refused
        await asyncio.sleep(backoff.next_wait_s())
