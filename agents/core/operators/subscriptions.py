"""The commands `follow` and `unfollow`: the leader also sends a feed's items to a person, one to
one.

A subscription is an intent in `placement`, so it outlives coordinators; it ends with the person's
right to look. Messages to a person are limited (BURST, REFILL_S): many items become one message,
with the newest item and the number of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from agents.base.errors import OperatorError
from agents.base.suggest import suggest_names
from agents.base.token_bucket import TokenBucket
from agents.core.effects import Effect, Whisper, Write
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import clip_lines
from agents.core.model.feeds import (
    ALERTS,
    CURRENT,
    HOTSPOTS,
    PLACEMENT,
    AlertItem,
    FeedItem,
    Severity,
)
from agents.core.model.placement import FOLLOW, Intent, follow_intent
from agents.core.operators.command import Context, Done

FEEDS = (ALERTS, PLACEMENT, HOTSPOTS)
FOLLOWERS_AT_MOST = 200
BURST, REFILL_S = 5.0, 12.0  # messages at once, and seconds for one more: 5 a minute
KEPT = 20  # lines that wait for one person; of any more only the number is told

_WORDS = {Severity.CRITICAL: "Critical: ", Severity.WARNING: "Warning: "}
_ONE = {
    ALERTS: ("alert", "alerts"),
    PLACEMENT: ("plan", "plans"),
    HOTSPOTS: ("change of hotspots", "changes of hotspots"),
}


# ---- the commands ----


def follow_feed(c: Context, args: Sequence[str]) -> str | Done:
    """Follow a feed; without words, which feeds the person follows. Raises OperatorError."""
    mine = [feed for feed in FEEDS if follow_intent(feed, c.jid) in c.fleet.intents]
    if not args:
        now = f"You follow {' and '.join(mine)}." if mine else "You follow nothing."
        return f"{now} Feeds: {', '.join(FEEDS)}."
    feed = _parse_feed(args[0])
    if feed in mine:
        raise OperatorError(f"You already follow {feed}; unfollow {feed} ends that.")
    if sum(name.startswith(FOLLOW) for name in c.fleet.intents) >= FOLLOWERS_AT_MOST:
        raise OperatorError(f"{FOLLOWERS_AT_MOST} subscriptions exist, which is the limit.")
    text = (
        f"I will send you {feed} here, one to one (up to {BURST:.0f} messages a minute), until "
        f"you unfollow {feed}."
    )
    return Done(text, Write(intents={follow_intent(feed, c.jid): Intent(c.jid, c.now_ms)}))


def unfollow_feed(c: Context, args: Sequence[str]) -> Done:
    """End a subscription. Raises OperatorError."""
    feed = _parse_feed(args[0])
    name = follow_intent(feed, c.jid)
    if name not in c.fleet.intents:
        raise OperatorError(f"You do not follow {feed}.")
    return Done(f"You no longer follow {feed}.", Write(intents={name: None}))


def _parse_feed(text: str) -> str:
    if text.lower() not in FEEDS:
        raise OperatorError(f"{text[:40]!r} cannot be followed. {suggest_names(text, FEEDS)}")
    return text.lower()


# ---- the relay ----


@dataclass(slots=True)
class _Person:
    lines: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=KEPT))
    waiting: int = 0
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(BURST, 1 / REFILL_S))


@dataclass(slots=True)
class Follows:
    """Messages that wait for followers. `looks`: whether the bare JID may look; None while the
    room's affiliations are not known."""

    fleet: Fleet
    looks: Callable[[str], bool | None]
    _people: dict[str, _Person] = field(default_factory=dict)
    _ending: set[str] = field(default_factory=set)

    def note_published(self, item: FeedItem) -> None:
        """Keep the item for the feed's followers. An item that only shows the present state is not
        sent."""
        if item.feed not in FEEDS or item.item_id == CURRENT:
            return
        text = _WORDS.get(item.element.severity, "") if isinstance(item.element, AlertItem) else ""
        text += item.title if item.title == item.content else f"{item.title} ({item.content})"
        for jid in self._followers_of(item.feed):
            person = self._people.setdefault(jid, _Person())
            person.lines.append((item.feed, text))
            person.waiting += 1

    def _followers_of(self, feed: str) -> list[str]:
        prefix = follow_intent(feed, "")
        return [name.removeprefix(prefix) for name in self.fleet.intents if name.startswith(prefix)]

    def tell_followers(self, now: float) -> Iterator[Effect]:
        """The messages for now; none before the room's affiliations are known."""
        for jid, person in list(self._people.items()):
            may = self.looks(jid)
            if may is None:
                return
            person.bucket.refill(now)
            if not may or (not person.waiting and person.bucket.tokens == BURST):
                del self._people[jid]
            elif person.waiting and person.bucket.try_take(now):
                yield Whisper(jid, _compose_message(person))
                person.lines.clear()
                person.waiting = 0

    def end_lost_subscriptions(self) -> Iterator[Effect]:
        """Delete the subscriptions of people who may no longer look."""
        names = [n for n in self.fleet.intents if n.startswith(FOLLOW)]
        self._ending &= set(names)
        lost = [
            n for n in names if n not in self._ending and self.looks(n.rpartition("/")[2]) is False
        ]
        if lost:
            self._ending.update(lost)
            yield Write(intents=dict.fromkeys(lost))


def _compose_message(person: _Person) -> str:
    """The text of one message: up to 3 items, or, if there are more, the newest after the number of
    the others."""
    if person.waiting == 1:
        return clip_lines([person.lines[0][1]])
    one, many = _ONE[person.lines[-1][0]]
    if person.waiting <= 3:
        return clip_lines(text for _, text in person.lines)
    more = person.waiting - 1
    return clip_lines(
        [f"{more} more {many if more > 1 else one}; the newest:", person.lines[-1][1]]
    )
