"""What one sender may make us read is bounded, and what is nested too deeply ends nobody, the
server included."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from agents.core.events import Flooded, WorkerSeen
from agents.core.model.messages import Announcement, Health
from agents.xmpp import blocking, gate, leader_session
from agents.xmpp.client import Session
from agents.xmpp.gate import DEPTH_AT_MOST, Budget, Gate, Ticket, is_too_deep, make_depth_refusal
from plugins import namespaces as ns
from tests.security.rogues import nested
from tests.xmpp.conftest import Links, until
from tests.xmpp.test_strangers import session


@pytest.fixture(autouse=True)
def blocks_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "BLOCK_S", 3.0)
    monkeypatch.setattr(leader_session, "BLOCK_S", 3.0)


def test_depth_is_counted_without_recursion() -> None:
    assert not is_too_deep(ET.fromstring(nested(DEPTH_AT_MOST)))
    assert is_too_deep(ET.fromstring(nested(DEPTH_AT_MOST + 1)))
    assert is_too_deep(ET.fromstring(nested(30_000)))


def test_a_request_is_answered_and_a_message_is_not() -> None:
    asked = ET.fromstring(f"<iq xmlns='{ns.CLIENT}' type='set' id='7&quot;' from='eve@d/x'/>")
    assert "policy-violation" in make_depth_refusal(asked)
    assert ET.fromstring(make_depth_refusal(asked)).get("id") == '7"'
    assert make_depth_refusal(ET.fromstring(f"<message xmlns='{ns.CLIENT}' from='eve@d/x'/>")) == ""
    assert make_depth_refusal(ET.fromstring(f"<iq xmlns='{ns.CLIENT}' type='error' id='7'/>")) == ""


async def test_of_state_the_newest_comes_late_and_of_words_the_rest_is_left_out() -> None:
    late: list[str] = []
    told: list[tuple[str, int]] = []
    gate = Gate(
        lambda x: Ticket(x.get("from", ""), Budget(2, 50), state=x.tag == "presence"),
        lambda x: late.append(x.get("n", "")),
        lambda who, count: told.append((who, count)),
    )
    states = [gate.passes(ET.Element("presence", {"from": "a", "n": str(n)})) for n in range(100)]
    words = [gate.passes(ET.Element("message", {"from": "b", "n": str(n)})) for n in range(100)]
    assert states == [True, True] + [False] * 98
    assert words == [True, True] + [False] * 98
    await until(lambda: late)
    assert late == ["99"], "the last one that it said is how it is"
    assert [who for who, _ in told] == ["a", "b"], "told once"
    gate.close()


async def test_deep_nesting_ends_neither_agents_nor_the_server(links: Links) -> None:
    """6,000 elements ended the server, 1,500 any agent."""
    server = links.server
    leader, worker = await links.coordinator(), await links.worker()
    member = await server.person()
    pid = server.server.pid
    to = (f"{server.settings().coordinator}/leader", f"{server.jid(worker.account)}/etl")
    async with session(server, await server.stranger()) as eve, session(server, member) as ana:
        for depth in (100, 1_500, 6_000, 37_000):
            for sender in (eve, ana):
                for victim in to:
                    await harass(sender, victim, depth)
    assert server.server.pid == pid
    assert leader.link.is_leading
    assert worker.link.is_up


async def harass(sender: Session, victim: str, depth: int) -> None:
    """Deep stanzas of each kind, then a ping: who answers that has read them all."""
    inside = nested(depth)
    stanzas = (
        f"<iq to='{victim}' type='set' id='d'><command xmlns='{ns.COMMANDS}' "
        f"node='x'>{inside}</command></iq>",
        f"<message to='{victim}' type='chat'>{inside}<body>x</body></message>",
        f"<presence to='{victim}'>{inside}</presence>",
        f"<iq to='{victim}' type='result' id='1'>{inside}</iq>",
    )
    for stanza in (
        stanzas if depth < 10_000 else stanzas[:1]
    ):  # the server reads 100 kB/s of a person
        sender.stream.send_raw(stanza)
    ping = sender.make_iq("get", victim)
    ET.SubElement(ping.xml, f"{{{ns.PING}}}ping")
    assert (await sender.send_iq(ping, 20))["type"] == "result", f"{victim}: {depth} deep"


async def test_a_node_that_floods_presence_costs_the_leader_little_and_the_last_word_counts(
    links: Links,
) -> None:
    leader, worker = await links.coordinator(), await links.worker()
    await until(lambda: leader.of(WorkerSeen))
    session = worker.link._session
    assert session is not None
    node = f"<node xmlns='{ns.NODE}' boot='boot1' state='s' site='iad' capacity_eps='1'/>"
    for n in range(30_000):
        session.stream.send_raw(
            f"<presence><show>{'dnd' if n % 2 else 'xa'}</show>{node}</presence>"
        )
        if n % 500 == 0:
            await asyncio.sleep(0)
    worker.link.announce_health(Health.DND, "last", "")

    def last() -> bool:
        said: list[Announcement] = [e.announcement for e in leader.of(WorkerSeen)]
        return said[-1].state == "last"

    await until(last, 60)
    assert leader.link.is_leading, "it is not cut off"
    assert leader.of(Flooded)
    assert len(leader.of(WorkerSeen)) < 1000


async def test_the_server_holds_back_who_floods_and_asks_how_they_are_afterwards(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, worker, other = await links.coordinator(), await links.worker(), await links.worker()
    await until(lambda: len(leader.of(WorkerSeen)) >= 2)
    session = worker.link._session
    assert session is not None
    node = f"<node xmlns='{ns.NODE}' boot='boot1' state='s' site='iad' capacity_eps='1'/>"
    read = Counter[str]()
    ours = leader.link._leader_session
    assert ours is not None
    assert ours.stream.gate is not None
    passes = ours.stream.gate.passes

    def counted(stanza: ET.Element) -> bool:
        read[stanza.get("from", "").partition("@")[0]] += 1
        return passes(stanza)

    monkeypatch.setattr(ours.stream.gate, "passes", counted)

    async def flood(count: int) -> None:
        for n in range(count):
            session.stream.send_raw(
                f"<presence><show>{'dnd' if n % 2 else 'xa'}</show>{node}</presence>"
            )
            if n % 100 == 0:
                await asyncio.sleep(0)

    def states(account: str) -> list[Health]:
        return [
            e.announcement.health for e in leader.of(WorkerSeen) if e.announcement.worker == account
        ]

    await flood(200)
    await until(lambda: leader.of(Flooded))
    [flooded] = leader.of(Flooded)
    assert (flooded.sender, flooded.blocked_s) == (links.server.jid(worker.account), 3.0)
    assert states(worker.account)[-1] is Health.UNAVAILABLE
    before = read[worker.account]
    await flood(5000)
    other.link.announce_health(Health.AVAILABLE, "heard", "")
    await until(lambda: states(other.account)[-1] is Health.AVAILABLE)
    assert read[worker.account] < before + 500, "what it sends ends at the server"
    await until(lambda: not session.is_congested)  # else it is not said
    worker.link.announce_health(Health.XA, "calm", "")
    await until(lambda: leader.of(WorkerSeen)[-1].announcement.state == "calm", 30)
    assert leader.link.is_leading


async def test_an_account_that_floods_although_it_is_blocked_is_blocked_again(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have done an unblock that it did not answer in time."""
    monkeypatch.setattr(gate, "TOLD_EVERY_S", 0.5)
    monkeypatch.setattr(blocking, "BLOCK_S", 30.0)
    leader, worker = await links.coordinator(), await links.worker()
    await until(lambda: leader.of(WorkerSeen))
    flooding = worker.link._session
    assert flooding is not None
    node = f"<node xmlns='{ns.NODE}' boot='boot1' state='s' site='iad' capacity_eps='1'/>"

    async def flood(until_told: int) -> None:
        while len(leader.of(Flooded)) < until_told:
            for n in range(50):
                flooding.stream.send_raw(
                    f"<presence><show>{'dnd' if n % 2 else 'xa'}</show>{node}</presence>"
                )
            await asyncio.sleep(0.02)

    async def blocked(colleague: Session) -> list[str | None]:
        asked = colleague.stream.Iq()
        asked["type"] = "get"
        ET.SubElement(asked.xml, f"{{{ns.BLOCKING}}}blocklist")
        answer = await colleague.send_iq(asked)
        return [x.get("jid") for x in answer.xml.iter(f"{{{ns.BLOCKING}}}item")]

    async with session(links.server, "geolane", "standby-y") as colleague:
        for times in (1, 2):
            async with asyncio.timeout(20):
                await flood(times)
                while await blocked(colleague) != [links.server.jid(worker.account)]:
                    await asyncio.sleep(0.02)
            forget = colleague.stream.Iq()
            forget["type"] = "set"
            ET.SubElement(forget.xml, f"{{{ns.BLOCKING}}}unblock")
            await colleague.send_request(forget)
    assert leader.link.is_leading


async def test_a_server_that_blocks_nobody_is_asked_once_and_nobody_counts_as_blocked(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ns, "BLOCKING", "urn:example:unknown")
    leader, worker = await links.coordinator(), await links.worker()
    await until(lambda: leader.of(WorkerSeen))
    flooding = worker.link._session
    assert flooding is not None
    node = f"<node xmlns='{ns.NODE}' boot='boot1' state='s' site='iad' capacity_eps='1'/>"
    for n in range(300):
        flooding.stream.send_raw(
            f"<presence><show>{'dnd' if n % 2 else 'xa'}</show>{node}</presence>"
        )
        await asyncio.sleep(0)
    await until(lambda: leader.of(Flooded))
    blocker = leader.link._leadership._blocker if leader.link._leadership else None
    assert blocker is not None
    await until(lambda: not blocker.is_blocked(links.server.jid(worker.account)))
    assert not blocker.block_account(links.server.jid(worker.account))
    worker.link.announce_health(Health.AVAILABLE, "calm", "")
    await until(lambda: leader.of(WorkerSeen)[-1].announcement.state == "calm")
    assert leader.link.is_leading
