"""Operator commands as a person's client gives them, by form."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agents.core.forms import TEXT, Reply, Status
from agents.errors import CommandRefused
from agents.xmpp.person import Person


def text(reply: Reply) -> str:
    assert reply.form is not None
    return next(f.value for f in reply.form.fields if f.var == TEXT)


async def step(
    person: Person, command: str, session: str = "", action: str = "execute", fields: Mapping[str, str] | None = None
) -> Reply:
    """One step, again while the leader says to wait."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await person.operate(command, session, action, fields)
            except CommandRefused as e:
                if e.condition != "resource-constraint":
                    raise
                await asyncio.sleep(0.3)


async def confirmed(person: Person, command: str, **fields: str) -> Reply:
    """Confirm the dry run, anew when the fleet has changed meanwhile."""
    reply = await step(person, command, fields=fields)
    for _ in range(10):
        if reply.status is not Status.EXECUTING:
            break
        reply = await step(person, command, reply.session, "complete")
    return reply
