"""Whoever is not who they should be is not obeyed, not seen and not believed (PROTOCOL 4, who may
what)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from slixmpp.exceptions import IqError
from slixmpp.stanza import Iq

from agents.core.events import TelemetryIn, WorkerSeen
from agents.core.model.geo import GeoAnswer, GeoCommand, NamesAnswer, PlaceCommand
from agents.core.model.messages import (
    Announcement,
    DrainCommand,
    Health,
    LanesCommand,
    Telemetry,
    WorkerCommand,
)
from agents.xmpp.client import Handlers, Login, Session
from plugins import feeds, geo, health, lanes, telemetry
from plugins import namespaces as ns
from tests.fixtures.xmpp import XmppServer
from tests.xmpp.conftest import Links, Worker


@asynccontextmanager
async def session(server: XmppServer, account: str, resource: str = "x") -> AsyncIterator[Session]:
    login = Login(server.settings(account), f"{server.jid(account)}/{resource}")
    async with Session(login, Handlers()) as made:
        made.send(made.stream.make_presence())
        yield made


def command(sender: Session, worker: Worker, what: WorkerCommand | GeoCommand) -> Iq:
    iq = sender.make_iq("set", f"{worker.account}@{sender.login.xmpp.fleet}/etl")
    if isinstance(what, GeoCommand):
        iq.xml.append(geo.command_to_xml(what))
    else:
        iq.xml.append(lanes.command_to_xml(what))
    return iq


async def refused(sender: Session, iq: Iq) -> str:
    with pytest.raises(IqError) as error:
        await sender.send_iq(iq)
    return str(error.value.condition)


async def test_a_command_from_anyone_but_the_leader_is_forbidden(links: Links) -> None:
    server = links.server
    worker = await links.worker()
    asked: list[GeoCommand] = []

    async def answer(command: GeoCommand) -> GeoAnswer:
        asked.append(command)
        return NamesAnswer(())

    worker.link._answer_geo = answer
    commands = (DrainCommand(99, "boot1"), PlaceCommand(99, "boot1", "Paris"))
    for account, resource in (
        (await server.stranger(), "leader"),
        (await server.person("owner"), "leader"),
        (await server.worker(), "etl"),
        ("geolane", "standby-x"),
        ("geolane", "Leader"),
    ):
        async with session(server, account, resource) as sender:
            for what in commands:
                assert await refused(sender, command(sender, worker, what)) == "forbidden"
    assert (worker.commands, asked) == ([], [])


async def test_a_malformed_command_is_a_bad_request_and_the_worker_goes_on(links: Links) -> None:
    worker = await links.worker()
    async with session(links.server, "geolane", "leader") as leader:

        def broken(xml: str) -> Iq:
            iq = leader.make_iq("set", f"{worker.account}@{leader.login.xmpp.fleet}/etl")
            iq.xml.append(ET.fromstring(xml))
            return iq

        node = f"{ns.LANES}#assign"
        for inside in (
            "",
            "<x xmlns='jabber:x:data' type='submit'/>",
            "<x xmlns='jabber:x:data' type='cancel'/>",
            "<x xmlns='jabber:x:data' type='submit'><field "
            f"var='FORM_TYPE'><value>{node}</value></field></x>" * 2,
            "<x xmlns='jabber:x:data' type='submit'><field "
            f"var='FORM_TYPE'><value>{node}</value></field>"
            "<field var='leader_epoch'><value>NaN</value></field></x>",
        ):
            xml = (
                f"<command xmlns='{ns.COMMANDS}' node='{node}' action='execute'>{inside}</command>"
            )
            assert await refused(leader, broken(xml)) == "bad-request"
        for xml in (
            f"<command xmlns='{ns.COMMANDS}' node='{ns.LANES}#destroy'/>",
            f"<command xmlns='{ns.COMMANDS}'/>",
            f"<command xmlns='{ns.COMMANDS}' node='{node}' action='cancel'/>",
        ):
            assert await refused(leader, broken(xml)) == "bad-request"
        await leader.send_request(command(leader, worker, LanesCommand(4, "boot1")))
    assert worker.commands == [LanesCommand(4, "boot1")]


async def test_only_the_worker_itself_at_its_resource_is_seen(links: Links) -> None:
    server = links.server
    leader = await links.coordinator()
    victim, other = await server.worker(), await server.worker()
    to = f"{server.settings().coordinator}/leader"
    said = Announcement(victim, Health.XA, "boot1", "lying", "", "iad", 1.0)
    for account, resource in (
        (await server.stranger(), "etl"),
        (await server.person("owner"), "etl"),
        (other, "x"),
    ):
        async with session(server, account, resource) as sender:
            presence = health.fill_presence(sender.stream.Presence(), said)
            presence["to"] = to
            sender.send(presence)
            await sender.send_iq(
                _ping(sender, to)
            )  # the reader works in order: the presence has been read
    assert [e for e in leader.of(WorkerSeen) if e.announcement.state == "lying"] == []


async def test_an_event_that_the_service_did_not_send_is_not_believed(links: Links) -> None:
    server = links.server
    leader = await links.coordinator()
    victim = await server.worker()
    to = f"{server.settings().coordinator}/leader"
    value = Telemetry("boot1", 1, "now", 0.0, 1.0)
    for account in (await server.stranger(), await server.worker(), victim):
        async with session(server, account, "etl") as sender:
            message = sender.stream.Message(sto=to, stype="headline")
            event = ET.SubElement(message.xml, f"{{{ns.PUBSUB_EVENT}}}event")
            items = ET.SubElement(
                event, f"{{{ns.PUBSUB_EVENT}}}items", node=telemetry.feed_of_worker(victim)
            )
            publisher = f"{server.jid(victim)}/etl"
            item = ET.SubElement(
                items, f"{{{ns.PUBSUB_EVENT}}}item", id="current", publisher=publisher
            )
            item.append(telemetry.telemetry_to_xml(value))
            sender.send(message)
            await sender.send_iq(_ping(sender, to))
    assert leader.of(TelemetryIn) == []


async def test_telemetry_from_another_resource_of_the_worker_is_not_believed(links: Links) -> None:
    server = links.server
    leader = await links.coordinator()
    worker = await server.worker()
    service, feed = server.settings().pubsub, telemetry.feed_of_worker(worker)
    for resource, seq in (("elsewhere", 1), ("etl", 2)):
        async with session(server, worker, resource) as sender:
            item = telemetry.telemetry_to_xml(Telemetry("boot1", seq, "now", 0.0, 1.0))
            await sender.send_request(
                feeds.make_publish_request(sender.stream.Iq(), service, feed, "current", item)
            )
            await sender.send_iq(_ping(sender, f"{server.settings().coordinator}/leader"))
    assert [e.telemetry.seq for e in leader.of(TelemetryIn)] == [2]


async def test_a_subscription_request_is_declined(links: Links) -> None:
    worker = await links.worker()
    server = links.server
    async with session(server, await server.stranger()) as sender:
        sender.stream.send_presence_subscription(pto=server.jid(worker.account))
        sender.send(sender.stream.Message(sto=f"{server.jid(worker.account)}/etl", stype="chat"))
        assert (
            await refused(sender, command(sender, worker, LanesCommand(1, "boot1"))) == "forbidden"
        )
    assert worker.link.is_up


def _ping(sender: Session, to: str) -> Iq:
    iq = sender.make_iq("get", to)
    ET.SubElement(iq.xml, f"{{{ns.PING}}}ping")
    return iq
