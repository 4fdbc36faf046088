"""What commands answer to programs: typed values that survive the way to a shell. The schema in
docs/ is made from their types."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from slixmpp.stanza import Iq

from agents.__main__ import main
from agents.cli.json_schema import list_outputs
from agents.cli.operator_console import DONE, Outcome, _note_reply
from agents.cli.watch import watch
from agents.core import events as ev
from agents.core.events import AdHoc
from agents.core.lanes.dead_letters import Letter, LettersFound
from agents.core.model.answers import (
    AnswerData,
    ChangeData,
    CommandAnswer,
    DeadLetterData,
    DeadLettersData,
    ExplanationData,
    FollowData,
    HelpData,
    HistoryData,
    HotspotsData,
    LaneData,
    LanesData,
    MapData,
    NodeData,
    NodesData,
    PlaceData,
    PlotData,
    StatusData,
    TrafficData,
    TroublesData,
    TuningData,
    WhatIfData,
)
from agents.core.model.charts import Line, Plot
from agents.core.model.feeds import OPERATOR_FEEDS
from agents.core.model.forms import FormReply
from agents.core.model.geo import PlaceAnswer
from agents.core.model.hotspots import Hotspot, HotspotState
from agents.core.model.places import Place, Precision
from agents.core.operators.charts import Drawn
from agents.core.operators.command import Remembered
from agents.core.operators.history import Entries
from agents.settings.tunables import TUNABLES
from plugins import commands
from tests.cli.held import hold_line
from tests.core.world import World

BEN, ANA = "ben@d", "ana@d"
SCHEMA = Path(__file__).parents[3] / "docs" / "json-schema.json"
_refs = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({BEN: "member", ANA: "owner"}))
    return world


def answered(
    w: World, command: str, found: object = None, /, who: str = BEN, then: str = "", **fields: str
) -> Iq:
    """The leader's answer as it arrives. `then`: the id of the dialog, which is completed."""
    w.now_s += 2
    w.tell(AdHoc(f"r{next(_refs)}", who, command, then, "complete" if then else "execute", fields))
    if found is not None:
        w.tell(ev.QueryFinished(w.errands.pop().ref, found))
    while w.kafka:
        w.kafka_step()
    reply = w.answered.pop().answer
    assert isinstance(reply, FormReply)
    asked = Iq()
    asked["type"] = "set"
    asked.xml.append(commands.command_step_to_xml(command))
    return Iq(xml=ET.fromstring(ET.tostring(commands.make_answer(asked, reply).xml)))


def data(w: World, command: str, found: object = None, /, **fields: str) -> AnswerData | None:
    """The figures in what `geolane ctl COMMAND --json` prints."""
    return printed(commands.reply_from_result(answered(w, command, found, **fields)))


def printed(reply: FormReply) -> AnswerData | None:
    outcome = Outcome(reply.command, DONE)
    _note_reply(reply, outcome, lambda text: None)
    return hold_line(outcome.to_json(), CommandAnswer).data


def list_json_commands(
    group: click.Group = main, path: tuple[str, ...] = ("geolane",)
) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from list_json_commands(command, (*path, name))
        elif any("--json" in p.opts for p in command.params):
            yield " ".join((*path, name))


def test_the_schema_has_every_command_with_json() -> None:
    named = {name for name, _ in list_outputs()}
    for command in list_json_commands():
        assert named & {f"{command} --json", f"{command} COMMAND --json"}, command
    for feed in OPERATOR_FEEDS:
        assert feed == "fleet" or f"geolane watch {feed} --json" in named
        assert re.search(rf"\b{feed}\b", watch.help or ""), "what can be watched is in its help"


def test_the_schema_in_the_docs_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(main, ["json-schema"]).stdout
    assert printed == SCHEMA.read_text("utf-8"), "run: geolane json-schema > docs/json-schema.json"


