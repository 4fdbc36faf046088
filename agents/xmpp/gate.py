"""Limits incoming XML before slixmpp makes a stanza of it: its depth, and its rate per sender.

slixmpp copies a stanza recursively for each handler, and 1,500 nested elements end the session.
Making a stanza takes ten times as long as parsing it. Without a limit, a sender of thousands of
stanzas per second would keep us from answering the server's pings."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from agents.base.token_bucket import TokenBucket
from plugins import namespaces as ns

DEPTH_AT_MOST = 64  # our stanzas and those of people's clients have at most 12 levels
SENDERS = 20_000  # the most senders whose budgets are remembered
WAITING = 5_000  # the most stanzas that wait for their sender's budget
TOLD_EVERY_S, TOLD_FROM = 30.0, 50  # the shortest time between reports; the fewest stanzas in one


@dataclass(frozen=True, slots=True)
class Budget:
    """Up to `burst` stanzas at once, and `per_s` more each second."""

    burst: float
    per_s: float


@dataclass(frozen=True, slots=True)
class Ticket:
    """The budget that a stanza uses. `state`: only the newest such stanza counts. If the budget is
    used up, it replaces a waiting one and waits; any other stanza is dropped."""

    key: str
    budget: Budget
    state: bool = False


@dataclass(slots=True)
class _Sender:
    bucket: TokenBucket
    dropped: int = 0
    told_at: float = float("-inf")


class Gate:
    """Passes, delays or drops stanzas by their sender's budget.

    `ticket`: the budget that a stanza uses; None: no limit. `deliver` takes a stanza that had to
    wait. `flooded` is called at most every 30 s per sender, with the number of its stanzas that
    were dropped or replaced since."""

    def __init__(
        self,
        ticket: Callable[[ET.Element], Ticket | None],
        deliver: Callable[[ET.Element], None],
        flooded: Callable[[str, int], None],
    ) -> None:
        self._ticket, self._deliver, self._flooded = ticket, deliver, flooded
        self._senders: OrderedDict[str, _Sender] = OrderedDict()
        self._waiting: dict[str, ET.Element] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()

    def passes(self, stanza: ET.Element) -> bool:
        """Whether the stanza may be handled now. If not, it waits or is dropped."""
        ticket = self._ticket(stanza)
        if ticket is None:
            return True
        now = self._loop.time()
        sender = self._find_sender(ticket)
        if ticket.key not in self._waiting and sender.bucket.try_take(now):
            return True
        if ticket.state and (ticket.key in self._waiting or len(self._waiting) < WAITING):
            if self._waiting.get(ticket.key) is None:
                wait_s = max(0.0, 1 - sender.bucket.tokens) / ticket.budget.per_s
                self._timers[ticket.key] = self._loop.call_later(
                    wait_s, self._deliver_waiting, ticket
                )
            else:
                sender.dropped += 1
            self._waiting[ticket.key] = stanza
        else:
            sender.dropped += 1
        if sender.dropped >= TOLD_FROM and now - sender.told_at >= TOLD_EVERY_S:
            sender.told_at = now
            self._flooded(ticket.key, sender.dropped)
            sender.dropped = 0
        return False

    def drop_waiting_stanza(self, key: str) -> None:
        """Drop the waiting stanza of this key."""
        self._waiting.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def close(self) -> None:
        """Drop all waiting stanzas."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()

    def _find_sender(self, ticket: Ticket) -> _Sender:
        sender = self._senders.get(ticket.key)
        if sender is None:
            budget = ticket.budget
            sender = self._senders[ticket.key] = _Sender(TokenBucket(budget.burst, budget.per_s))
            if len(self._senders) > SENDERS:
                self._senders.popitem(last=False)
        else:
            self._senders.move_to_end(ticket.key)
        return sender

    def _deliver_waiting(self, ticket: Ticket) -> None:
        self._timers.pop(ticket.key, None)
        stanza = self._waiting.pop(ticket.key, None)
        if stanza is not None:
            bucket = self._find_sender(ticket).bucket
            bucket.refill(self._loop.time())
            bucket.tokens -= 1
            self._deliver(stanza)


def is_too_deep(stanza: ET.Element) -> bool:
    """Whether it is nested deeper than DEPTH_AT_MOST; computed without recursion."""
    level = [stanza]
    for _ in range(DEPTH_AT_MOST):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True


def make_depth_refusal(stanza: ET.Element) -> str:
    """The answer to a request that is nested too deeply (RFC 6120 8.3.3.12); empty for a stanza
    that needs no answer."""
    if stanza.tag != f"{{{ns.CLIENT}}}iq" or stanza.get("type") not in ("get", "set"):
        return ""
    reply = ET.Element("iq", type="error", id=stanza.get("id", ""))
    if sender := stanza.get("from"):
        reply.set("to", sender)
    error = ET.SubElement(reply, "error", type="modify")
    ET.SubElement(error, "policy-violation", xmlns="urn:ietf:params:xml:ns:xmpp-stanzas")
    text = ET.SubElement(error, "text", xmlns="urn:ietf:params:xml:ns:xmpp-stanzas")
    text.text = f"nested deeper than {DEPTH_AT_MOST} elements"
    return ET.tostring(reply, encoding="unicode")
