"""The coordinator's feeds: items go out in order and never pile up; who may read follows the room's
affiliations."""

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

LOG = log.get("xmpp.feeds")
WAITING_ITEMS = 200
SESSIONS = 16
READERS = ("owner", "admin", "member")


class Publisher:
    """Publishes one item at a time. Of an item `current` only the newest waits; of 200 waiting
    items the oldest goes."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._waiting: deque[FeedItem] = deque()
        self._there = asyncio.Event()

    def put(self, item: FeedItem) -> None:
        """Enqueue."""
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
        """Work off until cancelled or NotConnected; an item that is refused is logged and left."""
        while True:
            await self._there.wait()
            if not self._waiting:
                self._there.clear()
                continue
            item = self._waiting.popleft()
            payload = stanzas.entry_xml(item, datetime.now(UTC))
            iq = stanzas.publish_request(
                session.stream.Iq(), self._service, item.feed, item.item_id, payload
            )
            try:
                await session.request(iq)
            except (CommandRefused, NoAnswer) as e:
                LOG.warning("feed_item_refused", feed=item.feed, item=item.item_id, why=str(e))


async def ensure_subscribed(session: Session, service: str, feeds: Iterable[str], jid: str) -> None:
    """Subscribe `jid` (bare: it outlives the session) to those of `feeds` to which it is not.

    Provisioning has done so already; this mends what a lost database took. A feed that is missing
    is logged. Raises NotConnected, NoAnswer."""
    request = stanzas.own_subscriptions_request(session.stream.Iq(), service)
    subscribed = {
        feed
        for feed, who in stanzas.own_subscriptions_of(await session.request(request))
        if who == jid
    }
    for feed in sorted(set(feeds) - subscribed):
        try:
            await session.request(
                stanzas.subscribe_request(session.stream.Iq(), service, feed, jid)
            )
        except CommandRefused as e:
            LOG.warning("not_subscribed", feed=feed, why=str(e))


async def mirror(
    session: Session,
    service: str,
    people_host: str,
    affiliations: Mapping[str, str],
    feeds: Iterable[str],
) -> None:
    """Make the readers of each feed those whom the room knows (PROTOCOL 4, who may what 2).

    Only JIDs at `people_host` are touched. Who may not read any more also loses the subscription:
    the service goes on sending to a subscriber whose affiliation is gone. Of somebody with more
    than SESSIONS subscribed sessions all go, since most were left by programs that were killed;
    those that live subscribe again. Raises NotConnected, NoAnswer, CommandRefused."""
    may = {jid for jid, what in affiliations.items() if what in READERS and _at(jid, people_host)}
    for feed in feeds:
        now = stanzas.affiliations_of(
            await session.request(stanzas.affiliations_request(session.stream.Iq(), service, feed))
        )
        people = {
            jid
            for jid, what in now.items()
            if what not in ("none", "outcast") and _at(jid, people_host)
        }
        changes = dict.fromkeys(sorted(may - people), "member") | dict.fromkeys(
            sorted(people - may), "none"
        )
        if changes:
            await session.request(
                stanzas.change_affiliations(session.stream.Iq(), service, feed, changes)
            )
        subscribers = stanzas.subscribers_of(
            await session.request(stanzas.subscribers_request(session.stream.Iq(), service, feed))
        )
        bare = {jid: jid.partition("/")[0] for jid in subscribers if _at(jid, people_host)}
        sessions = Counter(of for jid, of in bare.items() if jid != of)
        gone = [
            jid
            for jid, of in bare.items()
            if of not in may or (jid != of and sessions[of] > SESSIONS)
        ]
        if gone:
            await session.request(
                stanzas.drop_subscriptions(session.stream.Iq(), service, feed, gone)
            )


def _at(jid: str, host: str) -> bool:
    return jid.partition("/")[0].endswith(f"@{host}")


# ---- A worker's subscription to the feed `tuning`: with its full JID, and fetched after every
# connect (PROTOCOL 4, who may what 1). The service lets nobody but the coordinator publish there;
# what came last holds.

TUNING_LOG = log.get("xmpp.tuning")


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

        An item that comes by itself meanwhile is newer than what is read: the server may answer
        after it."""
        service, backoff = self._xmpp.pubsub, Backoff()
        while True:
            try:
                subscribe = feeds.subscribe_request(
                    session.iq("set", service), service, TUNING, session.jid
                )
                told = self._told
                await session.request(subscribe)
                request = feeds.last_item_request(session.iq("get", service), service, TUNING)
                newest = feeds.published_of_result(await session.request(request))
            except (CommandRefused, NoAnswer) as e:
                TUNING_LOG.warning("tuning_not_read", why=str(e))
                await asyncio.sleep(backoff.next_s())
            except NotConnected:
                return
            else:
                for item in newest[:1] if self._told == told else ():
                    self._take(item)
                return

    def _take(self, item: Published) -> None:
        if item.feed != TUNING or item.publisher.partition("/")[0] not in (
            "",
            self._xmpp.coordinator,
        ):
            return
        try:
            value = feeds.entry_of(item.feed, item.item_id, item.payload).element
        except BadStanza as e:
            TUNING_LOG.warning("tuning_not_understood", why=str(e))
            return
        if isinstance(value, TuningValues):
            self._tuned(value)
