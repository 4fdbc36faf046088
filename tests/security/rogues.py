"""Accounts that mean no good, as clients that run beside a fleet: a guest of the room, an outsider,
a node.

    stop = asyncio.Event()
    rogue = asyncio.create_task(guest(server.settings("person7"), "person7", stop, seed=1))
    ...
    stop.set()
    done = await rogue          # Counter: how often it did what

Each does `per_s` things a second until `stop` is set, connects again when it is cut off, never
raises for what the other side does, and does the same for the same seed; `done` may be looked at
meanwhile. None is in anybody's way by rights: the guest may look, the outsider may nothing, and the
node's account has to be free (its real process would hold the name). The node says `available`, so
that it is given lanes, only with `takes=True`."""

from __future__ import annotations

import asyncio
import random
import secrets
import xml.etree.ElementTree as ET
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from xml.sax.saxutils import quoteattr

from slixmpp.exceptions import IqError
from slixmpp.stanza import Iq, Message

from agents import settings
from agents.base.errors import XmppError
from agents.core.lanes.tenure import GiveBack, Tenure
from agents.core.model.messages import Health, LaneLoad, Telemetry, WorkerAnswer, WorkerCommand
from agents.core.model.topology import WorkerKind
from agents.core.operators.registry import COMMANDS
from agents.xmpp.client import Handlers, Login, Session
from agents.xmpp.worker_session import WorkerLink
from plugins import commands, feeds
from plugins import namespaces as ns
from plugins.room import fill_join_presence
from plugins.values import replace_invalid_xml

PATIENCE_S = 1.0
WORDS = (
    "0",
    "1",
    "5",
    "-1",
    "99999999999999999999",
    "iad-1",
    "router-1",
    "1m",
    "7d",
    "rewind",
    "drain",
    "lose",
    "add",
    "rate",
    "list",
    "show",
    "replay",
    "lag",
    "alerts",
    "kind=alert",
    "since=1h",
    "all",
    "nan",
    "x1e999",
    "\u202eevil",
    "\u0661",
    "=",
    "%s",
    "{0}",
    "confirm",
    "a" * 2000,
    "\u200b",
    "'; --",
    "```",
    "default",
    "stop",
)
NUMBERS = (
    "1e15",
    "1000000000000000",
    "NaN",
    "inf",
    "-5",
    "0",
    "1",
    "",
    "999999999999999999999",
    "1e308",
    "12.5",
    "x",
)
TEXTS = (
    "well",
    "x" * 5000,
    "two\nlines",
    "\u202egnp.exe",
    "\x1b[2J".replace("\x1b", "\u241b"),
    "``` <b>bold</b>",
    "@all https://evil.example/",
    "\u2028line",
    "a" + "\u0301" * 500,
)


def nested(depth: int) -> str:
    """So many elements in each other."""
    return "<a xmlns='urn:x'>" + "<a>" * (depth - 1) + "</a>" * depth


Act = tuple[str, Callable[[Session], Awaitable[None]]]


