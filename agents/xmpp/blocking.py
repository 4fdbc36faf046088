"""Makes the server block the stanzas of one account for a while (XEP-0191).

A budget per sender (gate.py) makes a flood cheap to read. The flood still uses the leader's one
connection, ahead of the answers and pings that the leader waits for; a block stops it at the
server. The server stores the block list, so each leader begins by clearing it."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from contextlib import suppress

from agents.base import log
from agents.base.errors import CommandRefused, NoAnswer
from agents.xmpp.client import Session
from plugins import namespaces as ns

LOG = log.get_logger("xmpp.blocking")
BLOCK_S = 60.0
MAX_BLOCKED = 200
PROBE_AFTER_S = (0.0, 3.0, 15.0)


class Blocker:
    """Blocks accounts for `session`, each for BLOCK_S and at most MAX_BLOCKED at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._until: dict[str, float] = {}  # by bare JID; the event loop's time
        self._new: list[str] = []
        self._told = asyncio.Event()
        self._probes: list[tuple[float, str]] = []  # when to probe, and whom
        self._supported = True

    def block_account(self, bare: str) -> bool:
        """Whether it is blocked, or will be at once. Only enqueues. An account that is blocked and
        still floods is blocked again: the server may have forgotten it."""
        if not self._supported or (bare not in self._until and len(self._until) >= MAX_BLOCKED):
            return False
        if bare not in self._new:
            self._new.append(bare)
            self._told.set()
        self._until[bare] = asyncio.get_running_loop().time() + BLOCK_S
        return True

    def is_blocked(self, bare: str) -> bool:
        """Whether this account is blocked, or will be at once."""
        return bare in self._until

    async def run(self) -> None:
        """Block and unblock accounts until cancelled."""
        loop = asyncio.get_running_loop()
        await self._clear_block_list()
        while True:
            self._told.clear()
            new, self._new = self._new, []
            if new and not await self._change_block_list("block", new):
                self._new += [bare for bare in new if bare not in self._new]
            over = [bare for bare, until in self._until.items() if until <= loop.time()]
            if over and await self._change_block_list("unblock", over):
                for bare in over:
                    if bare in self._new:
                        continue  # it has flooded meanwhile, and is blocked again in the next turn
                    self._until.pop(bare, None)
                    self._probes += [(loop.time() + after_s, bare) for after_s in PROBE_AFTER_S]
            self._probe_unblocked()
            next_turn_s = loop.time() + (1.0 if self._new else BLOCK_S)
            due = [*self._until.values(), *(at for at, _ in self._probes), next_turn_s]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(max(min(due), loop.time() + 1.0)):
                    await self._told.wait()

    async def _clear_block_list(self) -> None:
        """Unblock what a leader before this one has blocked."""
        iq = self._session.stream.Iq()
        iq["type"] = "get"
        ET.SubElement(iq.xml, f"{{{ns.BLOCKING}}}blocklist")
        try:
            answer = await self._session.send_request(iq)
        except (CommandRefused, NoAnswer) as e:
            LOG.warning("blocklist_unread", why=str(e))
            return
        blocked = [x.get("jid", "") for x in answer.xml.iter(f"{{{ns.BLOCKING}}}item")]
        if blocked:
            await self._change_block_list("unblock", blocked)

    def _probe_unblocked(self) -> None:
        """Ask for the presence of accounts that were unblocked, now and again a little later.

        The server does not tell what it has blocked, and continues to block for a moment (ejabberd
        23.01)."""
        now = asyncio.get_running_loop().time()
        for at, bare in list(self._probes):
            if at <= now:
                self._probes.remove((at, bare))
                self._session.send(self._session.stream.make_presence(pto=bare, ptype="probe"))

    async def _change_block_list(self, what: str, accounts: Iterable[str]) -> bool:
        """Send the change; returns False if it was not answered. `unblock` without accounts
        unblocks all."""
        iq = self._session.stream.Iq()
        iq["type"] = "set"
        command = ET.SubElement(iq.xml, f"{{{ns.BLOCKING}}}{what}")
        for bare in accounts:
            ET.SubElement(command, f"{{{ns.BLOCKING}}}item", jid=bare)
        try:
            await self._session.send_request(iq)
        except CommandRefused as e:
            self._supported = False
            self._until.clear()
            LOG.warning(
                "blocking_not_supported", why=str(e), todo="mod_blocking at the fleet's host"
            )
        except NoAnswer as e:
            LOG.warning("blocking_unanswered", what=what, why=str(e))
            return False
        return True
