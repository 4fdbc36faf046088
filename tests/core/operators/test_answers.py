"""What commands answer to programs: typed values that survive the way to a shell. The schema in
docs/ is made from their types."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from slixmpp.stanza import Iq

from agents.__main__ import main
from agents.cli.operator_console import DONE, Outcome, _note_reply
from agents.core import events as ev
from agents.core.events import AdHoc
from agents.core.lanes.dead_letters import Letter, LettersFound
from agents.core.model.answers import (
    AnswerData,
    CommandAnswer,
    DeadLettersData,
    ExplanationData,
    HistoryData,
    LanesData,
    NodesData,
    StatusData,
    TrafficData,
)
from agents.core.model.forms import FormReply
from agents.core.operators.command import Remembered
from agents.core.operators.history import Entries
from plugins import commands
from tests.cli.held import hold_line
from tests.core.world import World

BEN = "ben@d"
SCHEMA = Path(__file__).parents[3] / "docs" / "json-schema.json"
_refs = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({BEN: "member"}))
    return world


def answered(w: World, command: str, found: object = None, **fields: str) -> Iq:
    """The leader's answer as it arrives."""
    w.now_s += 2
    w.tell(AdHoc(f"r{next(_refs)}", BEN, command, "", "execute", fields))
    if found is not None:
        w.tell(ev.QueryFinished(w.errands.pop().ref, found))
    reply = w.answered.pop().answer
    assert isinstance(reply, FormReply)
    asked = Iq()
    asked["type"] = "set"
    asked.xml.append(commands.command_step_to_xml(command))
    return Iq(xml=ET.fromstring(ET.tostring(commands.make_answer(asked, reply).xml)))


def data(w: World, command: str, found: object = None, **fields: str) -> AnswerData | None:
    """The figures in what `geolane ctl COMMAND --json` prints."""
    outcome = Outcome(command, DONE)
    reply = commands.reply_from_result(answered(w, command, found, **fields))
    _note_reply(reply, outcome, lambda text: None)
    return hold_line(outcome.to_json(), CommandAnswer).data


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


def test_what_has_no_rows_and_what_is_wrong_have_no_data(w: World) -> None:
    assert data(w, "hotspots") is None
    assert data(w, "lanes", page="9") is None


@pytest.mark.parametrize("text", ['{"type":"moons"}', "{", '{"type":"nodes","page":"1"}'])
def test_figures_that_are_not_known_here_are_left_out(w: World, text: str) -> None:
    iq = answered(w, "nodes")
    assert commands.reply_from_result(iq).data is not None
    (figures,) = iq.xml.iter("{urn:xmpp:json:0}json")
    figures.text = text
    assert commands.reply_from_result(iq).data is None