class _Rogue:
    """One account's life: connected again and again, one act after the other."""

    def __init__(
        self,
        xmpp: settings.Xmpp,
        jid: str,
        stop: asyncio.Event,
        seed: int,
        per_s: float,
        done: Counter[str] | None,
    ) -> None:
        self.xmpp, self.jid, self.stop = xmpp, jid, stop
        self.rng = random.Random(seed)
        self.per_s = per_s
        self.done: Counter[str] = Counter() if done is None else done
        self.heard: deque[str] = deque(maxlen=200)

    @property
    def leader(self) -> str:
        return f"{self.xmpp.coordinator}/leader"

    async def live(
        self, acts: list[Act], handlers: Handlers, *, enter: Callable[[Session], None] | None = None
    ) -> Counter[str]:
        while not self.stop.is_set():
            try:
                async with Session(
                    Login(self.xmpp, self.jid, quiet_s=15, answer_s=8), handlers
                ) as session:
                    self.done["connected"] += 1
                    if enter is not None:
                        enter(session)
                    while session.is_up and not self.stop.is_set():
                        name, act = self.rng.choice(acts)
                        self.done[name] += 1
                        with suppress(IqError):
                            await act(session)
                        await self._wait(1 / self.per_s)
            except (XmppError, OSError):
                await self._wait(1.0)
        return self.done

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()

    async def ask(self, session: Session, iq: Iq) -> None:
        with suppress(XmppError, IqError):
            await session.send_iq(iq, PATIENCE_S)

    # ---- what anybody does ----

    def words(self) -> str:
        return " ".join(
            [self.rng.choice(list(COMMANDS)), *self.rng.choices(WORDS, k=self.rng.randrange(4))]
        )

    def somebody(self) -> str:
        fleet, domain = self.xmpp.fleet, self.xmpp.domain
        return self.rng.choice(
            (
                self.leader,
                self.xmpp.coordinator,
                self.xmpp.room,
                self.xmpp.pubsub,
                f"node-iad-1@{fleet}/etl",
                fleet,
                domain,
                f"router-1@{fleet}/etl",
            )
        )

    async def deep(self, session: Session) -> None:
        depth, to = self.rng.choice((65, 1500, 6000, 20_000)), self.somebody()
        inside = nested(depth)
        session.stream.send_raw(
            self.rng.choice(
                (
                    f"<message to='{to}' type='chat' id='d'>{inside}</message>",
                    f"<presence to='{to}'>{inside}</presence>",
                    f"<iq to='{to}' type='set' id='d'><command xmlns='{ns.COMMANDS}' "
                    f"node='x'>{inside}</command></iq>",
                    f"<iq to='{to}' type='result' id='1'>{inside}</iq>",
                )
            )
        )

    async def whisper(self, session: Session) -> None:
        message = session.stream.Message(sto=self.somebody(), stype="chat")
        message["body"] = replace_invalid_xml(self.words())
        session.send(message)

    async def burst(self, session: Session) -> None:
        """A few hundred at once."""
        to = self.somebody()
        for n in range(self.rng.randrange(50, 300)):
            session.stream.send_raw(
                f"<message to='{to}' type='chat' id='b{n}'><body>status</body></message>"
            )

    async def form(self, session: Session) -> None:
        fields = {
            self.rng.choice(("node", "lane", "what", "page", "x")): self.rng.choice(WORDS)[:900]
        }
        iq = session.make_iq("set", self.leader)
        action, step = (
            self.rng.choice(("execute", "next", "prev", "complete", "cancel")),
            self.rng.choice(("", "nosuch")),
        )
        iq.xml.append(
            commands.command_step_to_xml(self.rng.choice(list(COMMANDS)), step, action, fields)
        )
        await self.ask(session, iq)

    async def command_worker(self, session: Session) -> None:
        iq = session.make_iq("set", f"node-iad-1@{self.xmpp.fleet}/etl")
        ET.SubElement(
            iq.xml, f"{{{ns.COMMANDS}}}command", node=f"{ns.LANES}#drain", action="execute"
        )
        await self.ask(session, iq)

    async def subscribe(self, session: Session) -> None:
        feed = self.rng.choice(("fleet", "alerts", "placement", "tuning", "telemetry/node-iad-1"))
        await self.ask(
            session,
            feeds.make_subscribe_request(
                session.make_iq("set", ""), self.xmpp.pubsub, feed, session.jid
            ),
        )

    async def publish(self, session: Session) -> None:
        feed = self.rng.choice(("fleet", "alerts", "tuning", "telemetry/node-iad-1"))
        item = ET.fromstring(f"<telemetry xmlns='{ns.TELEMETRY}' boot='x' seq='1'/>")
        await self.ask(
            session,
            feeds.make_publish_request(
                session.make_iq("set", ""), self.xmpp.pubsub, feed, "current", item
            ),
        )


async def outsider(
    xmpp: settings.Xmpp,
    account: str,
    stop: asyncio.Event,
    *,
    seed: int,
    per_s: float = 5.0,
    done: Counter[str] | None = None,
) -> Counter[str]:
    """An account at DOMAIN that the room does not know."""
    rogue = _Rogue(xmpp, f"{account}@{xmpp.domain}", stop, seed, per_s, done)

    async def presence(session: Session) -> None:
        session.stream.send_raw(
            f"<presence to='{rogue.somebody()}'><node xmlns='{ns.NODE}' boot='x' state='s' "
            "capacity_eps='1'/></presence>"
        )

    async def enter(session: Session) -> None:
        session.send(
            fill_join_presence(
                session.stream.Presence(), xmpp.room, rogue.rng.choice(("geolane", "eve", "ev-il"))
            )
        )

    acts: list[Act] = [
        ("deep", rogue.deep),
        ("whisper", rogue.whisper),
        ("burst", rogue.burst),
        ("form", rogue.form),
        ("presence", presence),
        ("enter", enter),
        ("command", rogue.command_worker),
        ("subscribe", rogue.subscribe),
        ("publish", rogue.publish),
    ]
    return await rogue.live(acts, Handlers())