def test_status_has_figures_the_busiest_node_and_the_plan(w: World) -> None:
    found = data(w, "status")
    assert isinstance(found, StatusData)
    assert (found.state, found.nodes, found.lanes_assigned, found.paused) == ("calm", 3, 6, False)
    assert found.plan is not None
    assert found.busiest is not None
    lanes = len(w.core.fleet.owned_by(f"node-{found.busiest.node}"))
    assert lanes == max(len(w.core.fleet.owned_by(f"node-{n}")) for n in range(3))
    assert found.busiest.load == pytest.approx(lanes * 10 / 2000)
    w.tell(ev.KafkaDown())
    away = data(w, "status")
    assert isinstance(away, StatusData)
    assert [t.kind for t in away.troubles] == ["kafka_away"]


def test_nodes_and_lanes_have_a_typed_row_for_each(w: World) -> None:
    nodes = data(w, "nodes")
    assert isinstance(nodes, NodesData)
    assert (nodes.page, nodes.pages, nodes.total, nodes.ok) == (1, 1, 4, 4)
    kinds = {r.name: r.kind for r in nodes.rows}
    assert kinds == {"0": "node", "1": "node", "2": "node", "router-1": "router"}
    assert sum(r.partitions for r in nodes.rows if r.kind == "node") == 6
    lanes = data(w, "lanes")
    assert isinstance(lanes, LanesData)
    assert (lanes.total, lanes.placed, len(lanes.rows)) == (6, 6, 6)
    assert {r.lane: f"node-{r.node}" for r in lanes.rows} == {
        p.n: s.worker for p, s in w.partitions.items() if p.topic.endswith("events.lanes")
    }
    assert all((r.rate_eps, r.lag_events, r.fault) == (10.0, 0, "") for r in lanes.rows)


def test_figures_that_nobody_has_told_are_null() -> None:
    fresh = World(nodes=1, lanes=2)
    fresh.tell(ev.AffiliationsRead({BEN: "member"}))
    lanes = data(fresh, "lanes")
    assert isinstance(lanes, LanesData)
    assert {(r.state, r.node, r.rate_eps) for r in lanes.rows} == {("orphan", None, None)}
    why = data(fresh, "explain", lane="0")
    assert isinstance(why, ExplanationData)
    assert (why.scored, why.node, why.costs) == (False, None, ())


def test_history_has_whole_texts_with_their_times(w: World) -> None:
    text = "12 placed: latency (" + "3: fra-1 to iad-1, " * 12 + "and 3 more)"
    rows = (Remembered(1_764_000_000_250, "ana@d", text, "decision"),)
    found = data(w, "history", Entries(31, 2, 2, rows), page="2")
    assert isinstance(found, HistoryData)
    assert (found.page, found.pages, found.total) == (2, 2, 31)
    (row,) = found.rows
    assert (row.text, row.by, row.kind) == (text, "ana@d", "decision")
    assert row.at.isoformat() == "2025-11-24T16:00:00.250000+00:00"


def test_an_explanation_has_each_term_and_what_binds(w: World) -> None:
    found = data(w, "explain", lane="0")
    assert isinstance(found, ExplanationData)
    assert (found.lane, found.state, found.scored) == (0, "assigned", True)
    current, runner_up = found.costs
    assert (current.role, current.node, runner_up.role) == ("current", found.node, "runner_up")
    assert runner_up.total_ms > current.total_ms
    terms = current.rtt_ms + current.traffic_ms + current.miss_ms + current.egress_ms
    terms += current.degraded_ms + current.move_ms
    assert current.total_ms == pytest.approx(terms, abs=0.01)
    assert found.binds == "nothing"
    gone = f"{(int(current.node) + 1) % 3}"
    w.crash(f"node-{gone}")
    w.fair(20, revive=False)
    after = data(w, "explain", lane="0")
    assert isinstance(after, ExplanationData)
    assert [(x.node, x.why) for x in after.left_out] == [(gone, "gone")]


