"""What is written is read as what it was, through real bytes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from slixmpp.stanza import Iq, Presence

from agents.core.events import AdHoc
from agents.core.model.feeds import FeedItem, MoveItem
from agents.core.model.forms import (
    Field,
    FieldKind,
    Form,
    FormRefusal,
    FormReply,
    Listing,
    Mood,
    Remark,
    Status,
)
from agents.core.model.messages import (
    Announcement,
    AssignCommand,
    Grant,
    Health,
    Telemetry,
    WorkerAnswer,
    WorkerCommand,
)
from plugins import commands, feeds, health, lanes, telemetry
from plugins.values import replace_invalid_xml
from tests.plugins import support as ours


def wire(element: ET.Element) -> ET.Element:
    return ET.fromstring(ET.tostring(element, encoding="utf-8"))


def iq_with(element: ET.Element) -> Iq:
    iq = Iq()
    iq["type"] = "set"
    iq.xml.append(wire(element))
    return iq


@given(ours.announcements)
def test_an_announcement_survives(said: Announcement) -> None:
    presence = Presence(xml=wire(health.fill_presence(Presence(), said).xml))
    assert health.announcement_from_presence(presence, said.worker) == said


def test_unavailable_needs_no_boot() -> None:
    gone = Announcement("node-a", Health.UNAVAILABLE)
    assert (
        health.announcement_from_presence(health.fill_presence(Presence(), gone), "node-a") == gone
    )


@given(ours.telemetries)
def test_telemetry_survives(value: Telemetry) -> None:
    assert telemetry.telemetry_from_xml(wire(telemetry.telemetry_to_xml(value))) == value


@given(ours.commands)
def test_a_command_survives(command: WorkerCommand) -> None:
    assert lanes.command_from_iq(iq_with(lanes.command_to_xml(command))) == command


@given(ours.answers)
def test_an_answer_survives(answer: WorkerAnswer) -> None:
    assert (
        lanes.answer_from_result(iq_with(lanes.answer_to_xml(f"{lanes.NODE_PREFIX}assign", answer)))
        == answer
    )


@given(ours.steps)
def test_a_step_of_an_operators_command_survives(asked: AdHoc) -> None:
    iq = iq_with(
        commands.command_step_to_xml(asked.command, asked.session, asked.action, asked.fields)
    )
    assert commands.command_step_from_iq(iq, asked.ref, asked.jid) == asked


@given(ours.replies)
def test_a_stage_with_its_form_survives(reply: FormReply) -> None:
    sent = commands.make_answer(iq_with(commands.command_step_to_xml("x")), reply)
    assert commands.reply_from_result(Iq(xml=wire(sent.xml))) == reply


@given(ours.refusals)
def test_a_refused_step_survives(refused: FormRefusal) -> None:
    sent = commands.make_answer(iq_with(commands.command_step_to_xml("x")), refused)
    assert commands.refusal_from_error(Iq(xml=wire(sent.xml))) == refused


@given(ours.listings)
def test_a_list_of_commands_survives(listing: Listing) -> None:
    request = commands.make_items_request(Iq())
    assert commands.is_items_request(request)
    assert commands.is_list_request(request)
    assert (
        commands.listing_from_result(Iq(xml=wire(commands.make_answer(request, listing).xml)))
        == listing
    )


@given(st.integers(0, 10**15))
def test_a_refusal_tells_the_epoch_that_was_seen(seen: int) -> None:
    refused = lanes.make_refusal(
        iq_with(lanes.command_to_xml(AssignCommand(1, "b", "main/x", ()))), "conflict", "no", seen
    )
    read = Iq(xml=wire(refused.xml))
    assert (read["type"], read["error"]["condition"], read["error"]["type"]) == (
        "error",
        "conflict",
        "cancel",
    )
    assert lanes.stale_epoch_from_error(read) == seen


@given(ours.feed_items)
def test_a_feed_item_survives(item: FeedItem) -> None:
    entry = wire(feeds.item_to_entry(item, datetime.now(UTC)))
    assert feeds.item_from_entry(item.feed, item.item_id, entry) == item


@given(st.text())
def test_clean_text_can_be_sent_and_read(text: str) -> None:
    element = ET.Element("x")
    element.text = replace_invalid_xml(text)
    assert wire(element).text in (
        replace_invalid_xml(text).replace("\r\n", "\n").replace("\r", "\n"),
        None,
    )


def test_an_assign_looks_as_the_protocol_says() -> None:
    command = AssignCommand(
        4, "01JD8Q", "main/events.lanes", (Grant(12, 7, 104422), Grant(31, 2, 0))
    )
    expected = """
    <command xmlns='http://jabber.org/protocol/commands' node='urn:geolane:lanes:1#assign' action='execute'>
     <x xmlns='jabber:x:data' type='submit'>
      <field var='FORM_TYPE' type='hidden'><value>urn:geolane:lanes:1#assign</value></field>
      <field var='leader_epoch'><value>4</value></field>
      <field var='boot'><value>01JD8Q</value></field>
      <field var='topic'><value>main/events.lanes</value></field>
      <field var='lanes' type='text-multi'><value>12 7 104422</value><value>31 2 0</value></field>
     </x></command>"""  # noqa: E501
    canonical = [
        ET.canonicalize(x, strip_text=True)
        for x in (ET.tostring(lanes.command_to_xml(command)), expected)
    ]
    assert plain(canonical[0]) == plain(canonical[1])


def test_a_dry_run_looks_as_the_documentation_says() -> None:
    form = Form(
        "drain iad-1", "Read it.", (Field("text", FieldKind.FIXED, value="Lane 3 would go."),)
    )
    reply = FormReply(
        "drain",
        "9f3a",
        Status.EXECUTING,
        form,
        (Remark(Mood.WARN, "It has changed."),),
        ("complete", "prev"),
        (MoveItem(3, "iad-1", "ams-2", 0, 2.1),),
    )
    expected = """
    <command xmlns='http://jabber.org/protocol/commands' node='urn:geolane:operator:1#drain' sessionid='9f3a' status='executing'>
     <actions execute='complete'><prev/><complete/></actions><note type='warn'>It has changed.</note>
     <x xmlns='jabber:x:data' type='form'><title>drain iad-1</title><instructions>Read it.</instructions>
      <field var='FORM_TYPE' type='hidden'><value>urn:geolane:operator:1#drain</value></field>
      <field var='text' type='fixed'><value>Lane 3 would go.</value></field></x>
     <placement xmlns='urn:geolane:placement:1' total='1'>
      <move lane='3' from='iad-1' to='ams-2' epoch='0' delta_ms='2.1'/></placement></command>"""  # noqa: E501
    sent = commands.make_answer(iq_with(commands.command_step_to_xml("x")), reply).xml[0]
    canonical = [ET.canonicalize(x, strip_text=True) for x in (ET.tostring(sent), expected)]
    assert plain(canonical[0]) == plain(canonical[1])


def test_a_text_has_a_field_for_each_line_that_a_narrow_client_can_show() -> None:
    long = "Moves: " + ", ".join(f"{n} to fra-1 (+1.2 ms)" for n in range(12)) + "."
    value = f"Drain iad-1: 12 lanes would move away.\n\n{long}\n{'x' * 200}\nEnd."
    form = Form("drain iad-1", "", (Field("text", FieldKind.FIXED, value=value),))
    reply = FormReply("drain", "9f3a", Status.EXECUTING, form)
    sent = commands.make_answer(iq_with(commands.command_step_to_xml("x")), reply)
    fields = [x for x in sent.xml.iter("{jabber:x:data}field") if x.get("type") == "fixed"]
    lines = ["".join(x.itertext()) for x in fields]
    assert [len(line) > 44 for line in lines].count(True) == 1, "only the word that is longer"
    assert not any("\n" in line for line in lines)
    assert len({x.get("var") for x in fields}) == len(fields) > 6
    assert commands.reply_from_result(Iq(xml=wire(sent.xml))) == reply


def plain(canonical: str) -> list[tuple[str, dict[str, str], str | None]]:
    return [(x.tag, dict(x.attrib), x.text) for x in ET.fromstring(canonical).iter()]
