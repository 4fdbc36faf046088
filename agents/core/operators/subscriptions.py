"""The commands `follow` and `unfollow`: the leader also sends a feed's items to a person, one to
one.

A subscription is an intent in `placement`, so it outlives coordinators; it ends with the person's
right to look. Messages to a person are limited (BURST, REFILL_S): many items become one message,
with the newest item and the number of the others. `fleet` and `geo` have no news, only a present
state: it is sent at once, and then every STATE_EVERY_S if it has changed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agents.base.errors import OperatorError
from agents.base.suggest import suggest_names
from agents.base.token_bucket import TokenBucket
from agents.core.effects import Effect, Whisper, Write
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import clip_lines
from agents.core.model.answers import Answer, FollowData
from agents.core.model.feeds import (
    ALERTS,
    CURRENT,
    FLEET,
    GEO,
    HOTSPOTS,
    OPERATOR_FEEDS,
    PLACEMENT,
    AlertItem,
    FeedItem,
    Severity,
)
from agents.core.model.placement import FOLLOW, Intent, follow_intent
from agents.core.model.times import format_duration
from agents.core.operators.command import Context, Done

FOLLOWERS_AT_MOST = 200
BURST, REFILL_S = 5.0, 12.0  # messages at once, and seconds for one more: 5 a minute
STATE_EVERY_S = 300.0
KEPT = 20  # lines that wait for one person; of any more only the number is told

_STATES = (FLEET, GEO)
_WORDS = {Severity.CRITICAL: "Critical: ", Severity.WARNING: "Warning: "}
_ONE = {
    ALERTS: ("alert", "alerts"),
    PLACEMENT: ("plan", "plans"),
    HOTSPOTS: ("change of hotspots", "changes of hotspots"),
    FLEET: ("state of the fleet", "states of the fleet"),
    GEO: ("state of the traffic", "states of the traffic"),
}


# ---- the commands ----


def follow_feed(c: Context, args: Sequence[str]) -> Answer | Done:
    """Follow a feed; without words, which feeds the person follows. Raises OperatorError."""
    mine = _followed_by(c)
    if not args:
        now = f"You follow {' and '.join(mine)}." if mine else "You follow nothing."
        return Answer(f"{now} Feeds: {', '.join(OPERATOR_FEEDS)}.", _follow_data(mine))
    feed = _parse_feed(args[0])
    if feed in mine:
        raise OperatorError(f"You already follow {feed}; unfollow {feed} ends that.")
    if sum(name.startswith(FOLLOW) for name in c.fleet.intents) >= FOLLOWERS_AT_MOST:
        raise OperatorError(f"{FOLLOWERS_AT_MOST} subscriptions exist, which is the limit.")
    often = (
        f"every {format_duration(STATE_EVERY_S)} if it has changed"
        if feed in _STATES
        else f"up to {BURST:.0f} messages a minute"
    )
    text = f"I will send you {feed} here, one to one ({often}), until you unfollow {feed}."
    return Done(
        Answer(text, _follow_data([*mine, feed])),
        Write(intents={follow_intent(feed, c.jid): Intent(c.jid, c.now_ms)}),
    )


def unfollow_feed(c: Context, args: Sequence[str]) -> Done:
    """End a subscription. Raises OperatorError."""
    feed = _parse_feed(args[0])
    name = follow_intent(feed, c.jid)
    if name not in c.fleet.intents:
        raise OperatorError(f"You do not follow {feed}.")
    rest = [x for x in _followed_by(c) if x != feed]
    answer = Answer(f"You no longer follow {feed}.", _follow_data(rest))
    return Done(answer, Write(intents={name: None}))


def _followed_by(c: Context) -> list[str]:
    return [feed for feed in OPERATOR_FEEDS if follow_intent(feed, c.jid) in c.fleet.intents]


def _follow_data(following: Iterable[str]) -> FollowData:
    return FollowData(following=tuple(following), feeds=OPERATOR_FEEDS)


def _parse_feed(text: str) -> str:
    if text.lower() not in OPERATOR_FEEDS:
        raise OperatorError(
            f"{text[:40]!r} cannot be followed. {suggest_names(text, OPERATOR_FEEDS)}"
        )
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
    room's affiliations are not known. `_states`: by feed, the present one. `_told`: by
    subscription, the state that was sent last, and when."""

    fleet: Fleet
    looks: Callable[[str], bool | None]
    _people: dict[str, _Person] = field(default_factory=dict)
    _ending: set[str] = field(default_factory=set)
    _states: dict[str, str] = field(default_factory=dict)
    _told: dict[str, tuple[float, str]] = field(default_factory=dict)

    def note_published(self, item: FeedItem) -> None:
        """Keep the item for the feed's followers. The figures in `placement`, which come with every
        plan, are not sent."""
        if item.feed in _STATES:
            self._states[item.feed] = item.content
            return
        if item.feed not in OPERATOR_FEEDS or item.item_id == CURRENT:
            return
        text = _WORDS.get(item.element.severity, "") if isinstance(item.element, AlertItem) else ""
        text += item.title if item.title == item.content else f"{item.title} ({item.content})"
        for jid in self._followers_of(item.feed):
            self._add_line(jid, item.feed, text)

    def _add_line(self, jid: str, feed: str, text: str) -> None:
        person = self._people.setdefault(jid, _Person())
        person.lines.append((feed, text))
        person.waiting += 1

    def _add_due_states(self, now: float) -> None:
        self._told = {name: told for name, told in self._told.items() if name in self.fleet.intents}
        for feed, text in self._states.items():
            for jid in self._followers_of(feed):
                at, before = self._told.get(name := follow_intent(feed, jid), (-math.inf, ""))
                if text != before and now - at >= STATE_EVERY_S:
                    self._told[name] = now, text
                    self._add_line(jid, feed, text)

    def _followers_of(self, feed: str) -> list[str]:
        prefix = follow_intent(feed, "")
        return [name.removeprefix(prefix) for name in self.fleet.intents if name.startswith(prefix)]

    def tell_followers(self, now: float) -> Iterator[Effect]:
        """The messages for now; none before the room's affiliations are known."""
        self._add_due_states(now)
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
