"""The ops room, one to one chat and affiliations, with a member's client."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial

import pytest

from agents.base.errors import CommandRefused
from agents.core.events import AffiliationChanged, QuestionAsked, Reacted
from agents.xmpp.operator_client import OperatorClient
from agents.xmpp.room import Room
from plugins import namespaces as ns
from tests.fixtures.xmpp import XmppServer
from tests.xmpp.conftest import Coordinator, Links, until


def person(server: XmppServer, account: str) -> OperatorClient:
    return OperatorClient(server.settings(account), account)


async def joined(leader: Coordinator) -> Room:
    """Wait until the bot is in the room."""
    room: Room = await until(lambda: leader.link._leadership and leader.link._leadership._room)
    await until(room.joined.is_set)
    return room


async def set_affiliation(server: XmppServer, jid: str, affiliation: str) -> None:
    """As the room's owner would."""
    service = f"conference.{server.domain}"
    await server.server.api.call(
        "set_room_affiliation", name="ops", service=service, jid=jid, affiliation=affiliation
    )


async def test_a_member_asks_in_the_room_and_hears_the_answer_and_its_correction(
    links: Links,
) -> None:
    leader = await links.coordinator()
    ana = await links.server.person()
    async with person(links.server, ana) as client:
        await client.join_room()
        asked_id = await client.send_to_room("!status")
        asked: QuestionAsked = (await until(lambda: leader.of(QuestionAsked)))[0]
        assert (
            asked.jid,
            asked.nick,
            asked.text,
            asked.room,
            asked.message_id,
            asked.replaces,
        ) == (
            links.server.jid(ana),
            ana,
            "!status",
            True,
            asked_id,
            None,
        )
        assert asked.stanza_id
        said_id = await leader.link.send_to_room("moving 3 lanes\n\N{SNOWMAN} <&> 1 of 3")
        said = await client.wait_for_message(lambda s: s.message_id == said_id)
        assert said.jid == links.server.settings().coordinator
        assert said.text == "moving 3 lanes\n\N{SNOWMAN} <&> 1 of 3"
        await leader.link.send_to_room("moving 3 lanes: 2 of 3", correct=said_id)
        corrected = await client.wait_for_message(lambda s: s.replaces == said_id)
        assert corrected.text == "moving 3 lanes: 2 of 3"
        await client.send_to_room("!nodes", correct=asked_id)
        again = await until(lambda: [e for e in leader.of(QuestionAsked) if e.replaces])
        assert (again[0].replaces, again[0].text) == (asked_id, "!nodes")
        leader.link.set_subject("calm: 10 nodes")
        await until(lambda: client.subject == "calm: 10 nodes")
        assert not [
            e for e in leader.of(QuestionAsked) if e.jid == links.server.settings().coordinator
        ]


async def test_news_reply_to_a_message_and_a_reaction_to_them_is_told(links: Links) -> None:
    leader = await links.coordinator()
    ana = await links.server.person()
    async with person(links.server, ana) as client:
        await client.join_room()
        await client.send_to_room("!drain iad-1")
        asked: QuestionAsked = (await until(lambda: leader.of(QuestionAsked)))[0]
        await leader.link.send_to_room(
            "drain iad-1: done", reply=(asked.nick, asked.stanza_id), about=("3f2a",)
        )
        said = await client.wait_for_message(lambda s: s.text == "drain iad-1: done")
        assert said.replied_to == asked.stanza_id

        def react(to: str, *emojis: str) -> None:
            message = client.session.stream.Message(sto=client.room.room, stype="groupchat")
            x = ET.SubElement(message.xml, f"{{{ns.REACTIONS}}}reactions", id=to)
            for emoji in emojis:
                ET.SubElement(x, f"{{{ns.REACTIONS}}}reaction").text = emoji
            client.session.send(message)

        react("another message", "\N{EYES}")
        react(said.unique_id)  # a reaction that is taken back
        react(said.unique_id, "\N{EYES}", "\N{THUMBS UP SIGN}")
        await client.send_to_room("!status")
        await until(lambda: len(leader.of(QuestionAsked)) == 2)
        assert leader.of(Reacted) == [Reacted(links.server.jid(ana), ("3f2a",))]


async def test_a_member_talks_one_to_one_and_a_stranger_is_not_heard(links: Links) -> None:
    leader = await links.coordinator()
    server = links.server
    ana, mallory = await server.person("admin"), await server.stranger()
    bot = server.settings().coordinator
    async with person(server, mallory) as stranger, person(server, ana) as client:
        await until(lambda: leader.link._leadership and leader.link._leadership.affiliations)
        stranger.send_to_person(bot, "drain everything")
        with pytest.raises(CommandRefused):
            await stranger.join_room()
        message_id = client.send_to_person(bot, "status")
        asked: QuestionAsked = (await until(lambda: leader.of(QuestionAsked)))[0]
        assert (asked.jid, asked.text, asked.room, asked.message_id) == (
            server.jid(ana),
            "status",
            False,
            message_id,
        )
        assert [e.text for e in leader.of(QuestionAsked)] == ["status"]
        said_id = leader.link.send_to_person(asked.jid, "10 nodes, calm \x00\ud800")
        said = await client.wait_for_message(lambda s: s.message_id == said_id)
        assert (said.room, said.jid) == (False, bot)
        assert said.text.startswith("10 nodes, calm")


async def test_what_was_said_while_nobody_led_is_not_acted_on(links: Links) -> None:
    ana = await links.server.person()
    async with person(links.server, ana) as client:
        await client.join_room()
        await client.send_to_room("!drain iad-1")
        await client.wait_for_message(lambda s: s.text == "!drain iad-1")
        leader = await links.coordinator()
        await joined(leader)
        await client.send_to_room("!status")
        await until(lambda: leader.of(QuestionAsked))
        assert [e.text for e in leader.of(QuestionAsked)] == ["!status"]


async def test_a_change_of_affiliation_is_told_of_who_is_there_and_of_who_is_absent(
    links: Links,
) -> None:
    leader = await links.coordinator()
    server = links.server
    here, away = await server.person(), await server.person()
    assert (await leader.link.read_affiliations())[server.jid(away)] == "member"
    async with person(server, here) as client:
        await client.join_room()
        await joined(leader)
        for account, affiliation in ((here, "admin"), (away, "none"), (here, "outcast")):
            await set_affiliation(server, server.jid(account), affiliation)
            await until(
                partial(
                    leader.events.__contains__, AffiliationChanged(server.jid(account), affiliation)
                )
            )


async def test_the_room_is_joined_again_when_it_is_lost(links: Links) -> None:
    leader = await links.coordinator()
    server = links.server
    room = await until(lambda: leader.link._leadership and leader.link._leadership._room)
    await until(room.joined.is_set)
    await server.server.api.call(
        "kick_user" if False else "set_room_affiliation",
        name="ops",
        service=f"conference.{server.domain}",
        jid=server.settings().coordinator,
        affiliation="none",
    )  # members only: out
    await until(lambda: not room.joined.is_set())
    await server.server.api.call(
        "set_room_affiliation",
        name="ops",
        service=f"conference.{server.domain}",
        jid=server.settings().coordinator,
        affiliation="owner",
    )
    await until(room.joined.is_set)
    assert await leader.link.send_to_room("back")
