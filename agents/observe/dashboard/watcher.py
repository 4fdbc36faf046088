"""The one owner of the connection: reads the operator feeds as a member, and reconnects when it is
lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import NoReturn

from agents import settings
from agents.base.errors import CommandRefused, NoAnswer, NotConnected, PasswordRefused
from agents.base.supervisor import leaf_errors
from agents.core.model.feeds import ALERTS, FLEET, HOTSPOTS, PLACEMENT, FeedItem
from agents.observe.dashboard.figures import STALE_S, Act, Dashboard
from agents.xmpp.client import Backoff
from agents.xmpp.operator_client import OperatorClient
from plugins.feeds import Published, item_from_entry, updated_s_from_entry
from plugins.values import BadStanza

FEEDS = {
    FLEET: 1,
    PLACEMENT: 20,
    ALERTS: 20,
    HOTSPOTS: 100,
}  # with the number of newest items to read first
LATER = (
    "item-not-found",
    "internal-server-error",
    "service-unavailable",
    "resource-constraint",
)  # the feed may come back


class Watcher:
    """`run` feeds `board` until cancelled. `heard` is called with each item, its own time (epoch s)
    and its news, `linked` when the connection is lost (with the reason) and when it is back."""

    def __init__(
        self,
        xmpp: settings.Xmpp,
        account: str,
        board: Dashboard,
        heard: Callable[[FeedItem, float, Act | None], None] = lambda item, at_s, act: None,
        linked: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._xmpp, self._account, self._board = xmpp, account, board
        self._heard, self._linked = heard, linked
        self._connections = 0

    async def run(self) -> NoReturn:
        """Raises NotConnected if the first connection fails; PasswordRefused and CommandRefused
        (this account may not read a feed) at any time; SettingsError."""
        backoff = Backoff(1.0, 15.0)
        while True:
            try:
                await self._watch_until_lost(backoff)
            except PasswordRefused as e:
                raise PasswordRefused(f"{self._login}: {e}") from None
            except CommandRefused as e:
                if self._connections < 2 or e.condition not in LATER:
                    raise
                self._note_loss(str(e))
            except (NotConnected, NoAnswer) as e:
                if not self._connections:
                    raise NotConnected(f"{self._login}: {e}") from None
                self._note_loss(str(e))
            await asyncio.sleep(backoff.next_wait_s())

    @property
    def _login(self) -> str:
        return f"{self._account}@{self._xmpp.domain} at {self._xmpp.host}:{self._xmpp.port}"

    async def _watch_until_lost(self, backoff: Backoff) -> None:
        async with OperatorClient(self._xmpp, self._account) as person:
            self._connections += 1
            backoff.reset()
            if self._board.link:
                self._board.link = ""
                self._linked("connected again")
            try:
                async with asyncio.TaskGroup() as tasks:
                    for feed, newest in FEEDS.items():
                        tasks.create_task(self._read_feed(person, feed, newest))
                    tasks.create_task(self._renew_subscriptions(person))
            except BaseExceptionGroup as group:
                errors = list(leaf_errors(group))
                raise next(
                    (e for e in errors if isinstance(e, CommandRefused)), errors[0]
                ) from None

    def _note_loss(self, why: str) -> None:
        if not self._board.link:
            self._linked(f"lost: {why}")
        self._board.link = why

    async def _read_feed(self, person: OperatorClient, feed: str, newest: int) -> None:
        try:
            async with aclosing(person.watch_feed(feed, newest)) as items:
                async for item in items:
                    self._take_item(item)
        except CommandRefused as e:
            raise CommandRefused(
                e.condition, f"{self._account} may not read the feed {feed!r}, or there is none"
            ) from e

    def _take_item(self, published: Published) -> None:
        try:
            item = item_from_entry(published.feed, published.item_id, published.payload)
            at_s = updated_s_from_entry(published.payload)
        except BadStanza:
            return  # from another version; the rest is still worth showing
        age_s = time.time() - at_s if published.kept else 0.0
        act = self._board.take_item(item, time.monotonic(), at_s, age_s=age_s)
        self._heard(item, at_s, None if published.kept and self._connections == 1 else act)

    async def _renew_subscriptions(self, person: OperatorClient) -> None:
        """Subscribe again after silence, since the feed `fleet` has an item every second. An
        account that may no longer read the feed then gets an error."""
        while True:
            await asyncio.sleep(STALE_S)
            silent_s = self._board.figures_at(time.monotonic()).silent_s
            if silent_s is None or silent_s > STALE_S:
                for feed in FEEDS:
                    await person.subscribe_to_feed(feed)