def test_dead_letters_and_traffic_have_typed_rows(w: World) -> None:
    headers = (("geolane-reason", b"not_json"), ("geolane-lane", b"3"), ("geolane-src", b"x/0/7"))
    letter = Letter(0, 17, 1_764_000_000_000, None, b"{", headers)
    dead = data(w, "dead", LettersFound((letter,), (("not_json", 1),), ((0, 18),)))
    assert isinstance(dead, DeadLettersData)
    assert (dead.count, dead.reasons, dead.whole) == (1, {"not_json": 1}, True)
    (row,) = dead.letters
    assert (row.id, row.lane, row.source, row.replayed) == ("0/17", 3, "x/0/7", False)
    traffic = data(w, "traffic")
    assert isinstance(traffic, TrafficData)
    assert (traffic.total, traffic.lanes, traffic.rows) == (0, 6, ())


def test_what_is_wrong_has_no_data(w: World) -> None:
    assert data(w, "lanes", page="9") is None


LINES = (Line("fleet", (1_764_000_000_000, 1_764_000_010_000), (7.0, 4.0)),)
PLOT = Plot("Lag of the fleet", "events", 1_764_000_000_000, 1_764_000_060_000, LINES)
LETTER = Letter(0, 17, 1_764_000_000_000, b"k", b"\xff{", (("geolane-reason", b"not_json"),))
FOUND = LettersFound((LETTER,), (("not_json", 1),), ((0, 18),))
PARIS = Place("Paris", 48.85, 2.35, "FR", "Ile-de-France", Precision.CITY, "offline", 3, "largest")


@pytest.mark.parametrize(
    ("command", "fields", "found", "kind"),
    [
        ("help", {}, None, HelpData),
        ("help", {"command": "tune"}, None, HelpData),
        ("node", {"node": "1"}, None, NodeData),
        ("node", {"node": "router-1"}, None, NodeData),
        ("lane", {"lane": "3"}, None, LaneData),
        ("whatif", {"change": "lose", "what": "s1"}, None, WhatIfData),
        ("map", {}, Drawn("http://x/map.png"), MapData),
        ("plot", {"what": "lag"}, Drawn("http://x/plot.png", PLOT), PlotData),
        ("dead", {"do": "show", "which": "0/17"}, FOUND, DeadLetterData),
        ("hotspots", {}, None, HotspotsData),
        ("place", {"name": "Paris"}, PlaceAnswer(PARIS, "GeoNames"), PlaceData),
        ("follow", {}, None, FollowData),
        ("tune", {}, None, TuningData),
        ("tune", {"name": "windows"}, None, TuningData),
        ("ack", {}, None, TroublesData),
    ],
)
def test_what_is_looked_at_has_types(
    w: World, command: str, fields: dict[str, str], found: object, kind: type
) -> None:
    w.tell(ev.KafkaDown())
    assert isinstance(data(w, command, found, **fields), kind)


def test_a_node_and_a_lane_have_what_is_known_of_each(w: World) -> None:
    node = data(w, "node", node="1")
    assert isinstance(node, NodeData)
    owned = w.core.fleet.owned_by("node-1")
    assert (node.worker, node.state, node.topic) == ("node-1", "ok", "events.lanes")
    assert node.owned == tuple(p.n for p in owned)
    assert (node.partitions, node.capacity_eps, node.engine) == (len(owned), 2000.0, "python")
    assert node.silent_s is not None
    lane = data(w, "lane", lane=str(owned[0].n))
    assert isinstance(lane, LaneData)
    assert (lane.lane, lane.node, lane.rate_eps) == (owned[0].n, "1", 10.0)
    places = w.core.placing.inputs.places
    assert (lane.lat, lane.lon) == (places.lat[lane.lane], places.lon[lane.lane])


def test_a_question_has_the_moves_that_would_follow(w: World) -> None:
    owned = {p.n for p in w.core.fleet.owned_by("node-1")}
    found = data(w, "whatif", change="drain", what="1")
    assert isinstance(found, WhatIfData)
    assert {(m.lane, m.source) for m in found.moves} == {(n, "1") for n in owned}
    assert all(m.target in "02" and m.delta_ms is not None for m in found.moves)
    assert found.after.busiest is not None
    assert found.after.busiest.node != "1"


