"""Has the server hold back what one account sends us, for a while (XEP-0191).

A budget per sender (gate.py) makes a flood cheap to read, but all of it still comes down the one
connection of the leader, before the answers and pings that it waits for. Blocked, it ends at the
server. The server keeps the list: each leader begins with an empty one."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from contextlib import suppress

from agents.base import log
from agents.base.errors import CommandRefused, NoAnswer
from agents.xmpp.client import Session
from plugins import namespaces as ns

LOG = log.get("xmpp.blocking")
BLOCK_S = 60.0
MAX_BLOCKED = 200
PROBE_AFTER_S = (0.0, 3.0, 15.0)


class Blocker:
    """The accounts that the server holds back for `session`, each for BLOCK_S."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._until: dict[str, float] = {}  # by bare JID; the event loop's time
        self._new: list[str] = []
        self._told = asyncio.Event()
        self._probes: list[tuple[float, str]] = []  # when, whom
        self._supported = True

    def block(self, bare: str) -> bool:
        """Whether it is, or will be at once. Only enqueues."""
        if not self._supported or (bare not in self._until and len(self._until) >= MAX_BLOCKED):
            return False
        if bare not in self._until:
            self._new.append(bare)
            self._told.set()
        self._until[bare] = asyncio.get_running_loop().time() + BLOCK_S
        return True

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        await self._change("unblock", ())
        while True:
            self._told.clear()
            new, self._new = self._new, []
            if new:
                await self._change("block", new)
            over = [bare for bare, until in self._until.items() if until <= loop.time()]
            if over and await self._change("unblock", over):
                for bare in over:
                    del self._until[bare]
                    self._probes += [(loop.time() + after_s, bare) for after_s in PROBE_AFTER_S]
            self._probe()
            due = [*self._until.values(), *(at for at, _ in self._probes), loop.time() + BLOCK_S]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(max(min(due), loop.time() + 1.0)):
                    await self._told.wait()

    def _probe(self) -> None:
        """The server says nothing of what it has held back, and goes on holding back for a moment
        (ejabberd 23.01): ask how they are, and again after that moment."""
        now = asyncio.get_running_loop().time()
        for at, bare in list(self._probes):
            if at <= now:
                self._probes.remove((at, bare))
                self._session.send(self._session.stream.make_presence(pto=bare, ptype="probe"))

    async def _change(self, what: str, accounts: Iterable[str]) -> bool:
        """Whether it is done. `unblock` without accounts: all."""
        iq = self._session.stream.Iq()
        iq["type"] = "set"
        command = ET.SubElement(iq.xml, f"{{{ns.BLOCKING}}}{what}")
        for bare in accounts:
            ET.SubElement(command, f"{{{ns.BLOCKING}}}item", jid=bare)
        try:
            await self._session.request(iq)
        except CommandRefused as e:
            self._supported = False
            LOG.warning(
                "blocking_not_supported", why=str(e), todo="mod_blocking at the fleet's host"
            )
        except NoAnswer as e:
            LOG.warning("blocking_unanswered", what=what, why=str(e))
            return False
        return True
