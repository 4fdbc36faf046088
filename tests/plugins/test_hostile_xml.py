"""Whatever comes: a value or BadStanza, and from the links' handlers no exception at all."""

from __future__ import annotations

import asyncio
import copy
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from slixmpp.stanza import Iq, Message, Presence

from agents import settings
from agents.core.events import AdHoc, AdHocList, XmppEvent
from agents.core.model.forms import (
    Field,
    FieldKind,
    Form,
    FormRefusal,
    FormReply,
    Mood,
    Option,
    Remark,
    Status,
)
from agents.core.model.messages import Accelerator, AssignCommand, Grant, PathReport, Telemetry
from agents.xmpp.adhoc import Requests
from agents.xmpp.leader_session import Leadership, RecentKeys
from agents.xmpp.room import Room
from agents.xmpp.worker_session import WorkerLink
from plugins import commands, feeds, health, lanes, room, telemetry
from plugins import namespaces as ns
from plugins.values import BadStanza, parse_integer, parse_number
from tests.plugins import support as ours

XMPP = settings.Xmpp()
GOOD_COMMAND = lanes.command_to_xml(
    AssignCommand(4, "b", "main/x", (Grant(1, 2, 3), Grant(2, 3, 4)))
)
GOOD_TELEMETRY = telemetry.telemetry_to_xml(
    Telemetry(
        "b",
        1,
        "now",
        0.5,
        80.0,
        accelerators=(Accelerator("nvidia", "H100", 0.5, faults=("xid_79",)),),
        paths=(PathReport(2, 12.6, 12.1, 15, 2.0),),
    )
)
SENDERS = st.sampled_from(
    [
        XMPP.pubsub,
        XMPP.room,
        f"{XMPP.room}/ana",
        f"{XMPP.coordinator}/leader",
        f"{XMPP.coordinator}/standby-x",
        f"node-a@{XMPP.fleet}/etl",
        f"ana@{XMPP.domain}/phone",
        XMPP.domain,
        "",
    ]
)
KINDS = st.sampled_from(
    [
        "",
        "error",
        "groupchat",
        "headline",
        "chat",
        "normal",
        "unavailable",
        "subscribe",
        "get",
        "set",
    ]
)


def stanza(kind: Any, tag: str, sender: str, type_: str, children: list[ET.Element]) -> Any:
    xml = ET.Element(
        f"{{{ns.CLIENT}}}{tag}", {"from": sender, "to": f"{XMPP.coordinator}/leader", "id": "1"}
    )
    if type_:
        xml.set("type", type_)
    xml.extend(children)
    return kind(xml=xml)


@given(ours.hostile(f"{{{ns.TELEMETRY}}}telemetry") | ours.spoiled(GOOD_TELEMETRY))
def test_telemetry(xml: ET.Element) -> None:
    with suppress(BadStanza):
        telemetry.telemetry_from_xml(xml)


@pytest.mark.parametrize(
    "attributes",
    [
        {"rtt_ms": "nan"},
        {"rtt_ms": "-1"},
        {"rtt_ms": "1e9"},
        {"min_ms": "inf"},
        {"probes": "0"},
        {"probes": "16"},
        {"age_s": "-1"},
        {"broker": "-1"},
        {"broker": "2147483648"},
    ],
)
def test_a_path_out_of_its_range_is_refused(attributes: dict[str, str]) -> None:
    xml = copy.deepcopy(GOOD_TELEMETRY)
    (path,) = xml.iterfind(f"{{{ns.TELEMETRY}}}path")
    for name, value in attributes.items():
        path.set(name, value)
    with pytest.raises(BadStanza, match=next(iter(attributes))):
        telemetry.telemetry_from_xml(xml)


def test_too_many_paths_and_a_broker_listed_twice_are_refused() -> None:
    def with_brokers(brokers: Iterable[int]) -> ET.Element:
        xml = copy.deepcopy(GOOD_TELEMETRY)
        (path,) = xml.iterfind(f"{{{ns.TELEMETRY}}}path")
        xml.remove(path)
        xml.extend(ET.Element(path.tag, path.attrib | {"broker": str(b)}) for b in brokers)
        return xml

    assert len(telemetry.telemetry_from_xml(with_brokers(range(64))).paths) == 64
    for brokers in (range(65), range(9_999), (1, 1)):
        with pytest.raises(BadStanza, match="path"):
            telemetry.telemetry_from_xml(with_brokers(brokers))


@given(ours.hostile(f"{{{ns.COMMANDS}}}command") | ours.spoiled(GOOD_COMMAND))
def test_commands_and_answers(xml: ET.Element) -> None:
    iq = stanza(Iq, "iq", f"{XMPP.coordinator}/leader", "set", [xml])
    lanes.is_worker_command(iq)
    lanes.stale_epoch_from_error(iq)
    with suppress(BadStanza):
        lanes.command_from_iq(iq)
    with suppress(BadStanza):
        lanes.answer_from_result(iq)


@given(ours.hostile(f"{{{ns.ATOM}}}entry"))
def test_entries(xml: ET.Element) -> None:
    with suppress(BadStanza):
        feeds.item_from_entry("fleet", "current", xml)


@given(SENDERS, KINDS, st.lists(ours.hostile(), max_size=4))
def test_the_leaders_and_the_rooms_handlers(
    sender: str, kind: str, children: list[ET.Element]
) -> None:
    events: list[Any] = []
    leadership = Leadership(XMPP, events.append, RecentKeys())
    leadership.affiliations = {f"ana@{XMPP.domain}": "member"}
    leadership._room = Room(
        None,  # type: ignore[arg-type]
        XMPP.room,
        "geolane",
        heard=leadership._handle_room_message,
        changed=leadership._note_affiliation,
        reacted=leadership._handle_reaction,
    )
    leadership._handle_presence(stanza(Presence, "presence", sender, kind, children))
    leadership._handle_message(stanza(Message, "message", sender, kind, children))
    room.reaction_from_stanza(stanza(Message, "message", sender, kind, children))
    room.occupant_from_presence(stanza(Presence, "presence", sender, kind, children))