async def guest(
    xmpp: settings.Xmpp,
    account: str,
    stop: asyncio.Event,
    *,
    seed: int,
    per_s: float = 5.0,
    done: Counter[str] | None = None,
) -> Counter[str]:
    """A member of the ops room: it looks at everything in every wrong way, and corrects what others
    said."""
    rogue = _Rogue(xmpp, f"{account}@{xmpp.domain}", stop, seed, per_s, done)

    def hear(message: Message) -> None:
        if message.xml.get("id"):
            rogue.heard.append(message.xml.get("id", ""))

    def enter(session: Session) -> None:
        session.send(fill_join_presence(session.stream.Presence(), xmpp.room, account))

    def say(session: Session, text: str, more: str = "") -> None:
        body = ET.Element("body")
        body.text = text
        shown = ET.tostring(body, encoding="unicode")
        name = secrets.token_hex(4)
        session.stream.send_raw(
            f"<message to='{xmpp.room}' type='groupchat' id='{name}'>{shown}{more}</message>"
        )

    async def look(session: Session) -> None:
        say(session, f"!{rogue.words()}")

    async def correct(session: Session) -> None:
        """What somebody else said, so that their dry run is void."""
        if rogue.heard:
            of = quoteattr(rogue.rng.choice(rogue.heard))
            say(session, "!status", f"<replace xmlns='{ns.CORRECT}' id={of}/>")

    async def confirm(session: Session) -> None:
        say(session, f"!confirm {rogue.rng.randrange(1 << 16):04x}")

    async def nick(session: Session) -> None:
        session.send(
            fill_join_presence(
                session.stream.Presence(), xmpp.room, rogue.rng.choice((account, f"{account}2"))
            )
        )

    acts: list[Act] = [
        ("look", look),
        ("look", look),
        ("correct", correct),
        ("confirm", confirm),
        ("nick", nick),
        ("deep", rogue.deep),
        ("whisper", rogue.whisper),
        ("burst", rogue.burst),
        ("form", rogue.form),
        ("form", rogue.form),
        ("command", rogue.command_worker),
        ("publish", rogue.publish),
    ]
    return await rogue.live(acts, Handlers(message=hear), enter=enter)


