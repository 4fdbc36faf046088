"""The XMPP server as this account finds it. Each check logs in separately, sends presence only to
the room, and changes nothing."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import secrets
import socket
import ssl
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from cryptography import x509
from slixmpp.exceptions import IqError

from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.certificate import judge_certificate
from agents.admin.doctor.judge.host import judge_clock
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import Level, NotLookedAt, Verdict, fault, merge_verdicts, ok
from agents.admin.doctor.judge.xmpp import (
    GONE_S,
    LARGEST_STANZA,
    PROVISION,
    LoginOutcome,
    expected_feeds,
    judge_certificate_login,
    judge_erlang,
    judge_feed_rights,
    judge_login,
    judge_pings,
    judge_resumption,
    judge_room,
    judge_roster,
    judge_speed,
)
from agents.admin.doctor.session import SessionProbe, open_session
from agents.admin.doctor.sockets import listens_to_others, open_xmpp_stream, try_addresses
from agents.base.errors import CommandRefused, NoAnswer, NotConnected, XmppError
from agents.base.files import read_whole_file
from agents.core.model.inventory import Inventory
from agents.settings import Settings, find_secret_file
from agents.xmpp.operator_client import OperatorClient
from agents.xmpp.room import read_affiliations
from agents.xmpp.stream import tls_context
from plugins import feeds
from plugins import namespaces as ns

GROUP = "xmpp"
STANZAS, STANZA_BYTES = 24, 8000
SPEED_S = 2.5
SILENT_S = GONE_S + 1
ROSTER = "jabber:iq:roster"
TIME = "urn:xmpp:time"
EPMD = 4369
DISCO_INFO = "http://jabber.org/protocol/disco#info"


class XmppCheck:
    """`now`: this machine's clock, in epoch seconds. `silent_s`: for how long to send the server no
    sign of life."""

    def __init__(
        self,
        settings: Settings,
        who: Whom,
        inventory: Inventory | None,
        now: Callable[[], float] = time.time,
        silent_s: float = SILENT_S,
    ) -> None:
        self._silent_s = silent_s
        self._no_tls = False
        self._xmpp, self._who, self._now = settings.xmpp, who, now
        self._workers = list(inventory.workers) if inventory else []
        self._host = self._xmpp.fleet if who.agent else self._xmpp.domain
        self._bare = f"{who.account}@{self._host}"

    def list_checks(self) -> list[Check]:
        def check(
            name: str, look: Callable[[], Awaitable[Verdict]], *needs: str, bound_s: float = 5.0
        ) -> Check:
            return Check(
                GROUP, name, look, tuple(f"{GROUP} {need}" for need in needs), bound_s=bound_s
            )

        return [
            check("server", self._check_server),
            check("hosts", self._check_hosts, "server"),
            check("certificate", self._check_certificate, "server"),
            check("erlang", self._check_erlang),
            Check(
                GROUP,
                "login",
                self._check_login,
                ("xmpp server",),
                ("xmpp certificate",),
                bound_s=12.0,
            ),
            check("clock", self._check_clock, "login"),
            check("feeds", self._check_feeds, "login"),
            check("tuning", self._check_tuning, "login"),
            check("roster", self._check_roster, "login"),
            check("room", self._check_room, "login"),
            check("resumption", self._check_resumption, "login"),
            check("shaper", self._check_speed, "login", bound_s=2 * (SPEED_S + 4)),
            check("stanza size", self._check_stanza_size, "shaper", bound_s=8.0),
            check("pings", self._check_pings, "login", bound_s=SILENT_S + 4),
        ]

    def _open_session(self) -> SessionProbe:
        return open_session(self._xmpp, self._bare)

    # Before a login.

    async def _check_server(self) -> Verdict:
        (address, away), *_ = (await try_addresses([(self._xmpp.host, self._xmpp.port)])).items()
        if away:
            return fault(
                f"{address}: {away}",
                "start ejabberd, correct xmpp.host and xmpp.port, or open the firewall",
            )
        return ok(address)

    async def _check_erlang(self) -> Verdict:
        # On the server's own machine a connection proves nothing, since it uses loopback.
        if await asyncio.to_thread(self._is_loopback):
            return judge_erlang(is_open=await asyncio.to_thread(listens_to_others, EPMD))
        [away] = (await try_addresses([(self._xmpp.host, EPMD)])).values()
        return judge_erlang(is_open=not away)

    def _is_loopback(self) -> bool:
        try:
            return all(
                ipaddress.ip_address(found[4][0]).is_loopback
                for found in socket.getaddrinfo(self._xmpp.host, None, type=socket.SOCK_STREAM)
            )
        except (OSError, ValueError):
            return False

    async def _check_hosts(self) -> Verdict:
        wanted = (self._xmpp.fleet, self._xmpp.domain)
        greetings = await asyncio.gather(
            *(open_xmpp_stream(self._xmpp.host, self._xmpp.port, host) for host in wanted)
        )
        return merge_verdicts(
            f"{' and '.join(wanted)} with STARTTLS", *(g.verdict for g in greetings)
        )

    async def _check_certificate(self) -> Verdict:
        self._no_tls = True
        context = await asyncio.to_thread(tls_context, self._xmpp.ca_file)
        seen = await open_xmpp_stream(self._xmpp.host, self._xmpp.port, self._host, tls=True)
        if not seen.began:
            raise NotLookedAt("`xmpp hosts` is at fault")
        if seen.certificate is None:
            return seen.verdict
        refused = None
        try:
            await open_xmpp_stream(
                self._xmpp.host, self._xmpp.port, self._host, tls=True, context=context
            )
            self._no_tls = False
        except ssl.SSLCertVerificationError as e:
            refused = e
        now = datetime.datetime.fromtimestamp(self._now(), datetime.UTC)
        return judge_certificate(
            self._host,
            seen.certificate,
            refused,
            now,
            self._xmpp.ca_file or "the system's authorities",
        )

    async def _check_login(self) -> Verdict:
        if self._no_tls:
            raise NotLookedAt("the certificate is not trusted, so there is no login")
        session = self._open_session()
        try:
            await session.open()
        except (NotConnected, NoAnswer) as e:
            seen = LoginOutcome(str(e), session.refused, session.challenged)
        else:
            await session.close()
            seen = LoginOutcome(None)
        if self._xmpp.sasl == "EXTERNAL":
            return judge_certificate_login(
                self._bare, seen, await asyncio.to_thread(self._certificate_days_left)
            )
        return judge_login(self._bare, seen, self._xmpp.password_file)

    def _certificate_days_left(self) -> float:
        account = self._who.account
        file = find_secret_file(self._xmpp.for_account(account).cert_file, f"{account}.pem")
        if file is None:
            return 0.0
        try:
            until = x509.load_pem_x509_certificate(read_whole_file(file)).not_valid_after_utc
        except (OSError, ValueError):
            return 0.0  # the check of the login has reported it
        return (until.timestamp() - self._now()) / 86_400

    # What this account may do.

    async def _check_clock(self) -> Verdict:
        async with self._open_session() as session:
            iq = session.make_iq("get", self._host)
            ET.SubElement(iq.xml, f"{{{TIME}}}time")
            begun = self._now()
            try:
                answer = await session.send_request(iq)
            except (CommandRefused, NoAnswer) as e:
                raise NotLookedAt(
                    f"{self._host} does not report its time (mod_time, XEP-0202)"
                ) from e
            middle = (begun + self._now()) / 2
        said = answer.xml.findtext(f"{{{TIME}}}time/{{{TIME}}}utc") or ""
        try:
            theirs = datetime.datetime.fromisoformat(said).timestamp()
        except ValueError as e:
            raise NotLookedAt(f"{self._host} reports a time that is not valid") from e
        return judge_clock(middle - theirs, f"{self._host}'s")

    async def _check_feeds(self) -> Verdict:
        if self._who.role is Role.COORDINATOR and not self._workers:
            raise NotLookedAt("the inventory that names the workers cannot be read")
        async with self._open_session() as session:
            request = feeds.make_own_affiliations_request(session.stream.Iq(), self._xmpp.pubsub)
            try:
                there = feeds.own_affiliations_from_result(await session.send_request(request))
            except CommandRefused as e:
                return fault(f"{self._xmpp.pubsub}: {e}", PROVISION)
        return judge_feed_rights(expected_feeds(self._who, self._workers), there)

    async def _check_tuning(self) -> Verdict:
        if not self._who.worker:
            raise NotLookedAt("only workers read it")
        async with self._open_session() as session:
            try:
                await session.send_request(
                    feeds.make_last_item_request(session.stream.Iq(), self._xmpp.pubsub, "tuning")
                )
            except CommandRefused as e:
                return fault(f"tuning cannot be read ({e.condition})", PROVISION)
        return ok("readable")

    async def _check_roster(self) -> Verdict:
        if self._who.role is Role.PERSON:
            raise NotLookedAt("people see no worker's presence")
        wanted = (
            {self._xmpp.coordinator}
            if self._who.worker
            else {f"{w}@{self._host}" for w in self._workers}
        )
        async with self._open_session() as session:
            iq = session.make_iq("get", session.stream.boundjid.bare)
            ET.SubElement(iq.xml, f"{{{ROSTER}}}query")
            answer = await session.send_request(iq)
        items = answer.xml.iterfind(f"{{{ROSTER}}}query/{{{ROSTER}}}item")
        return judge_roster(
            wanted, {x.get("jid", "") for x in items if x.get("subscription") == "both"}
        )

    async def _check_room(self) -> Verdict:
        if self._who.worker:
            raise NotLookedAt("workers stay out of the room")
        room = self._xmpp.room
        try:
            if self._who.role is Role.COORDINATOR:
                async with self._open_session() as session:
                    people = await read_affiliations(session, room)
                admins = sum(a in ("owner", "admin") for a in people.values())
                return ok(f"{room} is ours: {len(people)} people, {admins} of them may act")
            async with self._open_session() as session:
                # Joining a room that does not exist may create it.
                await _require_room(session, room)
            async with OperatorClient(self._xmpp, self._who.account, seen=False) as person:
                await person.join_room()
                me = next(
                    (o for o in person.room.occupants.values() if o.nick == person.room.nick), None
                )
                return ok(f"joined {room}" + (f" as {me.affiliation}" if me else ""))
        except CommandRefused as e:
            return judge_room(self._who, room, e.condition)
        except NoAnswer:
            return judge_room(self._who, room, "item-not-found")

    # How the server behaves.

    async def _check_resumption(self) -> Verdict:
        if not self._who.agent:
            raise NotLookedAt(
                f"it belongs at {self._xmpp.domain}; agents' accounts see {self._xmpp.fleet}"
            )
        async with self._open_session() as session:
            return judge_resumption(session.resumable, self._host)

    async def _check_speed(self) -> Verdict:
        found = await self._measure_speed()
        # Once more if it was slow, since it may have been busy; a shaper is slow each time.
        return found if found.level is Level.OK else await self._measure_speed()

    async def _measure_speed(self) -> Verdict:
        async with self._open_session() as session:
            answered, slots, loop = 0, asyncio.Semaphore(STANZAS), asyncio.get_running_loop()
            begun = last = loop.time()

            async def send_one() -> None:
                nonlocal answered, last
                await _send_bytes(session, self._host, STANZA_BYTES, slots)
                answered, last = answered + STANZA_BYTES, loop.time()

            tasks = [asyncio.create_task(send_one()) for _ in range(STANZAS)]
            _, late = await asyncio.wait(tasks, timeout=SPEED_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            took = SPEED_S if late else last - begun
            session.abort("measured")
        return judge_speed(answered, STANZAS * STANZA_BYTES, took, agent=self._who.agent)

    async def _check_stanza_size(self) -> Verdict:
        if not self._who.agent:
            raise NotLookedAt("people's stanzas are small")
        size, largest = LARGEST_STANZA, f"{LARGEST_STANZA:,} bytes"
        async with self._open_session() as session:
            try:
                await _send_bytes(session, self._host, size, asyncio.Semaphore(1))
            except (NotConnected, NoAnswer) as e:
                return fault(
                    f"a stanza of {largest}, telemetry of 1,000 lanes, is not accepted ({e})",
                    "set max_stanza_size: 262144 at ejabberd's port for clients",
                )
        return ok(f"{largest} are accepted")

    async def _check_pings(self) -> Verdict:
        if not self._who.agent:
            raise NotLookedAt(
                f"people are asked each minute; agents' accounts see {self._xmpp.fleet}"
            )
        async with self._open_session() as session:
            pings_s, gone_s = await session.stay_silent(self._silent_s)
        return judge_pings(pings_s, gone_s, self._silent_s)


async def _send_bytes(
    session: SessionProbe, host: str, size: int, slots: asyncio.Semaphore
) -> None:
    """Send about `size` bytes that the server must read before it answers. Any answer will do."""
    iq = session.make_iq("get", host)
    ping = ET.SubElement(iq.xml, f"{{{ns.PING}}}ping")
    ping.text = secrets.token_hex(size // 2)
    with suppress(IqError):
        await session.send_iq(iq, 30.0, slots)


async def _require_room(session: SessionProbe, room: str) -> None:
    iq = session.make_iq("get", room)
    ET.SubElement(iq.xml, f"{{{DISCO_INFO}}}query")
    try:
        await session.send_iq(iq)
    except IqError as e:
        if e.condition in ("item-not-found", "remote-server-not-found", "service-unavailable"):
            raise CommandRefused("item-not-found") from None


async def ping_jid(session: SessionProbe, jid: str, timeout_s: float) -> float:
    """Milliseconds until `jid` answered. Raises XmppError."""
    loop = asyncio.get_running_loop()
    iq = session.make_iq("get", jid)
    ET.SubElement(iq.xml, f"{{{ns.PING}}}ping")
    begun = loop.time()
    await session.send_request(iq, timeout_s, asyncio.Semaphore(1))
    return (loop.time() - begun) * 1000


async def ping_all_jids(
    session: SessionProbe, jids: Collection[str], timeout_s: float
) -> dict[str, float]:
    """JID -> ms, for each JID that answered."""

    async def ping_or_none(jid: str) -> float | None:
        try:
            return await ping_jid(session, jid, timeout_s)
        except XmppError:
            return None

    answers = await asyncio.gather(*(ping_or_none(jid) for jid in jids))
    return {jid: ms for jid, ms in zip(jids, answers, strict=True) if ms is not None}