@given(SENDERS, KINDS, ours.hostile(f"{{{ns.COMMANDS}}}command") | ours.spoiled(GOOD_COMMAND))
def test_the_workers_handler_answers_everything(sender: str, kind: str, xml: ET.Element) -> None:
    sent: list[Iq] = []

    class Open:
        is_up = True
        send = sent.append

    async def obey(_: object) -> Any:
        raise AssertionError

    link = WorkerLink(XMPP, "node-a", "b", obey, site="iad", capacity_eps=1.0)
    link._session = Open()  # type: ignore[assignment]
    link._handle_command(stanza(Iq, "iq", sender, kind, [xml]))
    queued = link._commands.qsize()
    if kind in ("get", "set"):
        assert len(sent) + queued == 1
    assert not queued or sender == f"{XMPP.coordinator}/leader"


FORM = Form(
    "drain",
    "x",
    (
        Field("node", FieldKind.LIST, "which", "a", (Option("a", "b"),)),
        Field("n", FieldKind.TEXT, low=0, high=3),
    ),
)
NOTES = (Remark(Mood.WARN, "careful"),)
GOOD_STEP = commands.command_step_to_xml("drain", "9f3a", "next", {"node": "iad-1", "lane": "3"})
GOOD_REPLY = commands.make_answer(
    Iq(), FormReply("drain", "9f3a", Status.EXECUTING, FORM, NOTES, ("complete", "prev"))
).xml[0]


@given(
    SENDERS,
    KINDS,
    ours.hostile(f"{{{ns.COMMANDS}}}command")
    | ours.hostile(f"{{{ns.DISCO_ITEMS}}}query")
    | ours.spoiled(GOOD_STEP),
)
def test_the_leader_answers_every_request_once_and_hears_people_only(
    sender: str, kind: str, xml: ET.Element
) -> None:
    events: list[XmppEvent] = []
    sent: list[Iq] = []
    requests = Requests(XMPP.domain, events.append, sent.append)
    iq = stanza(Iq, "iq", sender, kind, [xml])
    if xml.tag.endswith("command"):
        requests.handle_command(iq)
    else:
        requests.handle_items_request(iq)
    if kind == "set" or (kind == "get" and xml.tag.endswith("query")):
        assert len(sent) + len(events) == (1 if xml.tag.endswith("command") or kind == "get" else 0)
    assert not events or sender == f"ana@{XMPP.domain}/phone"
    for event in events:
        assert isinstance(event, AdHoc | AdHocList)
        requests.answer_request(event.ref, FormRefusal("forbidden", "no"))
        assert len(sent) == 1


@given(ours.hostile(f"{{{ns.COMMANDS}}}command") | ours.spoiled(GOOD_REPLY))
def test_what_a_person_reads(xml: ET.Element) -> None:
    iq = stanza(Iq, "iq", f"{XMPP.coordinator}/leader", "result", [xml])
    with suppress(BadStanza):
        commands.reply_from_result(iq)
    with suppress(BadStanza):
        commands.listing_from_result(iq)
    commands.refusal_from_error(iq)


def test_too_many_commands_are_told_to_wait() -> None:
    sent: list[Iq] = []

    class Open:
        is_up = True
        send = sent.append

    async def main() -> None:
        async def obey(_: object) -> Any:
            raise AssertionError

        link = WorkerLink(XMPP, "node-a", "b", obey, site="iad", capacity_eps=1.0)
        link._session = Open()  # type: ignore[assignment]
        for _ in range(70):
            link._handle_command(
                stanza(Iq, "iq", f"{XMPP.coordinator}/leader", "set", [GOOD_COMMAND])
            )

    asyncio.run(main())
    assert [iq["error"]["condition"] for iq in sent] == ["resource-constraint"] * 6


@pytest.mark.parametrize(
    "text", ["", "1.0", "+1", " 1", "1 ", "٣", "0x1", "1e3", "9" * 30, "-1", None]
)
def test_what_is_no_whole_number(text: str | None) -> None:
    with pytest.raises(BadStanza):
        parse_integer(text, "n")


@given(st.text() | st.sampled_from(["nan", "inf", "-inf", "1e999", "1_0", "infinity", "-0.1"]))
@example("1e15")
def test_numbers_are_finite_and_bounded(text: str) -> None:
    with suppress(BadStanza):
        assert 0.0 <= parse_number(text, "x") <= 1e15


def test_a_worker_is_told_by_account_host_and_resource() -> None:
    from slixmpp import JID

    fleet = XMPP.fleet
    assert health.worker_from_jid(JID(f"node-a@{fleet}/etl"), fleet) == "node-a"
    assert health.worker_from_jid(JID(f"router-1@{fleet}/etl"), fleet) == "router-1"
    assert health.worker_from_jid(JID(f"analytics-1@{fleet}/etl"), fleet) == "analytics-1"
    for other in (
        f"node-a@{fleet}/x",
        f"node-a@{XMPP.domain}/etl",
        f"geolane@{fleet}/etl",
        f"node-@{fleet}/etl",
        f"xnode-a@{fleet}/etl",
        f"node-a@{fleet}",
        fleet,
    ):
        assert health.worker_from_jid(JID(other), fleet) is None
