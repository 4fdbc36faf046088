"""Who gets a session, who keeps it and who sees whom (PROTOCOL 4): names, passwords, frozen
clients, the shared roster."""

from __future__ import annotations

import asyncio
import re
import ssl

import pytest
from slixmpp.plugins.xep_0198.stanza import Enabled, Failed
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from tests.ejabberd.client import Client, session
from tests.fixtures.xmpp import XmppServer


async def test_on_fleet_the_second_session_of_a_name_is_refused(xmpp_server: XmppServer) -> None:
    async with session(xmpp_server, "geolane", "leader", priority=10) as first:
        with pytest.raises(ConnectionRefusedError, match="conflict"):
            async with session(xmpp_server, "geolane", "leader"):
                pass
        await first.answers()
    async with session(xmpp_server, "geolane", "leader", priority=10) as second:
        assert str(second.raw.boundjid) == f"geolane@fleet.{xmpp_server.domain}/leader"


async def test_for_people_the_newer_session_wins(xmpp_server: XmppServer) -> None:
    person = await xmpp_server.person()
    async with (
        session(xmpp_server, person, "phone") as old,
        session(xmpp_server, person, "phone") as new,
    ):
        assert await asyncio.wait_for(old.end, 5) == "conflict"
        await new.answers()


async def test_a_wrong_password_is_refused(xmpp_server: XmppServer) -> None:
    worker = await xmpp_server.worker()
    with pytest.raises(ConnectionRefusedError, match="not-authorized"):
        async with session(xmpp_server, worker, password="wrong"):
            pass


