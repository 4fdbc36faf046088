"""A worker's subscription to the feed `tuning`: with its full JID, and fetched after every connect (PROTOCOL 4, who may what 1).

The service lets nobody but the coordinator publish there; what came last holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from slixmpp.stanza import Message

from agents import log, settings
from agents.core.feeds import TUNING, TuningValues
from agents.errors import CommandRefused, NoAnswer, NotConnected
from agents.xmpp.client import Backoff, Session
from plugins import feeds
from plugins.feeds import Published
from plugins.values import BadStanza

LOG = log.get("xmpp.tuning")


class TuningFeed:
    """`tuned` is given what the workers are told, each time it comes."""

    def __init__(self, xmpp: settings.Xmpp, tuned: Callable[[TuningValues], None]) -> None:
        self._xmpp, self._tuned = xmpp, tuned
        self._told = 0  # items that came by themselves

    def message(self, message: Message) -> None:
        """Called by slixmpp's reader for every message."""
        for item in feeds.published_in(message, self._xmpp.pubsub):
            self._told += 1
            self._take(item)

    async def fetch(self, session: Session) -> None:
        """Subscribe, and read the newest item; again until that has worked or the session is over.

        An item that comes by itself meanwhile is newer than what is read: the server may answer after it."""
        service, backoff = self._xmpp.pubsub, Backoff()
        while True:
            try:
                subscribe = feeds.subscribe_request(session.iq("set", service), service, TUNING, session.jid)
                told = self._told
                await session.request(subscribe)
                request = feeds.last_item_request(session.iq("get", service), service, TUNING)
                newest = feeds.published_of_result(await session.request(request))
            except (CommandRefused, NoAnswer) as e:
                LOG.warning("tuning_not_read", why=str(e))
                await asyncio.sleep(backoff.next_s())
            except NotConnected:
                return
            else:
                for item in newest[:1] if self._told == told else ():
                    self._take(item)
                return

    def _take(self, item: Published) -> None:
        if item.feed != TUNING or item.publisher.partition("/")[0] not in ("", self._xmpp.coordinator):
            return
        try:
            value = feeds.entry_of(item.feed, item.item_id, item.payload).element
        except BadStanza as e:
            LOG.warning("tuning_not_understood", why=str(e))
            return
        if isinstance(value, TuningValues):
            self._tuned(value)