async def node(
    xmpp: settings.Xmpp,
    worker: str,
    stop: asyncio.Event,
    *,
    seed: int,
    per_s: float = 5.0,
    takes: bool = False,
    done: Counter[str] | None = None,
) -> Counter[str]:
    """A worker's account whose process somebody else has: it lies about itself, about others, and
    without end."""
    rogue = _Rogue(xmpp, f"{worker}@{xmpp.fleet}/etl", stop, seed, per_s, done)
    rng, feed = rogue.rng, f"telemetry/{worker}"
    boot, seq = "rogue0", 0

    def presence(shown: str, status: str = "", capacity: str = "1000", more: str = "") -> str:
        show = "" if shown == "available" else f"<show>{shown}</show>"
        body = ET.Element("status")
        body.text = status
        words = ET.tostring(body, encoding="unicode")
        said = (
            f"boot='{boot}' state='odd' site='nowhere' capacity_eps='{capacity}' accel='none' "
            "version='0'"
        )
        return (
            f"<presence>{show}{words}<priority>-1</priority><node xmlns='{ns.NODE}' "
            f"{said}>{more}</node></presence>"
        )

    def shows() -> str:
        return rng.choice(("dnd", "xa", "available") if takes else ("dnd", "xa"))

    def enter(session: Session) -> None:
        session.stream.send_raw(presence("dnd"))

    async def flip(session: Session) -> None:
        """Its health, a few times within a second."""
        for _ in range(rng.randrange(1, 6)):
            session.stream.send_raw(presence(shows(), rng.choice(TEXTS), rng.choice(NUMBERS)))

    async def flood(session: Session) -> None:
        for _ in range(rng.randrange(500, 3000)):
            session.stream.send_raw(presence(shows()))

    async def be_born(session: Session) -> None:
        nonlocal boot
        if rng.random() < 0.2:
            boot = f"rogue{rng.randrange(1 << 30)}"
        session.stream.send_raw(presence(shows()))

    async def lie(session: Session) -> None:
        nonlocal seq
        seq += rng.choice((1, 1, 1, 1000, -5))
        root = ET.Element(
            f"{{{ns.TELEMETRY}}}telemetry",
            boot=boot,
            seq=str(seq),
            ts=rng.choice(TEXTS)[:90],
            cpu=rng.choice(NUMBERS),
            mem_mb=rng.choice(("40", *NUMBERS)),
            pipeline=rng.choice(TEXTS),
        )
        for _ in range(rng.choice((0, 3, 40, 1300))):
            n = str(rng.choice((rng.randrange(12), rng.randrange(10**15))))
            figures = {
                name: rng.choice(("5", *NUMBERS[:2]))
                for name in ("rate_eps", "lag_events", "p50_ms", "p99_ms")
            }
            topic = rng.choice(("main/events.lanes", "main/events.raw", "main/x"))
            ET.SubElement(
                root,
                f"{{{ns.TELEMETRY}}}lane",
                {"topic": topic, "n": n, "epoch": "1", "fault": rng.choice(TEXTS), **figures},
            )
            ET.SubElement(root, f"{{{ns.TELEMETRY}}}arrival", n=n, rate_eps=rng.choice(NUMBERS[:2]))
        await rogue.ask(
            session,
            feeds.make_publish_request(
                session.make_iq("set", ""), xmpp.pubsub, feed, "current", root
            ),
        )

    async def answer(session: Session) -> None:
        """What nobody asked."""
        session.stream.send_raw(
            f"<iq to='{rogue.leader}' type='result' id='{rng.randrange(1000)}'><x "
            "xmlns='urn:x'/></iq>"
        )

    def obey(iq: Iq) -> None:
        """Not at all, wrongly, or with numbers that cannot be."""
        match rng.randrange(4):
            case 0:
                iq.reply().send()
            case 1:
                reply = iq.reply()
                x = (
                    "<x xmlns='jabber:x:data' type='result'><field var='lanes'><value>0 1 "
                    "1000000000000000</value></field></x>"
                )
                reply.xml.append(
                    ET.fromstring(
                        f"<command xmlns='{ns.COMMANDS}' node='x' status='completed'>{x}</command>"
                    )
                )
                reply.send()
            case 2:
                reply = iq.reply()
                reply["type"] = "error"
                reply["error"]["condition"] = rng.choice(("conflict", "gone", "bad-request"))
                reply.send()
            case _:
                pass

    acts: list[Act] = [
        ("flip", flip),
        ("flip", flip),
        ("flood", flood),
        ("born", be_born),
        ("lie", lie),
        ("lie", lie),
        ("lie", lie),
        ("answer", answer),
        ("deep", rogue.deep),
        ("publish", rogue.publish),
        ("command", rogue.command_worker),
        ("form", rogue.form),
    ]
    return await rogue.live(acts, Handlers(command=obey), enter=enter)


async def liar(
    xmpp: settings.Xmpp, worker: str, stop: asyncio.Event, *, offset: int = 10**15
) -> None:
    """A node's account whose process somebody else has: it takes lanes as a node does, works none
    of them, and says that it released each at `offset`."""
    tenure = Tenure(WorkerKind.NODE.topic, secrets.token_hex(6))

    async def obey(command: WorkerCommand) -> WorkerAnswer:
        for effect in tenure.obey(command):
            if isinstance(effect, GiveBack):
                tenure.note_released(effect.partition, offset)
        answer = tenure.answer_command(command)
        assert answer is not None
        return answer

    link = WorkerLink(xmpp, worker, tenure.boot, obey, site="ric", capacity_eps=1000.0)
    link.announce_health(Health.AVAILABLE, "working", "")
    connected = asyncio.create_task(link.run())
    seq = 0
    while not stop.is_set():
        seq += 1
        lanes = tuple(
            LaneLoad(tenure.topic, n, epoch, 0.0, 0, 0.0, 0.0) for n, epoch in tenure.owned_epochs()
        )
        link.publish_telemetry(Telemetry(tenure.boot, seq, "", 0.1, 40.0, lanes=lanes))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await stop.wait()
    connected.cancel()
    with suppress(asyncio.CancelledError):
        await connected
