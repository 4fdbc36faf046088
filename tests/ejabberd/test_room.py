"""The ops room as PROTOCOL 4 says: members only, real JIDs shown, no private messages, archived,
the bot's name its own."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET

import pytest

from tests.ejabberd.client import WAIT_S, Client, session
from tests.fixtures.xmpp import XmppServer

USER = "{http://jabber.org/protocol/muc#user}"


@pytest.fixture
def room(xmpp_server: XmppServer) -> str:
    return f"ops@conference.{xmpp_server.domain}"


async def join(client: Client, room: str, nick: str) -> str:
    """`joined`, or the condition of the refusal."""
    presence = client.raw.make_presence(pto=f"{room}/{nick}")
    presence.append(
        ET.fromstring("<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>")
    )
    presence.send()
    async with asyncio.timeout(WAIT_S):
        while True:
            answer = await client.presences.get()
            if not answer.get("from", "").startswith(room):
                continue
            if (error := answer.find("{jabber:client}error")) is not None:
                return error[0].tag.partition("}")[2]
            if any(s.get("code") == "110" for s in answer.iter(f"{USER}status")):
                return "joined"


def say(client: Client, to: str, text: str, kind: str = "groupchat") -> None:
    client.raw.make_message(mto=to, mbody=text, mtype=kind).send()


def body(text: str, sender: str = "") -> object:
    return lambda m: (
        m.findtext("{jabber:client}body") == text and m.get("from", "").startswith(sender)
    )


async def test_only_members_come_in(xmpp_server: XmppServer, room: str) -> None:
    member, stranger = await xmpp_server.person(), await xmpp_server.stranger()
    worker = await xmpp_server.worker()
    async with (
        session(xmpp_server, member) as inside,
        session(xmpp_server, stranger) as outside,
        session(xmpp_server, worker, priority=-1) as node,
    ):
        assert await join(inside, room, "inside") == "joined"
        assert await join(outside, room, "outside") == "registration-required"
        assert await join(node, room, "node") == "forbidden"


async def test_everybody_sees_real_jids(xmpp_server: XmppServer, room: str) -> None:
    first, second = await xmpp_server.person(), await xmpp_server.person()
    async with session(xmpp_server, first) as one, session(xmpp_server, second) as two:
        assert await join(one, room, first) == "joined"
        assert await join(two, room, second) == "joined"
        seen = await one.presence(f"{room}/{second}")
    assert [i.get("jid") for i in seen.iter(f"{USER}item")] == [f"{xmpp_server.jid(second)}/etl"]


async def test_nobody_else_takes_the_bots_name_and_the_bot_owns_the_room(
    xmpp_server: XmppServer, room: str
) -> None:
    owner = await xmpp_server.person("owner")
    async with (
        session(xmpp_server, owner) as person,
        session(xmpp_server, "geolane", "leader", priority=10) as bot,
    ):
        assert await join(person, room, "geolane") == "conflict"
        assert await join(person, room, "Geolane") == "conflict"
        assert await join(bot, room, "geolane") == "joined"
        query = (
            "<query xmlns='http://jabber.org/protocol/muc#admin'><item "
            "affiliation='owner'/></query>"
        )
        owners = await bot.iq("get", room, query)
    assert f"geolane@fleet.{xmpp_server.domain}" in {
        i.get("jid") for i in owners.iter("{http://jabber.org/protocol/muc#admin}item")
    }


async def test_private_messages_and_other_peoples_subjects_are_refused(
    xmpp_server: XmppServer, room: str
) -> None:
    first, second = await xmpp_server.person(), await xmpp_server.person()
    async with session(xmpp_server, first) as one, session(xmpp_server, second) as two:
        assert await join(one, room, first) == "joined"
        assert await join(two, room, second) == "joined"
        say(one, f"{room}/{second}", "psst", "chat")
        refusal = await one.message(lambda m: m.get("type") == "error")
        assert refusal.find(".//{urn:ietf:params:xml:ns:xmpp-stanzas}forbidden") is not None
        subject = one.raw.make_message(mto=room, mtype="groupchat")
        subject["subject"] = "mine"
        subject.send()
        refusal = await one.message(lambda m: m.get("type") == "error")
        assert refusal.find(".//{urn:ietf:params:xml:ns:xmpp-stanzas}forbidden") is not None


async def test_what_is_said_is_archived_with_a_stanza_id(
    xmpp_server: XmppServer, room: str
) -> None:
    member = await xmpp_server.person()
    async with session(xmpp_server, member) as person:
        assert await join(person, room, member) == "joined"
        say(person, room, f"remember {member}")
        heard = await person.message(
            lambda m: m.findtext("{jabber:client}body") == f"remember {member}"
        )
        stanza_id = heard.find("{urn:xmpp:sid:0}stanza-id")
        await person.iq(
            "set",
            room,
            "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'/></query>",
        )
        kept = await person.message(
            lambda m: (
                m.find("{urn:xmpp:mam:2}result") is not None and member in "".join(m.itertext())
            )
        )
    assert stanza_id is not None
    assert stanza_id.get("by") == room
    result = kept.find("{urn:xmpp:mam:2}result")
    assert result is not None
    assert result.get("id") == stanza_id.get("id")


async def test_people_make_no_rooms(xmpp_server: XmppServer) -> None:
    owner = await xmpp_server.person("owner")
    async with session(xmpp_server, owner) as person:
        assert await join(person, f"mine@conference.{xmpp_server.domain}", "me") in (
            "forbidden",
            "not-allowed",
        )
