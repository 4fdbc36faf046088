"""Room stanzas -> values. A person is identified by the real JID that the room stamps, never by the
nick (PROTOCOL 4)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from slixmpp import JID, InvalidJID
from slixmpp.stanza import Iq, Message, Presence

from plugins import namespaces as ns

_U = f"{{{ns.MUC_USER}}}"
AFFILIATIONS = ("owner", "admin", "member", "outcast", "none")
TEXT_LIMIT = 4000
ID_LIMIT = 200
# Marks of an old message or of somebody's copy, which is never acted on (PROTOCOL 4, who may what
# 6).
_HISTORY = (
    f"{{{ns.DELAY}}}delay",
    f"{{{ns.DELAY_OLD}}}x",
    f"{{{ns.MAM}}}result",
    f"{{{ns.CARBONS}}}received",
    f"{{{ns.CARBONS}}}sent",
)


@dataclass(frozen=True, slots=True)
class HeardMessage:
    """A message with text. `sender` is its whole `from`. `unique_id` is the stanza-id by `by`, or
    else the origin-id; it may be empty. `replaces` is the id of the message that it corrects
    (XEP-0308), `replied_to` of the one that it replies to (XEP-0461)."""

    sender: str
    text: str
    message_id: str
    unique_id: str
    replaces: str | None
    replied_to: str = ""


@dataclass(frozen=True, slots=True)
class Occupant:
    """An occupant's presence. `jid` is the real bare JID, empty if the room hides it. `codes` are
    the status codes."""

    nick: str
    jid: str
    affiliation: str
    here: bool
    codes: frozenset[str]
    new_nick: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The room says which affiliation `jid` (bare) has now."""

    jid: str
    affiliation: str


def bare_jid_of(text: str) -> str:
    """The bare JID of `text`; empty if it is not a valid JID."""
    try:
        return str(JID(text).bare)
    except InvalidJID:
        return ""


def is_history(message: Message) -> bool:
    """Whether a message is delayed, archived or a carbon copy."""
    return any(message.xml.find(tag) is not None for tag in _HISTORY)


def message_from_stanza(message: Message, by: str) -> HeardMessage | None:
    """The content of a live message, with the stanza-id that `by` stamped (XEP-0359; anyone can
    write others); otherwise None.

    Text is cut at 4000 characters."""
    if is_history(message) or message.xml.get("type") in ("error", "headline"):
        return None
    body = message.xml.findtext(f"{{{ns.CLIENT}}}body")
    if not body or not body.strip():
        return None
    unique_id = stanza_id_from_message(message, by)
    if not unique_id:
        origin = message.xml.find(f"{{{ns.STANZA_ID}}}origin-id")
        unique_id = "" if origin is None else origin.get("id", "")
    replace = message.xml.find(f"{{{ns.CORRECT}}}replace")
    reply = message.xml.find(f"{{{ns.REPLY}}}reply")
    return HeardMessage(
        sender=message.xml.get("from", ""),
        text=body[:TEXT_LIMIT],
        message_id=message.xml.get("id", ""),
        unique_id=unique_id,
        replaces=None if replace is None else replace.get("id", ""),
        replied_to="" if reply is None else reply.get("id", ""),
    )


def occupant_from_presence(presence: Presence) -> Occupant | None:
    """The content of a presence from `ROOM/NICK`; None for errors and for presences without the
    room's stamp."""
    kind = presence.xml.get("type", "")
    stamp = presence.xml.find(f"{_U}x")
    if kind not in ("", "unavailable") or stamp is None:
        return None
    item = stamp.find(f"{_U}item")
    found = {} if item is None else item.attrib
    affiliation = found.get("affiliation", "none")
    return Occupant(
        nick=presence.xml.get("from", "").partition("/")[2],
        jid=bare_jid_of(found.get("jid", "")),
        affiliation=affiliation if affiliation in AFFILIATIONS else "none",
        here=kind == "",
        codes=frozenset(x.get("code", "") for x in stamp.iterfind(f"{_U}status")),
        new_nick=found.get("nick", ""),
    )


def affiliation_changes_in(message: Message) -> list[Changed]:
    """Changes of affiliation in a message from the room itself, for people who are absent; such a
    message has no body."""
    if message.xml.get("type") == "error" or is_history(message):
        return []
    return [
        Changed(jid, x.get("affiliation", ""))
        for x in message.xml.iterfind(f"{_U}x/{_U}item")
        if (jid := bare_jid_of(x.get("jid", ""))) and x.get("affiliation") in AFFILIATIONS
    ]


def fill_join_presence(presence: Presence, room: str, nick: str) -> Presence:
    """Enter `room` without its history."""
    presence["to"] = f"{room}/{nick}"
    enter = ET.SubElement(presence.xml, f"{{{ns.MUC}}}x")
    ET.SubElement(enter, f"{{{ns.MUC}}}history", maxstanzas="0")
    return presence


def mark_correction(message: Message, replaces: str | None) -> Message:
    """Give a message its origin-id. With `replaces`, make it correct the message that first had
    that id."""
    ET.SubElement(message.xml, f"{{{ns.STANZA_ID}}}origin-id", id=message["id"])
    if replaces:
        ET.SubElement(message.xml, f"{{{ns.CORRECT}}}replace", id=replaces)
    return message


def reaction_from_stanza(message: Message) -> str:
    """The id of the message that a live message reacts to with at least one emoji (XEP-0444); empty
    if it is not a reaction, or withdraws one.

    ::

        <reactions xmlns='urn:xmpp:reactions:0' id='s1'><reaction>+1</reaction></reactions>
    """
    found = message.xml.find(f"{{{ns.REACTIONS}}}reactions")
    if found is None or is_history(message) or message.xml.get("type") == "error":
        return ""
    if not any((x.text or "").strip() for x in found.iterfind(f"{{{ns.REACTIONS}}}reaction")):
        return ""
    return str(found.get("id", ""))[:ID_LIMIT]


def stanza_id_from_message(message: Message, by: str) -> str:
    """The id that `by` stamped (XEP-0359); empty without one."""
    stamps = message.xml.iterfind(f"{{{ns.STANZA_ID}}}stanza-id")
    return next((x.get("id", "") for x in stamps if x.get("by") == by), "")


def mark_reply(message: Message, to: str, id: str) -> Message:
    """Make a message reply to the message `id` of `to` (XEP-0461). In a room, `to` is an occupant
    and `id` the one that the room gave.

    ::

        <reply xmlns='urn:xmpp:reply:0' to='ops@conference.d/ana' id='s1'/>
    """
    ET.SubElement(message.xml, f"{{{ns.REPLY}}}reply", to=to, id=id)
    return message


def make_affiliation_list_request(iq: Iq, room: str, affiliation: str) -> Iq:
    """Ask, as admin, for everyone with `affiliation`."""
    iq["type"] = "get"
    iq["to"] = room
    query = ET.SubElement(iq.xml, f"{{{ns.MUC_ADMIN}}}query")
    ET.SubElement(query, f"{{{ns.MUC_ADMIN}}}item", affiliation=affiliation)
    return iq


def affiliations_from_list(iq: Iq) -> dict[str, str]:
    """Bare JID -> affiliation in the result of `make_affiliation_list_request`."""
    found = iq.xml.iterfind(f"{{{ns.MUC_ADMIN}}}query/{{{ns.MUC_ADMIN}}}item")
    return {
        jid: x.get("affiliation", "none") for x in found if (jid := bare_jid_of(x.get("jid", "")))
    }
