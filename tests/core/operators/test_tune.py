"""Settings tuned while the fleet runs: within their limits, by owners, told once all have it or who has not."""

from __future__ import annotations

import itertools

import pytest

from agents.core import effects as fx
from agents.core.coordinator import Now
from agents.core.events_xmpp import Asked
from agents.core.feeds import TUNING, Tuning
from agents.core.model import Intent
from agents.core.tuning import tuned_calm, tuning_item, version
from agents.settings import Settings
from agents.settings.tunables import tunables
from tests.core.world import World

ANA, BEN = "ana@d", "ben@d"
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.core.desk.tunables = tunables(Settings())
    world.tell(fx.AffiliationsRead({ANA: "owner", BEN: "admin"}))
    world.said.clear()
    return world


def ask(w: World, text: str, who: str = ANA) -> str:
    before, n = len(w.said), next(_ids)
    w.tell(Asked(who, who.partition("@")[0], text, True, f"s{n}", None, f"m{n}"))
    return "\n".join(w.said[before:])


def confirm(w: World, answer: str, who: str = ANA) -> list[fx.Effect]:
    n, words = next(_ids), f"!confirm {answer.partition('confirm ')[2].split()[0]}"
    return w.core.handle(Asked(who, "ana", words, True, f"s{n}", None, f"m{n}"), w.now)


def done(w: World, effects: list[fx.Effect]) -> list[fx.Effect]:
    """As if it were written."""
    (write,) = [e for e in effects if isinstance(e, fx.Write)]
    w.core.handle(fx.Written(write.partitions, write.leases, write.intents), w.now)
    return list(write.then)


def test_a_worker_setting_is_foretold_written_and_then_published(w: World) -> None:
    dry = ask(w, "!tune commit_gap_ms 250")
    assert "commit_gap_ms: 100, as the settings say -> 250 ms." in dry
    then = done(w, confirm(w, dry))
    (published,) = [e.item for e in then if isinstance(e, fx.Publish)]
    assert published.feed == TUNING
    assert published.element == Tuning(w.now.ms, (("commit_gap_ms", "250"),))
    assert "commit_gap_ms 250 (settings: 100 ms), by ana" in ask(w, "!tune")
    assert "not yet: 0, 1, 2" in ask(w, "!tune")
    assert "is 250 already" in ask(w, "!tune commit_gap_ms 250")


def test_it_is_told_when_all_have_it_and_else_who_has_not(w: World) -> None:
    done(w, confirm(w, ask(w, "!tune batch_records 100")))
    late = [e for s in (2, 16, 22) for e in w.core.handle(fx.Tick(), Now(w.now.s + s, w.now.ms))]
    texts = [e.text for e in late if isinstance(e, fx.Say)]
    assert any("batch_records is 100 (was 5000, as the settings say); 0 of" in t and "not yet" in t for t in texts)


def test_default_takes_it_back_and_is_a_version_of_its_own(w: World) -> None:
    done(w, confirm(w, ask(w, "!tune telemetry_period_s 0.5")))
    first = version(w.core.fleet.intents)
    done(w, confirm(w, ask(w, "!tune telemetry_period_s default")))
    item = tuning_item(w.core.fleet.intents, 1).element
    assert isinstance(item, Tuning)
    assert (item.version > first, item.values) == (True, ())
    assert "Nothing is tuned" in ask(w, "!tune")


def test_calm_settings_hold_at_once_and_in_a_new_frame(w: World) -> None:
    frame = w.core.placing.frame
    done(w, confirm(w, ask(w, "!tune cooldown_s 60")))
    assert w.core.placing.settings.calm.cooldown_s == 60
    assert w.core.placing.frame.calm.cooldown_s == 60
    assert frame.calm.cooldown_s == w.core.desk.calm.cooldown_s, "the settings stay what they are"
    done(w, confirm(w, ask(w, "!tune cooldown_s default")))
    assert w.core.placing.frame.calm == frame.calm


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("!tune commit_gap 5", "'commit_gap' cannot be tuned. Did you mean commit_gap_ms?"),
        ("!tune commit_gap_ms -1", "commit_gap_ms is a whole number of ms, at least 0 and at most 60000; not '-1'."),
        ("!tune commit_gap_ms 1.5", "commit_gap_ms is a whole number of ms"),
        ("!tune window_s 0", "window_s is a number of s, above 0; not '0'."),
        ("!tune window_s nan", "window_s is a number of s, above 0; not 'nan'."),
        ("!tune settle_to 9", "settle_to may not be above act_above"),
        ("!tune commit_gap_ms", "commit_gap_ms is 100, as the settings say ms: at least 0 and at most 60000."),
    ],
)
def test_what_does_not_fit_is_said(w: World, text: str, answer: str) -> None:
    assert answer in ask(w, text)


def test_only_an_owner_tunes(w: World) -> None:
    assert "is for an owner" in ask(w, "!tune commit_gap_ms 250", BEN)
    assert "Nothing is tuned" in ask(w, "!tune", BEN)
    dry = ask(w, "!tune commit_gap_ms 250")
    w.tell(fx.AffiliationsRead({ANA: "admin", BEN: "admin"}))
    assert not any(isinstance(e, fx.Write) for e in confirm(w, dry))


def test_what_is_no_value_any_more_is_passed_over(w: World) -> None:
    intents = {"tune/window_s": Intent("x", 1, "soon"), "tune/gone": Intent("x", 1, "1")}
    calm = w.core.placing.settings.calm
    assert tuned_calm(calm, w.core.desk.tunables, intents) == calm
