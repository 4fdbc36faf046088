"""What `map` and `plot` send for, and what is said beside the picture."""

from __future__ import annotations

import itertools

import pytest

from agents.base.errors import OperatorError
from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import AdHoc, QuestionAsked
from agents.core.fleet.summary import sample_fleet
from agents.core.model.charts import Line
from agents.core.model.forms import FormReply
from agents.core.operators.charts import (
    Drawn,
    MapWanted,
    PlotWanted,
    _describe_plot,
    plot_from_lines,
)
from tests.core.world import World

BEN = "ben@d"
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({BEN: "member"}))
    return world


def ask(w: World, text: str, *, room: bool = True) -> list[fx.Effect]:
    n = next(_ids)
    return w.core.handle(QuestionAsked(BEN, "ben", text, room, f"s{n}", None, f"m{n}"), w.now)


def sent(effects: list[fx.Effect]) -> fx.Errand:
    (errand,) = [e for e in effects if isinstance(e, fx.Errand)]
    return errand


def words(effects: list[fx.Effect]) -> str:
    return "\n".join(e.text for e in effects if isinstance(e, fx.Say | fx.Whisper))


def test_a_map_has_every_site_and_every_lane_with_who_works_it(w: World) -> None:
    wanted = sent(ask(w, "!map")).what
    assert isinstance(wanted, MapWanted)
    assert [(d.name, d.nodes, d.well) for d in wanted.map.dots] == [
        ("s0", 1, 1),
        ("s1", 1, 1),
        ("s2", 1, 1),
    ]
    owners = [
        w.core.fleet.partitions[p].worker
        for p in sorted(w.core.fleet.partitions)
        if p.topic == "main/events.lanes"
    ]
    assert [f"node-{t.site}" for t in wanted.map.threads] == owners
    assert wanted.map.title.startswith("3/3 nodes take lanes")


def test_a_picture_is_a_link_where_it_was_asked_for_and_words_before_it(w: World) -> None:
    effects = w.core.handle(
        ev.QueryFinished(sent(ask(w, "!map")).ref, Drawn("http://x/map.png")), w.now
    )
    told = [e for e in effects if isinstance(e, fx.Say | fx.Show)]
    assert isinstance(told[0], fx.Say)
    assert "3/3 nodes take lanes" in told[0].text
    assert told[1] == fx.Show("http://x/map.png")
    alone = w.core.handle(
        ev.QueryFinished(sent(ask(w, "map", room=False)).ref, Drawn("http://x/map.png")), w.now
    )
    assert fx.Show("http://x/map.png", BEN) in alone


def test_a_form_ends_with_the_link(w: World) -> None:
    errand = sent(w.core.handle(AdHoc("i1", BEN, "map", "", "execute", {}), w.now))
    effects = w.core.handle(ev.QueryFinished(errand.ref, Drawn("http://x/map.png")), w.now)
    (answer,) = [e.answer for e in effects if isinstance(e, fx.AnswerAdHoc)]
    assert isinstance(answer, FormReply)
    assert answer.form is not None
    assert {f.var: f.value for f in answer.form.fields}["url"] == "http://x/map.png"


@pytest.mark.parametrize(
    ("text", "names", "worst", "span_s"),
    [
        ("!plot lag", ("fleet",), 3, 3600),
        ("!plot rate 4", ("lane/4",), 0, 3600),
        ("!plot latency 1 15m", ("lane/1",), 0, 900),
        ("!plot LAG 2d", ("fleet",), 3, 172_800),
        ("!plot lag 30m node-1", ("node/1",), 0, 1800),
    ],
)
def test_a_plot_goes_by_lane_node_and_time(
    w: World, text: str, names: tuple[str, ...], worst: int, span_s: int
) -> None:
    wanted = sent(ask(w, text)).what
    assert isinstance(wanted, PlotWanted)
    assert (wanted.names, wanted.worst) == (names, worst)
    assert (wanted.since_ms, wanted.until_ms) == (w.now.ms - span_s * 1000, w.now.ms)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("!plot", "Usage: plot lag|rate|latency [LANE|NODE] [1h]"),
        ("!plot heat", "'heat' cannot be plotted: choose one of lag, rate, latency."),
        ("!plot lag 77", "'77' is not a valid lane: lanes are 0 to 5."),
        ("!plot lag nobody", "No node is called 'nobody'."),
        ("!plot lag 1 2", "Usage: plot"),
        ("!plot lag 30d", "30d is not between 1m and 7d."),
        ("!plot lag 5s", "5s is not between 1m and 7d."),
    ],
)
def test_what_cannot_be_drawn_is_said(w: World, text: str, answer: str) -> None:
    effects = ask(w, text)
    assert answer in words(effects)
    assert not any(isinstance(e, fx.Errand) for e in effects)