def test_hotspots_have_their_figures_and_what_they_raise(w: World) -> None:
    area, at_s = "8326cbfffffffff", int(w.now_s)
    hot = Hotspot(f"{area}-1", HotspotState.OPEN, at_s, at_s, at_s, (area,), area, 14.2, 2.1, 120)
    w.tell(ev.HotspotsRead((ev.HotspotChange(hot, w.now.ms),)))
    found = data(w, "hotspots")
    assert isinstance(found, HotspotsData)
    assert (found.watched, found.total, found.ended) == (False, 1, ())
    (row,) = found.open
    assert (row.id, row.rate_eps, row.usual_eps, row.ended_at) == (hot.id, 14.2, 2.1, None)
    assert row.started_at.timestamp() == at_s
    over = msgspec.structs.replace(hot, state=HotspotState.ENDED, ended_s=at_s + 60)
    w.tell(ev.HotspotsRead((ev.HotspotChange(over, w.now.ms),)))
    after = data(w, "hotspots")
    assert isinstance(after, HotspotsData)
    assert [x.ended_at for x in after.ended] == [datetime.fromtimestamp(at_s + 60, UTC)]


def test_a_dead_letter_is_escaped_and_has_its_size(w: World) -> None:
    letter = data(w, "dead", FOUND, do="show", which="0/17")
    assert isinstance(letter, DeadLetterData)
    assert (letter.key, letter.value, letter.value_bytes) == ("k", "\\xff{", 2)
    assert letter.headers == {"geolane-reason": "not_json"}


def test_a_setting_has_its_value_and_who_tuned_it(w: World) -> None:
    settings = data(w, "tune")
    assert isinstance(settings, TuningData)
    assert {x.name for x in settings.settings} == set(TUNABLES)
    dry = commands.reply_from_result(answered(w, "tune", who=ANA, name="windows", value="7"))
    answered(w, "tune", who=ANA, then=dry.session)
    one = data(w, "tune", name="windows")
    assert isinstance(one, TuningData)
    (row,) = one.settings
    assert (row.value, row.tuned_by, row.workers) == (7, ANA, False)
    assert row.default != 7


def test_following_says_what_is_followed_then(w: World) -> None:
    found = data(w, "follow", feed="geo")
    assert isinstance(found, FollowData)
    assert (found.following, found.feeds) == (("geo",), OPERATOR_FEEDS)
    now = data(w, "follow")
    assert isinstance(now, FollowData)
    assert now.following == ("geo",)
    after = data(w, "unfollow", feed="geo")
    assert isinstance(after, FollowData)
    assert after.following == ()


def test_a_change_has_its_moves_and_what_became_of_it(w: World) -> None:
    dry = commands.reply_from_result(answered(w, "drain", who=ANA, node="1"))
    predicted = printed(dry)
    assert isinstance(predicted, ChangeData)
    owned = {p.n for p in w.core.fleet.owned_by("node-1")}
    assert (predicted.title, predicted.state, predicted.nodes) == ("drain 1", "dry_run", ("1",))
    assert {m.lane for m in predicted.moves} == owned
    assert predicted.total_moves == len(owned)
    done = printed(commands.reply_from_result(answered(w, "drain", who=ANA, then=dry.session)))
    assert isinstance(done, ChangeData)
    assert done == msgspec.structs.replace(predicted, state="begun")


def test_a_change_that_waits_for_a_second_person_has_its_id(w: World) -> None:
    w.core.desk.second.commands = frozenset({"pause"})
    dry = commands.reply_from_result(answered(w, "pause", who=ANA))
    asked = printed(commands.reply_from_result(answered(w, "pause", who=ANA, then=dry.session)))
    assert isinstance(asked, ChangeData)
    assert asked.state == "requested"
    assert asked.request in w.core.desk.second.requests


@pytest.mark.parametrize("text", ['{"type":"moons"}', "{", '{"type":"nodes","page":"1"}'])
def test_figures_that_are_not_known_here_are_left_out(w: World, text: str) -> None:
    iq = answered(w, "nodes")
    assert commands.reply_from_result(iq).data is not None
    (figures,) = iq.xml.iter("{urn:xmpp:json:0}json")
    figures.text = text
    assert commands.reply_from_result(iq).data is None
