"""`tune`: who may, what may be said, that it is written first, and what the room hears of who has
it."""

from __future__ import annotations

import itertools

import pytest

from agents.core import events as ev
from agents.core.events import QuestionAsked
from agents.core.fleet import tuner
from agents.core.model.feeds import TUNING, TuningValues
from agents.core.model.placement import Tuned, Tuning
from agents.settings.tunables import DEFAULTS, TUNABLES
from tests.core.world import World

ANA, BEN = "ana@d", "ben@d"
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    know(world)
    world.said.clear()
    return world


def know(w: World) -> None:
    w.tell(ev.AffiliationsRead({ANA: "owner", BEN: "admin"}))


def ask(w: World, text: str, who: str = ANA) -> str:
    before, n = len(w.said), next(_ids)
    w.core.desk._asks.clear()
    w.tell(QuestionAsked(who, who.partition("@")[0], text, True, f"s{n}", None, f"m{n}"))
    return "\n".join(w.said[before:])


def confirm(w: World, dry: str) -> str:
    return ask(w, f"!confirm {dry.partition('confirm ')[2].split()[0]}")


def do(w: World, text: str) -> None:
    assert "On it" in confirm(w, ask(w, text))
    w.kafka_steps()


def told(w: World) -> list[TuningValues]:
    """What was published to the workers, in order."""
    return [
        e.item.element
        for e in w.published
        if isinstance(e.item.element, TuningValues) and e.item.feed == TUNING
    ]


def obeyed(w: World, *workers: str) -> None:
    """They have fetched what is published."""
    for worker in workers or tuple(w.procs):
        w.procs[worker].tuning = told(w)[-1].version
        w.telemetry(worker)


