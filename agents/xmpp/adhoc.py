"""Requests from people's clients that wait for the core's answer. The sender of each is checked;
then it becomes an event and is answered once."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from slixmpp import JID, InvalidJID
from slixmpp.stanza import Iq

from agents.base.errors import NotConnected
from agents.core.events import AdHocList, XmppEvent
from agents.core.model.forms import FormAnswer, FormRefusal
from plugins import commands
from plugins import namespaces as ns
from plugins.values import BadStanza

WAITING = 200


class Requests:
    """Accepts requests from the accounts of the host `people`. `emit` only enqueues; `send` sends
    or raises NotConnected. Up to WAITING requests wait; beyond that, the oldest is refused."""

    def __init__(
        self, people: str, emit: Callable[[XmppEvent], None], send: Callable[[Iq], None]
    ) -> None:
        self._people, self._emit, self._send = people, emit, send
        self._waiting: OrderedDict[str, Iq] = OrderedDict()
        self._refs = itertools.count(1)

    def handle_items_request(self, iq: Iq) -> None:
        """Called for every disco#items. The core lists the commands; every other list is empty."""
        if not commands.is_items_request(iq):
            return
        if not commands.is_list_request(iq):
            reply = iq.reply()
            query = iq.xml.find(f"{{{ns.DISCO_ITEMS}}}query")
            reply.xml.append(ET.Element(query.tag, query.attrib))
            self._send_reply(reply)
        elif jid := self._person_who_sent(iq):
            self._emit(AdHocList(self._keep_under_new_ref(iq), jid))
        else:
            self._send_reply(commands.make_answer(iq, FormRefusal("forbidden", _ONLY)))

    def handle_command(self, iq: Iq) -> None:
        """Called for every IQ with a `<command/>`."""
        if iq["type"] not in ("get", "set"):
            return
        jid = self._person_who_sent(iq)
        if not jid:
            self._send_reply(commands.make_answer(iq, FormRefusal("forbidden", _ONLY)))
            return
        try:
            if iq["type"] != "set":
                raise BadStanza("type: set is needed")
            asked = commands.command_step_from_iq(iq, str(next(self._refs)), jid)
        except BadStanza as e:
            self._send_reply(
                commands.make_answer(iq, FormRefusal("bad-request", str(e), "bad-payload"))
            )
            return
        self._keep_request(asked.ref, iq)
        self._emit(asked)

    def answer_request(self, ref: str, answer: FormAnswer) -> None:
        """Answer the request `ref`; nothing happens if it no longer waits."""
        iq = self._waiting.pop(ref, None)
        if iq is not None:
            self._send_reply(commands.make_answer(iq, answer))

    def _person_who_sent(self, iq: Iq) -> str:
        try:
            sender = JID(iq.xml.get("from", ""))
        except InvalidJID:
            return ""
        return str(sender.bare) if sender.domain == self._people and sender.local else ""

    def _keep_under_new_ref(self, iq: Iq) -> str:
        ref = str(next(self._refs))
        self._keep_request(ref, iq)
        return ref

    def _keep_request(self, ref: str, iq: Iq) -> None:
        self._waiting[ref] = iq
        if len(self._waiting) > WAITING:
            _, oldest = self._waiting.popitem(last=False)
            self._send_reply(
                commands.make_answer(
                    oldest, FormRefusal("resource-constraint", "Too many requests wait.")
                )
            )

    def _send_reply(self, reply: Iq) -> None:
        with suppress(NotConnected):  # the client sees that we are offline
            self._send(reply)


_ONLY = "Only people of this fleet's own server are answered here."