def test_a_plot_says_what_it_shows_and_that_it_has_nothing_to_show(w: World) -> None:
    wanted = sent(ask(w, "!plot lag")).what
    assert isinstance(wanted, PlotWanted)
    with pytest.raises(
        OperatorError, match="Lag of the fleet, last 1h: there is no data for that time"
    ):
        plot_from_lines(wanted, [Line("fleet", (), ()), Line("lane/3", (), ())])
    at = tuple(wanted.until_ms - back for back in (2000, 1000, 0))
    plot = plot_from_lines(wanted, [Line("fleet", at, (5.0, 1200.0, 40.0)), Line("lane/3", (), ())])
    assert [x.name for x in plot.lines] == ["the fleet"]
    effects = w.core.handle(
        ev.QueryFinished(sent(ask(w, "!plot lag")).ref, Drawn("http://x/p.png", plot)), w.now
    )
    assert "the fleet: 40 events now, peak 1,200 (00:01 UTC)" in words(effects)


def test_the_fleet_is_sampled_every_ten_seconds_with_its_nodes_and_lanes(w: World) -> None:
    taken = [
        e
        for s in range(25)
        for e in w.core.handle(ev.Tick(), type(w.now)(w.now.s + s, w.now.ms))
        if isinstance(e, fx.Sampled)
    ]
    assert 2 <= len(taken) <= 3
    names = [s.name for s in sample_fleet(w.core.fleet)]
    assert names[0] == "fleet"
    assert set(names) >= {f"lane/{n}" for n in range(6)}
    by = {s.name: s for s in sample_fleet(w.core.fleet)}
    assert by["fleet"].lag_events == sum(
        s.lag_events for n, s in by.items() if n.startswith("lane/")
    )


def test_a_picture_that_takes_longer_than_two_seconds_is_announced_once(w: World) -> None:
    ref = sent(ask(w, "!map")).ref
    told: list[str] = []
    for _ in range(5):
        w.now_s += 1.0
        told.append(words(w.core.handle(ev.Tick(), w.now)))
    assert told == ["", "", "Drawing ...", "", ""]
    shown = w.core.handle(ev.QueryFinished(ref, Drawn("https://d/map.png")), w.now)
    assert fx.Show("https://d/map.png") in shown
    (said,) = [e for e in shown if isinstance(e, fx.Say)]
    assert said.reply == fx.Reply("ben", f"s{next(_ids) - 1}"), "it names the question"
    quick = sent(ask(w, "map", room=False)).ref
    w.core.handle(ev.QueryFinished(quick, Drawn("https://d/map.png")), w.now)
    w.now_s += 9.0
    assert words(w.core.handle(ev.Tick(), w.now)) == ""


def test_a_plot_begins_where_something_is_known_and_has_its_lanes_by_number(w: World) -> None:
    wanted = sent(ask(w, "!plot lag")).what
    assert isinstance(wanted, PlotWanted)
    now = wanted.until_ms
    known = (now - 600_000, now - 5_000)
    lines = [Line(name, known, (0.0, 0.0)) for name in ("lane/11", "fleet", "lane/2")]
    plot = plot_from_lines(wanted, lines)
    assert [x.name for x in plot.lines] == ["the fleet", "lane 2", "lane 11"]
    assert (plot.since_ms, plot.until_ms) == (now - 600_000, now)
    assert plot.title.startswith("Lag of the fleet, last 1h (known since ")
    whole = (wanted.since_ms + 5_000, now)
    assert plot_from_lines(wanted, [Line("fleet", whole, (1.0, 2.0))]).since_ms == wanted.since_ms


def test_a_figure_that_is_old_is_not_told_as_the_present_one(w: World) -> None:
    wanted = sent(ask(w, "!plot lag")).what
    assert isinstance(wanted, PlotWanted)
    now = wanted.until_ms
    lines = (
        Line("fleet", (now - 900_000, now), (7.0, 5.0)),
        Line("lane/3", (now - 900_000, now - 600_000), (9.0, 4.0)),
        Line("lane/4", (now - 900_000, now), (0.0, 0.0)),
    )
    text = _describe_plot(plot_from_lines(wanted, lines))
    assert "the fleet: 5 events now, peak 7 (" in text
    assert "lane 3: 4 events at last (" in text
    assert "lane 4: 0 events all the time" in text


def test_the_map_names_its_fleet_and_its_time(w: World) -> None:
    w.core.desk.address = "geolane@fleet.example.org"
    wanted = sent(ask(w, "!map")).what
    assert isinstance(wanted, MapWanted)
    assert (wanted.map.fleet, wanted.map.at_ms) == ("example.org", w.now.ms)