def test_a_member_looks_and_an_owner_tunes(w: World) -> None:
    assert "No setting is tuned" in ask(w, "!tune", BEN)
    assert "0 to 60000" in ask(w, "!tune commit_gap_ms", BEN)
    assert (
        ask(w, "!tune commit_gap_ms 200", BEN)
        == "changing anything with tune needs an owner of the ops room; your affiliation is admin."
    )
    assert not w.kafka


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("commit_gap 200", "Did you mean commit_gap_ms?"),
        ("commit_gap_ms many", "must be a whole number from 0 to 60000"),
        ("commit_gap_ms 60001", "must be a whole number from 0 to 60000"),
        ("commit_gap_ms 0.5", "must be a whole number"),
        ("target_utilisation nan", "must be a number"),
        ("telemetry_period_s 3", "from 0.1 to 2"),
        ("commit_gap_ms default", "is already 100 ms, as in the settings"),
        ("settle_to 1.3", "settle_to would be 1.3, above act_above, which would be 1.25"),
        ("cooldown_most_s 1", "cooldown_s would be 30, above cooldown_most_s, which would be 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(w: World, text: str, why: str) -> None:
    assert why in ask(w, f"!tune {text}")
    assert not w.kafka


def test_the_dry_run_says_old_and_new_unit_limits_and_who_applies_it(w: World) -> None:
    dry = ask(w, "!tune commit_gap_ms 200")
    for words in (
        "from 100 ms to 200 ms",
        "a whole number from 0 to 60000 (ms)",
        "4 workers apply it",
        "4 are here now",
    ):
        assert words in dry
    assert "(settings)" not in dry, "only what `default` goes back to is that"
    assert "The planner applies it" in ask(w, "!tune windows 3")
    assert not w.kafka
    assert w.tuning == Tuning()


def test_it_is_written_before_it_is_said_and_told_once_all_have_it(w: World) -> None:
    before = len(told(w))
    confirm(w, ask(w, "!tune commit_gap_ms 200"))
    assert len(told(w)) == before, "not said before it is written"
    w.kafka_step()
    assert w.tuning == Tuning(1, w.now.ms, {"commit_gap_ms": Tuned(200, ANA, w.now.ms)})
    assert told(w)[-1] == TuningValues(1, (("commit_gap_ms", 200),))
    w.said.clear()
    obeyed(w, "node-0", "node-1", "node-2")
    assert w.said == []
    obeyed(w, "router-1")
    w.tell(ev.Tick())
    assert w.said == ["ana: commit_gap_ms is 200 ms (was 100 ms); 4 of 4 workers have it"]
    w.pass_s(60)
    assert len(w.said) == 1


def test_who_does_not_have_it_is_named_and_the_message_is_corrected(w: World) -> None:
    do(w, "!tune batch_records 4000")
    obeyed(w, "node-0", "node-1", "router-1")
    w.said.clear()
    w.pass_s(tuner.FIRST_S - 1)
    assert w.said == []
    w.pass_s(1)
    words = "ana: batch_records is 4000 records (was 5000 records)"
    assert w.said == [f"{words}; 3 of 4 workers have it, not yet 2"]
    assert "not yet 2" in ask(w, "!tune", BEN)
    w.said.clear()
    obeyed(w, "node-2")
    w.pass_s(tuner.CORRECT_EVERY_S)
    assert w.said == [f"{words}; 4 of 4 workers have it"]


def test_who_is_gone_does_not_have_it_until_its_next_life_has(w: World) -> None:
    do(w, "!tune commit_gap_ms 200")
    obeyed(w)
    w.crash("node-1")
    assert "3 of 4 workers have it, not yet 1 (gone)" in ask(w, "!tune commit_gap_ms")
    w.fair(10)
    assert "3 of 4 workers have it" in ask(w, "!tune commit_gap_ms"), (
        "another boot knows of nothing"
    )
    obeyed(w, "node-1")
    assert "4 of 4 workers have it" in ask(w, "!tune commit_gap_ms")


def test_a_value_that_holds_already_is_not_set_again(w: World) -> None:
    do(w, "!tune commit_gap_ms 200")
    assert ask(w, "!tune commit_gap_ms 200") == "commit_gap_ms is already 200 ms."
    do(w, "!tune commit_gap_ms 100")
    assert "to 100 ms (settings)" in ask(w, "!tune commit_gap_ms default"), (
        "set to the same by a person"
    )


def test_what_can_be_tuned_is_named_before_what_is(w: World) -> None:
    do(w, "!tune commit_gap_ms 200")
    lines = ask(w, "!tune").split("\n")
    starts = ["1 of ", "Version 1, ", "Workers: ", "commit_gap_ms 200 ms"]
    assert [x[: len(start)] for x, start in zip(lines, starts, strict=True)] == starts


def test_two_that_are_confirmed_at_once_both_hold(w: World) -> None:
    one, two = ask(w, "!tune commit_gap_ms 200"), ask(w, "!tune batch_records 10")
    confirm(w, one)
    confirm(w, two)
    w.kafka_steps()
    assert {n: v.value for n, v in w.tuning.values.items()} == {
        "commit_gap_ms": 200,
        "batch_records": 10,
    }
    assert told(w)[-1] == TuningValues(2, (("batch_records", 10), ("commit_gap_ms", 200)))


def test_default_takes_it_back(w: World) -> None:
    do(w, "!tune commit_gap_ms 200")
    assert "from 200 ms to 100 ms (settings)" in ask(w, "!tune commit_gap_ms default")
    do(w, "!tune commit_gap_ms default")
    assert not w.tuning.values
    assert told(w)[-1] == TuningValues(2)


def test_a_calm_setting_holds_at_once_is_journaled_and_asks_nothing_of_workers(w: World) -> None:
    before = w.core.placing.inputs.settings.calm
    do(w, "!tune windows 4")
    assert w.said[-1] == "ana: windows is 4 windows (was 2 windows); the planner has it."
    assert w.core.placing.inputs.settings.calm.windows == 4
    assert w.tuning.version == 0
    w.now_s += 2
    w.decided.clear()
    w.tell(ev.Tick())
    w.now_s += 2
    w.tell(ev.Tick())
    decided, again = w.decided
    assert decided.frame is not None
    assert decided.frame.calm.windows == 4
    assert again.frame is None, "once"
    do(w, "!tune windows default")
    assert w.core.placing.inputs.settings.calm == before


def test_another_horizon_drops_the_forecasts_for_the_old_one(w: World) -> None:
    do(w, "!tune forecast_s 30")
    assert w.core.placing.inputs.foresight.horizon_s == 30


def test_what_is_tuned_outlives_the_leader_who_tells_it_anew(w: World) -> None:
    do(w, "!tune commit_gap_ms 200")
    do(w, "!tune windows 4")
    w.published.clear()
    w.lead()
    assert told(w) == [TuningValues(1, (("commit_gap_ms", 200),))], "the feed is a cache"
    assert w.core.placing.inputs.settings.calm.windows == 4
    know(w)
    assert "2 of 19 settings are tuned." in ask(w, "!tune")
    w.cut()
    assert len(told(w)) == 2, "after every reconnect"


def test_a_leader_that_was_never_tuned_says_so(w: World) -> None:
    """So that what an older fleet left in the feed does not hold."""
    assert told(w)[0] == TuningValues(0)


def test_values_of_another_version_are_left_alone() -> None:
    w = World(nodes=1, lanes=2)
    w.tuning = Tuning(
        3,
        0,
        {
            "windows": Tuned(-1, ANA, 0),
            "nonsense": Tuned(1, ANA, 0),
            "pause_ms": Tuned(7.5, ANA, 0),
        },
    )
    w.lead()
    calm = w.core.placing.inputs.settings.calm
    assert (calm.windows, calm.pause_ms) == (2, 7.5)


def test_two_values_that_contradict_each_other_are_not_used() -> None:
    """Another version may allow what this one does not."""
    w = World(nodes=1, lanes=2)
    w.tuning = Tuning(3, 0, {"settle_to": Tuned(1.3, ANA, 0), "act_above": Tuned(1.2, ANA, 0)})
    w.lead()
    calm = w.core.placing.inputs.settings.calm
    assert (calm.settle_to, calm.act_above) == (DEFAULTS["settle_to"], DEFAULTS["act_above"])


def test_every_tunable_says_what_it_is_and_may_stay_as_it_is() -> None:
    for name, t in TUNABLES.items():
        assert t.about
        assert t.check_value(DEFAULTS[name]) == DEFAULTS[name]
        assert t.parse_value(str(DEFAULTS[name])) == DEFAULTS[name]


def test_it_is_told_within_a_phone_screen(w: World) -> None:
    for text in (
        "!tune commit_gap_ms 200",
        "!tune windows 3",
        "!tune batch_records 7",
        "!tune ping_period_s 3",
    ):
        do(w, text)
    for text in ("!tune", "!tune commit_gap_ms", "!tune commit_gap_ms 300"):
        said = ask(w, text)
        assert len(said) <= 600
        assert len(said.split("\n")) <= 8
