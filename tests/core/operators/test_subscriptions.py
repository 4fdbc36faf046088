"""Who follows a feed is told of it, one to one: no flood, no further than the right to look, and by
whoever leads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import AffiliationChanged, HotspotChange, HotspotsRead, QuestionAsked
from agents.core.model.feeds import OPERATOR_FEEDS, Severity
from agents.core.model.hotspots import Hotspot, HotspotState
from agents.core.model.placement import Intent, follow_intent
from agents.core.operators import subscriptions
from tests.core.world import World

ANA, BEN = "ana@d", "ben@d"


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({ANA: "admin", BEN: "member"}))
    return world


def ask(w: World, text: str, who: str = BEN) -> list[fx.Effect]:
    w.core.desk._asks.clear()
    effects = w.core.handle(QuestionAsked(who, "", text, False, text, None, text), w.now)
    for effect in effects:
        w._perform(effect)
    return effects


def follow(w: World, feed: str = "alerts") -> None:
    ask(w, f"follow {feed}")
    while w.kafka:
        w.kafka_step()


def whispers(w: World, seconds: float = 0.0) -> list[tuple[str, str]]:
    w.now_s += seconds
    effects = w.core.handle(ev.Tick(), w.now)
    for effect in effects:
        if isinstance(effect, fx.Write):
            w._perform(effect)
    return [(e.jid, e.text) for e in effects if isinstance(e, fx.Whisper)]


def alert(w: World, text: str, severity: Severity = Severity.WARNING) -> None:
    w.core.news.add_alert(severity, "test", "", text)


def test_it_is_written_before_it_is_promised(w: World) -> None:
    effects = ask(w, "follow alerts")
    assert not [e for e in effects if isinstance(e, fx.Whisper)]
    w.said.clear()
    while w.kafka:
        w.kafka_step()
    assert follow_intent("alerts", BEN) in w.intents
    assert [t for t in w.said if t.startswith("I will send you alerts here")]
    (twice,) = [e for e in ask(w, "follow alerts") if isinstance(e, fx.Whisper)]
    assert "already" in twice.text


def test_alerts_are_said_to_those_who_follow_and_to_nobody_else(w: World) -> None:
    follow(w)
    alert(w, "the well is dry", Severity.CRITICAL)
    alert(w, "the rope is old")
    assert whispers(w) == [(BEN, "Critical: the well is dry\nWarning: the rope is old")]
    assert whispers(w, 60) == []


def test_hotspots_are_said_to_those_who_follow(w: World) -> None:
    follow(w, "hotspots")
    area, at_s = "8326cbfffffffff", int(w.now_s)
    h = Hotspot(f"{area}-1", HotspotState.OPEN, at_s, at_s, at_s, (area,), area, 14.2, 2.1, 120)
    change = HotspotChange(h, w.now.ms)
    effects = w.core.handle(HotspotsRead((change,)), w.now)
    (told,) = [e for e in effects if isinstance(e, fx.Whisper)]
    assert told.jid == BEN
    assert "14.2 events/s, usually 2.1 (x6.8)" in told.text


@pytest.mark.parametrize("feed", OPERATOR_FEEDS)
def test_every_feed_that_is_published_can_be_followed(w: World, feed: str) -> None:
    follow(w, feed)
    assert follow_intent(feed, BEN) in w.intents


def test_a_present_state_is_said_at_once_and_then_now_and_then_if_it_changed(w: World) -> None:
    def heard(what: Callable[[], None]) -> list[str]:
        """The states of the fleet that are said then."""
        w.said.clear()
        what()
        w.fair(3, revive=False)
        return [text.partition(" nodes")[0] for text in w.said if "/3 nodes" in text]

    def wait() -> None:
        w.now_s += subscriptions.STATE_EVERY_S

    assert heard(lambda: follow(w, "fleet")) == ["3/3"]
    assert heard(wait) == [], "nothing has changed"
    assert heard(lambda: w.crash("node-1")) == ["2/3"]
    assert heard(lambda: w.crash("node-2")) == [], "too soon"
    assert heard(wait) == ["1/3"]
    ask(w, "unfollow fleet")
    w.fair(1, revive=False)
    assert heard(lambda: follow(w, "fleet")) == ["1/3"], "who begins again is told at once"


def test_a_flood_becomes_a_few_messages_and_a_number(w: World) -> None:
    follow(w)
    heard: list[str] = []
    for n in range(200):
        alert(w, f"alert {n}")
        heard += [text for _, text in whispers(w, 0.25)]
    assert len(heard) <= subscriptions.BURST + 50 / subscriptions.REFILL_S + 1
    assert any(text.split("\n")[0].endswith("more alerts; the newest:") for text in heard)
    last = whispers(w, subscriptions.REFILL_S)
    assert last[0][1].endswith("alert 199"), "the newest is not lost"
    assert all(len(text) <= 600 for text in heard)


def test_plans_are_followed_but_figures_are_not(w: World) -> None:
    follow(w, "placement")
    w.said.clear()
    w.fair(3)
    assert w.said == [], "a plan that does nothing is no news"
    w.crash("node-1")
    w.fair(5, revive=False)
    assert [t for t in w.said if "placed: " in t]


def test_a_new_leader_goes_on_once_it_knows_who_may_look(w: World) -> None:
    follow(w)
    w.lead()
    alert(w, "while nobody was known")
    assert whispers(w) == []
    w.core.handle(ev.AffiliationsRead({BEN: "member"}), w.now)
    alert(w, "then")
    (said,) = whispers(w, 1)
    assert said[0] == BEN


@pytest.mark.parametrize("how", ["told", "read"])
def test_it_ends_with_the_right_to_look(w: World, how: str) -> None:
    follow(w)
    w.tell(
        AffiliationChanged(BEN, "none") if how == "told" else ev.AffiliationsRead({ANA: "admin"})
    )
    alert(w, "secret")
    assert whispers(w) == []
    while w.kafka:
        w.kafka_step()
    assert w.intents == {}
    assert whispers(w) == []
    w.tell(ev.AffiliationsRead({ANA: "admin", BEN: "member"}))
    alert(w, "secret still")
    assert whispers(w) == [], "he has to ask again"


def test_unfollow_and_what_cannot_be_followed(w: World) -> None:
    follow(w)
    ask(w, "unfollow alerts")
    while w.kafka:
        w.kafka_step()
    assert w.intents == {}
    for text, why in (
        ("unfollow alerts", "You do not follow alerts."),
        ("follow tuning", "cannot be followed"),
    ):
        (answer,) = [e for e in ask(w, text) if isinstance(e, fx.Whisper)]
        assert why in answer.text


def test_nothing_is_promised_while_kafka_is_away_nor_beyond_what_can_be_told(w: World) -> None:
    w.core.fleet.intents |= {
        follow_intent("alerts", f"p{n}@d"): Intent("", 0)
        for n in range(subscriptions.FOLLOWERS_AT_MOST)
    }
    assert "which is the limit" in str(ask(w, "follow alerts"))
    w.core.fleet.intents.clear()
    w.tell(ev.KafkaDown())
    assert "Kafka is away" in str(ask(w, "follow alerts"))


def test_who_follows_what_voids_nobodys_dry_run(w: World) -> None:
    version = w.core.fleet.version
    follow(w)
    assert w.core.fleet.version == version
