"""Operator commands between people's clients and the leader, through the real server; the core's
part is played by the test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.base.errors import CommandRefused, NotConnected
from agents.core.events import AdHoc, AdHocList
from agents.core.model.forms import (
    TEXT,
    Field,
    FieldKind,
    Form,
    FormRefusal,
    FormReply,
    Listing,
    Option,
    Status,
)
from agents.xmpp.operator_client import OperatorClient
from plugins import namespaces as ns
from plugins.commands import NODE_PREFIX, command_step_to_xml, make_items_request
from tests.xmpp.conftest import Coordinator, Links, until

LISTED = Listing((Option("status", "status: the state of the fleet"),))


async def asked(leader: Coordinator, kind: Any, count: int = 1) -> Any:
    """The newest event of that kind, once there are so many."""
    await until(lambda: len(leader.of(kind)) >= count)
    return leader.of(kind)[-1]


async def test_a_step_goes_to_the_core_and_its_answer_back(links: Links) -> None:
    leader = await links.coordinator()
    name = await links.server.person("admin")
    async with OperatorClient(links.server.settings(name), name) as ana:
        waiting = asyncio.create_task(
            ana.send_command_step("drain", "", "execute", {"node": "iad-1"})
        )
        event = await asked(leader, AdHoc)
        assert (event.jid, event.command, event.action, event.fields) == (
            ana.jid,
            "drain",
            "execute",
            {"node": "iad-1"},
        )
        form = Form("drain iad-1", "", (Field(TEXT, FieldKind.FIXED, value="Lanes would go."),))
        reply = FormReply("drain", "s1", Status.EXECUTING, form, (), ("complete", "prev"))
        leader.link.answer_request(event.ref, reply)
        assert await waiting == reply
        leader.link.answer_request(event.ref, reply)  # a second answer goes nowhere


async def test_the_list_is_asked_of_the_core_and_named_by_the_leader(links: Links) -> None:
    leader = await links.coordinator()
    name = await links.server.person()
    async with OperatorClient(links.server.settings(name), name) as ana:
        waiting = asyncio.create_task(ana.list_commands())
        event = await asked(leader, AdHocList)
        assert event.jid == ana.jid
        leader.link.answer_request(event.ref, LISTED)
        assert await waiting == LISTED
        disco = ana.session.stream.plugin["xep_0030"]
        jid = f"{links.server.settings().coordinator}/leader"
        info = (await disco.get_info(jid=jid, cached=False, timeout=5))["disco_info"]
        assert {ns.COMMANDS, ns.OPERATOR} <= set(info["features"])
        node = NODE_PREFIX + "drain"
        info = (await disco.get_info(jid=jid, node=node, cached=False, timeout=5))["disco_info"]
        assert ("automation", "command-node", None, "drain") in info["identities"]
        assert ns.DATA in info["features"]
        assert not (await disco.get_items(jid=jid, timeout=5))["disco_items"]["items"]


async def test_a_refusal_comes_as_an_error_with_its_reason(links: Links) -> None:
    leader = await links.coordinator()
    name = await links.server.person()
    async with OperatorClient(links.server.settings(name), name) as ana:
        waiting = asyncio.create_task(ana.send_command_step("drain", "s1", "complete"))
        event = await asked(leader, AdHoc)
        leader.link.answer_request(
            event.ref, FormRefusal("bad-request", "Begin again.", "bad-sessionid")
        )
        with pytest.raises(CommandRefused) as refused:
            await waiting
        error = refused.value
        assert (error.condition, error.text, error.detail) == (
            "bad-request",
            "Begin again.",
            "bad-sessionid",
        )


async def test_agents_of_the_fleet_are_not_people(links: Links) -> None:
    leader = await links.coordinator()
    worker = await links.worker()
    session = worker.link._session
    assert session is not None
    jid = f"{links.server.settings().coordinator}/leader"
    command = session.make_iq("set", jid)
    command.xml.append(command_step_to_xml("status"))
    for iq in (command, make_items_request(session.make_iq("get", jid))):
        with pytest.raises(CommandRefused, match="forbidden"):
            await session.send_request(iq)
    assert not leader.of(AdHoc)
    assert not leader.of(AdHocList)


async def test_where_nobody_leads_one_is_told_so(links: Links) -> None:
    name = await links.server.person()
    async with OperatorClient(links.server.settings(name), name) as ana:
        with pytest.raises(NotConnected, match="no coordinator leads"):
            await ana.send_command_step("status")


async def test_requests_beyond_the_bound_are_told_to_wait(
    links: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.xmpp.adhoc.WAITING", 1)
    leader = await links.coordinator()
    name = await links.server.person()
    async with OperatorClient(links.server.settings(name), name) as ana:
        first = asyncio.create_task(ana.send_command_step("status"))
        await asked(leader, AdHoc)
        second = asyncio.create_task(ana.send_command_step("status"))
        with pytest.raises(CommandRefused, match="resource-constraint"):
            await first
        event = await asked(leader, AdHoc, 2)
        leader.link.answer_request(event.ref, FormRefusal("forbidden", "no"))
        with pytest.raises(CommandRefused, match="forbidden"):
            await second