async def test_nothing_but_scram_over_tls_and_no_registration(xmpp_server: XmppServer) -> None:
    worker = await xmpp_server.worker()
    host = f"fleet.{xmpp_server.domain}"
    opening = (
        f"<stream:stream to='{host}' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    plain = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHgAeA==</auth>"
    register = "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>"
    context = ssl.create_default_context(cafile=xmpp_server.server.ca_file)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", xmpp_server.server.c2s_port)
        try:
            writer.write(opening.encode())
            before = (await reader.readuntil(b"</stream:features>")).decode()
            assert "<mechanism>" not in before
            assert "<required/>" in before
            writer.write(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            await reader.readuntil(b"/>")
            await writer.start_tls(context, server_hostname=host)
            writer.write(opening.encode())
            after = (await reader.readuntil(b"</stream:features>")).decode()
            mechanisms = re.findall("<mechanism>([^<]+)</mechanism>", after)
            assert mechanisms
            assert all(m.startswith("SCRAM-SHA-") for m in mechanisms)
            assert "register" not in after
            writer.write(plain.encode())
            assert b"invalid-mechanism" in await reader.readuntil(b"</failure>")
            writer.write(register.encode())
            assert b"<username" not in await reader.read(4096)
        finally:
            writer.close()
    assert await xmpp_server.server.api.call("check_account", user=worker, host=host) == 0


async def test_a_frozen_worker_is_gone_within_six_seconds(xmpp_server: XmppServer) -> None:
    worker = await xmpp_server.worker()
    loop = asyncio.get_running_loop()
    async with (
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
        session(xmpp_server, worker, priority=-1) as node,
    ):
        await leader.presence(xmpp_server.jid(worker))
        await node.answers()
        frozen_at = loop.time()
        node.raw.transport.pause_reading()  # nothing is answered any more, as in a stopped process
        await leader.presence(xmpp_server.jid(worker), "unavailable")
        assert loop.time() - frozen_at < 6.5


async def test_a_worker_whose_loop_is_blocked_for_three_seconds_stays(
    xmpp_server: XmppServer,
) -> None:
    worker = await xmpp_server.worker()
    async with session(xmpp_server, worker, priority=-1) as node:
        await node.answers()
        node.raw.transport.pause_reading()
        done, _ = await asyncio.wait([node.end], timeout=3)
        node.raw.transport.resume_reading()
        await node.answers()
        assert not done


async def test_the_coordinator_and_the_workers_see_each_other_and_no_worker_another(
    xmpp_server: XmppServer,
) -> None:
    one, two = await xmpp_server.worker(), await xmpp_server.worker("router")
    async with (
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
        session(xmpp_server, one, priority=-1) as first,
        session(xmpp_server, two, priority=-1) as second,
    ):
        await leader.presence(f"{xmpp_server.jid(one)}/etl")
        await leader.presence(f"{xmpp_server.jid(two)}/etl")
        await first.presence(f"geolane@fleet.{xmpp_server.domain}/leader")
        await second.answers()
        await first.answers()
        seen = []
        while not first.presences.empty():
            seen.append(first.presences.get_nowait().get("from", ""))
        assert not any(s.startswith(xmpp_server.jid(two)) for s in seen)
        roster = await leader.iq(
            "get", str(leader.raw.boundjid.bare), "<query xmlns='jabber:iq:roster'/>"
        )
        listed = {
            i.get("jid"): i.get("subscription") for i in roster.iter("{jabber:iq:roster}item")
        }
        assert listed[xmpp_server.jid(one)] == listed[xmpp_server.jid(two)] == "both"


async def test_a_worker_added_later_is_seen_by_a_leader_that_is_online(
    xmpp_server: XmppServer,
) -> None:
    async with session(xmpp_server, "geolane", "leader", priority=10) as leader:
        await leader.answers()
        worker = await xmpp_server.worker()
        async with session(xmpp_server, worker, priority=-1):
            await leader.presence(f"{xmpp_server.jid(worker)}/etl")
        await leader.presence(f"{xmpp_server.jid(worker)}/etl", "unavailable")


async def test_a_standby_sees_the_leader_come_and_go(xmpp_server: XmppServer) -> None:
    name = f"geolane@fleet.{xmpp_server.domain}/leader"
    async with session(xmpp_server, "geolane", "standby", priority=-1) as standby:
        async with session(xmpp_server, "geolane", "leader", priority=10):
            await standby.presence(name)
        await standby.presence(name, "unavailable")


async def test_nobody_changes_rosters_on_fleet(xmpp_server: XmppServer) -> None:
    worker, stranger = await xmpp_server.worker(), await xmpp_server.stranger()
    item = f"<query xmlns='jabber:iq:roster'><item jid='{xmpp_server.jid(stranger)}'/></query>"
    async with session(xmpp_server, worker, priority=-1) as node:
        assert await node.refused("set", xmpp_server.jid(worker), item) in (
            "not-allowed",
            "forbidden",
        )


async def test_a_fleet_is_not_slowed_down(xmpp_server: XmppServer) -> None:
    """With ejabberd's own shaper (1 kB/s) this takes minutes."""
    worker = await xmpp_server.worker()
    payload = f"<ping xmlns='urn:xmpp:ping'><x xmlns='urn:test'>{'x' * 5000}</x></ping>"
    async with session(xmpp_server, worker, priority=-1) as node, asyncio.timeout(10):
        for _ in range(100):
            await node.iq("get", f"fleet.{xmpp_server.domain}", payload)


async def resumption(client: Client) -> str:
    """What the server answers when asked for a session that can be resumed (XEP-0198), and for how
    many seconds."""
    answer: asyncio.Future[str] = asyncio.Future()
    for name in ("enabled", "failed"):
        handler = Callback(
            name,
            MatchXPath(f"{{urn:xmpp:sm:3}}{name}"),
            lambda s: answer.set_result(
                f"{s.xml.tag.partition('}')[2]} {s.xml.get('max', '')}".strip()
            ),
        )
        client.raw.register_handler(handler)
    client.raw.register_stanza(Enabled)
    client.raw.register_stanza(Failed)
    client.raw.send_raw("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
    return await asyncio.wait_for(answer, 5)


async def test_people_resume_sessions_for_five_minutes(xmpp_server: XmppServer) -> None:
    person = await xmpp_server.person()
    async with session(xmpp_server, person) as phone:
        assert await resumption(phone) == "enabled 300"


async def test_agents_cannot_resume_so_that_a_crash_shows_at_once(xmpp_server: XmppServer) -> None:
    worker = await xmpp_server.worker()
    async with session(xmpp_server, worker, priority=-1) as node:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resumption(node), 1)


async def test_what_people_and_the_bot_write_to_each_other_is_archived(
    xmpp_server: XmppServer,
) -> None:
    person = await xmpp_server.person()
    bot = f"geolane@fleet.{xmpp_server.domain}"
    query = "<query xmlns='urn:xmpp:mam:2'/>"
    async with (
        session(xmpp_server, "geolane", "leader", priority=10) as leader,
        session(xmpp_server, person) as phone,
    ):
        await leader.answers()
        phone.raw.make_message(mto=bot, mbody=f"status? {person}", mtype="chat").send()
        await leader.message(lambda m: person in "".join(m.itertext()))
        leader.raw.make_message(mto=xmpp_server.jid(person), mbody="all well", mtype="chat").send()
        await phone.message(lambda m: m.findtext("{jabber:client}body") == "all well")
        await phone.iq("set", xmpp_server.jid(person), query)
        asked = await phone.message(lambda m: m.find("{urn:xmpp:mam:2}result") is not None)
        answered = await phone.message(lambda m: m.find("{urn:xmpp:mam:2}result") is not None)
        assert await leader.refused("set", bot, query) == "service-unavailable"
    assert f"status? {person}" in "".join(asked.itertext())
    assert "all well" in "".join(answered.itertext())


async def test_a_stanza_of_more_than_256_kib_ends_the_session(xmpp_server: XmppServer) -> None:
    worker = await xmpp_server.worker()
    async with session(xmpp_server, worker, priority=-1) as node:
        node.raw.send_raw(
            f"<message to='{xmpp_server.jid(worker)}'><body>{'x' * 300_000}</body></message>"
        )
        assert await asyncio.wait_for(node.end, 5) == "policy-violation"


async def test_browsers_connect_by_websocket(xmpp_server: XmppServer) -> None:
    ask = (
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: "
        "13\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
    )
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", xmpp_server.server.http_port)
        try:
            writer.write(ask.encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        finally:
            writer.close()
