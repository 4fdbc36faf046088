"""Operator commands as a person's client gives them, by form, and what the feeds tell a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager

from agents.base.errors import CommandRefused, NotConnected
from agents.core.model.feeds import FLEET, FleetSummary, TroubleRow
from agents.core.model.forms import TEXT, FormReply, Status
from agents.xmpp.operator_client import OperatorClient
from plugins.feeds import item_from_entry
from tests.stack.conftest import Running


def text(reply: FormReply) -> str:
    assert reply.form is not None
    return next(f.value for f in reply.form.fields if f.var == TEXT)


async def step(
    person: OperatorClient,
    command: str,
    session: str = "",
    action: str = "execute",
    fields: Mapping[str, str] | None = None,
) -> FormReply:
    """One step, again while the leader says to wait, or the next one only begins to lead."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await person.send_command_step(command, session, action, fields)
            except CommandRefused as e:
                if e.condition != "resource-constraint":
                    raise
            except NotConnected:
                pass
            await asyncio.sleep(0.3)


async def confirmed(person: OperatorClient, command: str, **fields: str) -> FormReply:
    """Confirm the dry run, anew when the fleet has changed meanwhile."""
    reply = await step(person, command, fields=fields)
    for _ in range(10):
        if reply.status is not Status.EXECUTING:
            break
        reply = await step(person, command, reply.session, "complete")
    return reply


@asynccontextmanager
async def operator(running: Running) -> AsyncIterator[OperatorClient]:
    """Of the room's owners."""
    async with OperatorClient(running.login("operator"), "operator") as person:
        yield person


async def status(person: OperatorClient) -> str:
    return text(await step(person, "status"))


async def told(
    person: OperatorClient, wanted: Callable[[list[TroubleRow]], bool], timeout_s: float = 60
) -> list[TroubleRow]:
    """The rows of the feed `fleet`, as soon as they are as wanted."""
    async with asyncio.timeout(timeout_s), aclosing(person.watch_feed(FLEET)) as items:
        async for item in items:
            summary = item_from_entry(item.feed, item.item_id, item.payload).element
            assert isinstance(summary, FleetSummary)
            assert summary.troubles is not None
            if wanted(list(summary.troubles.rows)):
                return list(summary.troubles.rows)
    raise AssertionError("the feed ended")
