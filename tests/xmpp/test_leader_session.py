"""What the leader hears, stanza by stanza: live words of known people, each once."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from slixmpp.stanza import Message, Presence

from agents import settings
from agents.core.events import AffiliationChanged, QuestionAsked
from agents.xmpp.leader_session import Leadership, RecentKeys
from agents.xmpp.room import Room

XMPP = settings.Xmpp()
ROOM, BOT = XMPP.room, XMPP.coordinator
ANA = f"ana@{XMPP.domain}"


class Heard:
    """A Leadership without a session, in the room with ana and the bot itself."""

    def __init__(self, affiliations: dict[str, str] | None) -> None:
        self.events: list[Any] = []
        self.leadership = Leadership(XMPP, self.events.append, RecentKeys())
        self.leadership.affiliations = affiliations
        room = Room(
            None,  # type: ignore[arg-type]
            ROOM,
            "geolane",
            heard=self.leadership._handle_room_message,
            changed=self.leadership._note_affiliation,
        )
        self.leadership._room = room
        for nick, jid, what in (("ana", ANA, "member"), ("geolane", BOT, "owner")):
            self.presence(nick, f"<item affiliation='{what}' role='participant' jid='{jid}/x'/>")
        self.events.clear()

    def presence(self, nick: str, item: str, kind: str = "") -> None:
        xml = (
            f"<presence xmlns='jabber:client' from='{ROOM}/{nick}'{kind}>"
            f"<x xmlns='http://jabber.org/protocol/muc#user'>{item}</x></presence>"
        )
        self.leadership._handle_presence(Presence(xml=ET.fromstring(xml)))

    def message(self, sender: str, kind: str, inside: str) -> list[Any]:
        xml = (
            f"<message xmlns='jabber:client' from='{sender}' id='m1' "
            f"type='{kind}'>{inside}</message>"
        )
        self.leadership._handle_message(Message(xml=ET.fromstring(xml)))
        return self.events


@pytest.fixture
def heard() -> Heard:
    return Heard({ANA: "member", f"bob@{XMPP.domain}": "outcast"})


def stamp(unique_id: str, by: str = ROOM) -> str:
    return f"<stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='{unique_id}'/>"


def test_words_in_the_room_carry_the_real_jid_and_the_rooms_stanza_id(heard: Heard) -> None:
    events = heard.message(
        f"{ROOM}/ana", "groupchat", f"<body>!status</body>{stamp('s0', 'evil@x')}{stamp('s1')}"
    )
    assert events == [QuestionAsked(ANA, "ana", "!status", True, "s1", None, "m1")]


def test_the_same_stanza_is_heard_once(heard: Heard) -> None:
    for _ in range(2):
        heard.message(f"{ROOM}/ana", "groupchat", f"<body>!status</body>{stamp('s1')}")
        heard.message(
            f"{ANA}/phone", "chat", "<body>status</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/>"
        )
    assert [(e.room, e.stanza_id) for e in heard.events] == [(True, "s1"), (False, "o1")]


@pytest.mark.parametrize(
    "mark",
    [
        "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>",
        "<x xmlns='jabber:x:delay' stamp='20260101T00:00:00'/>",
        "<result xmlns='urn:xmpp:mam:2' id='1'/>",
        "<received xmlns='urn:xmpp:carbons:2'/>",
        "<sent xmlns='urn:xmpp:carbons:2'/>",
    ],
)
def test_what_is_old_or_a_copy_is_not_heard(heard: Heard, mark: str) -> None:
    heard.message(f"{ROOM}/ana", "groupchat", f"<body>!drain iad-1</body>{mark}")
    assert heard.message(f"{ANA}/phone", "chat", f"<body>drain iad-1</body>{mark}") == []


@pytest.mark.parametrize(
    ("sender", "kind", "inside"),
    [
        (f"{ROOM}/geolane", "groupchat", "<body>3 lanes moved</body>"),  # our own, reflected
        (f"{ROOM}/ghost", "groupchat", "<body>!status</body>"),  # not an occupant
        (f"{ROOM}/ana", "error", "<body>!status</body><error/>"),
        (f"{ROOM}/ana", "chat", "<body>!status</body>"),  # a private message through the room
        (ROOM, "groupchat", "<body>the room itself</body>"),
        (f"{ROOM}/ana", "groupchat", "<subject>calm</subject>"),
        (f"{ROOM}/ana", "groupchat", "<body>  </body>"),
        (f"{ANA}/phone", "error", "<body>status</body><error/>"),
        (f"{ANA}/phone", "headline", "<body>status</body>"),
        (f"{ANA}/phone", "groupchat", "<body>status</body>"),
        (f"bob@{XMPP.domain}/phone", "chat", "<body>status</body>"),  # outcast
        (f"eve@{XMPP.domain}/phone", "chat", "<body>status</body>"),  # nobody
        (f"node-a@{XMPP.fleet}/etl", "chat", "<body>status</body>"),
        (f"ana@{XMPP.fleet}/phone", "chat", "<body>status</body>"),  # the same name at another host
    ],
)
def test_who_or_what_is_not_heard(heard: Heard, sender: str, kind: str, inside: str) -> None:
    assert heard.message(sender, kind, inside) == []


def test_a_correction_names_what_it_replaces(heard: Heard) -> None:
    inside = "<body>nodes</body><replace xmlns='urn:xmpp:message-correct:0' id='m0'/>"
    (asked,) = heard.message(f"{ANA}/phone", "chat", inside)
    assert (asked.text, asked.replaces, asked.message_id) == ("nodes", "m0", "m1")


def test_a_nick_that_somebody_else_takes_is_not_who_had_it(heard: Heard) -> None:
    heard.presence(
        "ana", f"<item affiliation='member' role='none' jid='{ANA}/x'/>", " type='unavailable'"
    )
    heard.presence(
        "ana", f"<item affiliation='admin' role='participant' jid='carl@{XMPP.domain}/x'/>"
    )
    (_, asked) = heard.message(f"{ROOM}/ana", "groupchat", f"<body>!status</body>{stamp('s1')}")
    assert asked.jid == f"carl@{XMPP.domain}"


def test_a_change_of_affiliation_comes_with_or_without_presence_and_once(heard: Heard) -> None:
    item = (
        "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='admin' "
        f"jid='dora@{XMPP.domain}'/></x>"
    )
    for _ in range(2):
        heard.message(ROOM, "groupchat", item)
    heard.message(
        f"{ROOM}/ana", "groupchat", item.replace("dora", "evil")
    )  # an occupant cannot speak for the room
    heard.message(f"eve@{XMPP.domain}/x", "normal", item.replace("dora", "evil"))
    heard.presence(
        "ana", f"<item affiliation='none' role='none' jid='{ANA}/x'/>", " type='unavailable'"
    )
    assert heard.events == [
        AffiliationChanged(f"dora@{XMPP.domain}", "admin"),
        AffiliationChanged(ANA, "none"),
    ]
    assert heard.message(f"{ANA}/phone", "chat", "<body>status</body>")[2:] == []


async def test_words_that_come_before_the_affiliations_are_known_are_heard_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early = Heard(None)
    early.message(f"{ANA}/phone", "chat", "<body>status</body>")
    early.message(f"eve@{XMPP.domain}/phone", "chat", "<body>drain</body>")
    assert early.events == []

    async def known(*_: object) -> dict[str, str]:
        return {ANA: "member"}

    class Up:
        is_up = True

    early.leadership._session = Up()  # type: ignore[assignment]
    monkeypatch.setattr("agents.xmpp.leader_session.read_affiliations", known)
    await early.leadership.refresh_affiliations()
    assert [(e.jid, e.text) for e in early.events] == [(ANA, "status")]
