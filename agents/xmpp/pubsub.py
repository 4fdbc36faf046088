"""Feeds. The coordinator publishes items in order, in a queue of limited length, and the room's
affiliations say who may read. A worker reads the feed `tuning`, where only the coordinator may
publish (PROTOCOL 4, who may what 1)."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from slixmpp.stanza import Message

from agents import settings
from agents.base import log
from agents.base.errors import CommandRefused, NoAnswer, NotConnected
from agents.core.model.feeds import CURRENT, TUNING, FeedItem, TuningValues
from agents.xmpp.client import Backoff, Session
from plugins import feeds
from plugins import feeds as stanzas
from plugins.feeds import Published
from plugins.values import BadStanza

LOG = log.get_logger("xmpp.feeds")
WAITING_ITEMS = 200
SESSIONS = 16
READERS = ("owner", "admin", "member")


class Publisher:
    """Publishes one item at a time. Of items `current` only the newest waits; if 200 items wait,
    the oldest is dropped."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._waiting: deque[FeedItem] = deque()
        self._there = asyncio.Event()

    def enqueue_item(self, item: FeedItem) -> None:
        """Enqueue an item."""
        if item.item_id == CURRENT:
            self._waiting = deque(
                x for x in self._waiting if (x.feed, x.item_id) != (item.feed, CURRENT)
            )
        if len(self._waiting) >= WAITING_ITEMS:
            dropped = self._waiting.popleft()
            LOG.warning("feed_item_dropped", feed=dropped.feed, item=dropped.item_id)
        self._waiting.append(item)
        self._there.set()

    async def run(self, session: Session) -> None:
        """Publish items until cancelled. A refused item is logged and dropped. Raises
        NotConnected."""
        while True:
            await self._there.wait()
            if not self._waiting:
                self._there.clear()
                continue
            item = self._waiting.popleft()
            payload = stanzas.item_to_entry(item, datetime.now(UTC))
            iq = stanzas.make_publish_request(
                session.stream.Iq(), self._service, item.feed, item.item_id, payload
            )
            try:
                await session.send_request(iq)
            except (CommandRefused, NoAnswer) as e:
                LOG.warning("feed_item_refused", feed=item.feed, item=item.item_id, why=str(e))


async def ensure_subscribed(session: Session, service: str, feeds: Iterable[str], jid: str) -> None:
    """Subscribe `jid` (bare, so that the subscription outlives the session) to those `feeds` to
    which it is not subscribed.

    Provisioning has subscribed it; this repairs the loss of a database. A missing feed is logged.
    Raises NotConnected, NoAnswer, CommandRefused (no subscriptions can be read)."""
    request = stanzas.make_own_subscriptions_request(session.stream.Iq(), service)
    subscribed = {
        feed
        for feed, who in stanzas.own_subscriptions_from_result(await session.send_request(request))
        if who == jid
    }
    for feed in sorted(set(feeds) - subscribed):
        try:
            await session.send_request(
                stanzas.make_subscribe_request(session.stream.Iq(), service, feed, jid)
            )
        except CommandRefused as e:
            LOG.warning("not_subscribed", feed=feed, why=str(e))


async def mirror_affiliations(
    session: Session,
    service: str,
    people_host: str,
    affiliations: Mapping[str, str],
    feeds: Iterable[str],
) -> None:
    """Give each feed the readers that the room's affiliations name (PROTOCOL 4, who may what 2).

    Only JIDs at `people_host` are changed. A person who may no longer read also loses the
    subscription, since the service continues to send to a subscriber without an affiliation. An
    account with more than SESSIONS subscribed sessions loses all of them: most are left by killed
    programs, and live ones subscribe again. Raises NotConnected, NoAnswer, CommandRefused."""
    may = {
        jid
        for jid, what in affiliations.items()
        if what in READERS and _is_at_host(jid, people_host)
    }
    for feed in feeds:
        now = stanzas.affiliations_from_result(
            await session.send_request(
                stanzas.make_affiliations_request(session.stream.Iq(), service, feed)
            )
        )
        people = {
            jid
            for jid, what in now.items()
            if what not in ("none", "outcast") and _is_at_host(jid, people_host)
        }
        changes = dict.fromkeys(sorted(may - people), "member") | dict.fromkeys(
            sorted(people - may), "none"
        )
        if changes:
            await session.send_request(
                stanzas.make_affiliations_change(session.stream.Iq(), service, feed, changes)
            )
        # Read after the affiliations are changed: from then on the service refuses a new
        # subscription of a person who may no longer read.
        subscribers = stanzas.subscribers_from_result(
            await session.send_request(
                stanzas.make_subscribers_request(session.stream.Iq(), service, feed)
            )
        )
        bare = {jid: jid.partition("/")[0] for jid in subscribers if _is_at_host(jid, people_host)}
        sessions = Counter(of for jid, of in bare.items() if jid != of)
        gone = [
            jid
            for jid, of in bare.items()
            if of not in may or (jid != of and sessions[of] > SESSIONS)
        ]
        if gone:
            await session.send_request(
                stanzas.make_subscriptions_removal(session.stream.Iq(), service, feed, gone)
            )


def _is_at_host(jid: str, host: str) -> bool:
    return jid.partition("/")[0].endswith(f"@{host}")


# A worker's subscription to the feed `tuning`

TUNING_LOG = log.get_logger("xmpp.tuning")


class TuningFeed:
    """Subscribes with the worker's full JID, so it must be fetched after every connect. `tuned` is
    called with each item; the last one is in force."""

    def __init__(self, xmpp: settings.Xmpp, tuned: Callable[[TuningValues], None]) -> None:
        self._xmpp, self._tuned = xmpp, tuned
        self._told = 0  # the number of items that were pushed to us

    def handle_message(self, message: Message) -> None:
        """Called by slixmpp's reader for every message."""
        for item in feeds.items_from_notification(message, self._xmpp.pubsub):
            self._told += 1
            self._apply_item(item)

    async def subscribe_and_fetch(self, session: Session) -> None:
        """Subscribe and read the newest item; retry until it succeeds or the session ends.

        An item that is pushed meanwhile is newer than the one read, since the answer may arrive
        after it; the read item is then ignored."""
        service, backoff = self._xmpp.pubsub, Backoff()
        while True:
            try:
                subscribe = feeds.make_subscribe_request(
                    session.make_iq("set", service), service, TUNING, session.jid
                )
                told = self._told
                await session.send_request(subscribe)
                request = feeds.make_last_item_request(
                    session.make_iq("get", service), service, TUNING
                )
                newest = feeds.items_from_result(await session.send_request(request))
            except (CommandRefused, NoAnswer) as e:
                TUNING_LOG.warning("tuning_not_read", why=str(e))
                await asyncio.sleep(backoff.next_wait_s())
            except NotConnected:
                return
            else:
                for item in newest[:1] if self._told == told else ():
                    self._apply_item(item)
                return

    def _apply_item(self, item: Published) -> None:
        if item.feed != TUNING or item.publisher.partition("/")[0] not in (
            "",
            self._xmpp.coordinator,
        ):
            return
        try:
            value = feeds.item_from_entry(item.feed, item.item_id, item.payload).element
        except BadStanza as e:
            TUNING_LOG.warning("tuning_not_understood", why=str(e))
            return
        if isinstance(value, TuningValues):
            self._tuned(value)
