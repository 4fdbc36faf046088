"""Who may ask what, what a dry run promises, and what voids it (PROTOCOL 4)."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from agents.core import events as ev
from agents.core.events import AffiliationChanged, QuestionAsked, TelemetryIn, WorkerSeen
from agents.core.fleet.summary import make_map
from agents.core.model.messages import (
    Announcement,
    Arrival,
    DrainCommand,
    Health,
    PathReport,
    Telemetry,
)
from agents.core.model.placement import PAUSE, State, drain_intent
from agents.core.model.plan import AllowedNodes
from agents.core.model.topology import WorkerKind
from agents.core.operators import tables
from agents.core.operators.chat import extract_command
from agents.core.operators.registry import COMMANDS
from agents.core.operators.tables import format_table
from tests.core.world import World

ANA, BEN, EVE = "ana@d", "ben@d", "eve@d"
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.tell(ev.AffiliationsRead({ANA: "admin", BEN: "member"}))
    world.said.clear()
    return world


def ask(
    w: World,
    text: str,
    who: str = ANA,
    *,
    room: bool = True,
    replaces: str | None = None,
    message_id: str = "",
    nick: str = "",
) -> str:
    """Say it, and give the answer ('' when there is none)."""
    before = len(w.said)
    n = next(_ids)
    w.tell(
        QuestionAsked(
            *(who, nick or who.partition("@")[0], text, room, f"s{n}"),
            *(replaces, message_id or f"m{n}"),
        )
    )
    return "\n".join(w.said[before:])


def test_round_trips_to_kafka_are_shown(w: World) -> None:
    told = {
        "node-0": tuple(PathReport(b, 12.6 + b, 12.1, 15, 1.0) for b in range(7)),
        "node-1": (PathReport(1, 0.42, 0.3, 15, 1.0),),
        "node-2": (PathReport(1, 1500.0, 1400.0, 15, 1.0),),
    }
    for worker, paths in told.items():
        boot = w.procs[worker].boot
        w.tell(TelemetryIn(worker, Telemetry(boot, 1000, "", 0.1, 40.0, paths=paths)))
    w.now_s += 2
    w.tell(ev.Tick())
    table = ask(w, "!nodes")
    assert "rtt: ms to Kafka" in table
    last = {row.split()[0]: row.split()[-1] for row in table.splitlines() if row[:1].isalnum()}
    assert [last[name] for name in ("0", "1", "2", "router-1")] == ["19", "0.4", ">1s", "-"]
    assert max(map(len, table.partition("```")[2].splitlines())) <= 36
    assert "Round trip to broker 1 0.4 ms (15 probes, 3 s ago)." in ask(w, "!node 1")
    seven = ask(w, "!node 0")
    assert "Round trip to broker 0 12.6 ms (15 probes, 3 s ago), broker 1 13.6 ms" in seven
    assert "and 2 more, up to 18.6 ms." in seven
    router = ask(w, "!node router-1")
    assert router.startswith("router-1 is ok")
    assert "Round trip" not in router


def confirm_id(answer: str) -> str:
    return answer.partition("confirm ")[2].split()[0]


@pytest.mark.parametrize(
    ("text", "room", "command"),
    [
        ("!status", True, "status"),
        ("geolane: status", True, "status"),
        ("Geolane, status", True, "status"),
        ("status", True, None),
        ("status", False, "status"),
        ("!status", False, "status"),
        ("hello geolane: status", True, None),
    ],
)
def test_addressing(text: str, room: bool, command: str | None) -> None:
    assert extract_command(text, room) == command


@pytest.mark.parametrize(
    "text",
    [
        "help drain",
        "status",
        "nodes",
        "nodes 2",
        "node 1",
        "lanes",
        "lanes 9",
        "lane 3",
        "explain 3",
        "help whatif",
        "whatif drain 0",
        "whatif lose s1",
        "whatif add s2 2000",
        "whatif rate 3 x4",
        "hotspots",
        "tune",
        "tune commit_gap_ms",
        "tune cooldown_most_s",
        "follow",
        "help history",
        "help tune",
        "help lane",
    ],
)
def test_every_look_is_answered_within_a_phone_screen(w: World, text: str) -> None:
    answer = ask(w, "!" + text, BEN)
    assert answer
    before, _, table = answer.partition("```")
    assert len(before.split("\n")) <= 8
    assert len(before) <= 600
    rows = table.partition("```")[0].split("\n")
    assert len(rows) <= 1 + 1 + tables.ROWS + 1
    assert all(len(row) <= 36 for row in rows)


def test_all_workers_of_the_demo_are_in_one_answer() -> None:
    w = World(nodes=10, lanes=40)
    w.tell(ev.AffiliationsRead({BEN: "member"}))
    w.said.clear()
    table = ask(w, "!nodes", BEN).split("```")[1].split("\n")
    assert {row.split()[0] for row in table[2:-1]} == {*map(str, range(10)), "router-1"}
    assert "lanes are placed. More: !lanes 2\n" in ask(w, "!lanes", BEN)
    assert "lanes are placed. More: lanes 2\n" in ask(w, "lanes", BEN, room=False)


def test_help_has_a_line_for_each_command_in_groups_and_our_address(w: World) -> None:
    w.core.desk.address = "geolane@fleet.d"
    lines = ask(w, "!help").split("\n")
    assert lines[1] == (
        "In the room a command begins with !; one to one (geolane@fleet.d) without it."
    )
    listed = [line.partition(" ")[0].rstrip(":") for line in lines if line.startswith("!")][1:]
    assert set(listed) == {f"!{name}" for name in COMMANDS}
    twice = {name for name in listed if listed.count(name) > 1}
    assert twice == {"!lane"}, "it looks, and an owner may rewind"
    assert max(map(len, lines)) <= 100
    assert lines.index("Act (admin)") < lines.index(
        "!drain NODE: move all lanes away and give it no new ones"
    )
    assert "!lane LANE rewind TIME: process its events again" in lines
    alone = ask(w, "help", room=False)
    assert not any(line.startswith("!") for line in alone.split("\n"))
    assert "!help lists them." in ask(w, "!nothing")


def test_people_outside_are_refused_and_the_room_is_not_disturbed_by_chatter(w: World) -> None:
    assert "your affiliation is none" in ask(w, "!status", EVE)
    assert ask(w, "status everybody?", ANA) == ""


def test_a_member_looks_and_may_not_act(w: World) -> None:
    assert "admin" in ask(w, "!drain 1", BEN)
    assert not w.kafka


def test_unknown_words_name_the_nearest(w: World) -> None:
    assert "status" in ask(w, "!statsu")
    assert "Usage: move LANE NODE" in ask(w, "!move 3")
    assert "Usage: move LANE NODE" in ask(w, "!move 3 0 1")
    assert "0 to 5" in ask(w, "!lane 77")
    assert "not a valid lane" in ask(w, "!lane \u0661"), "a digit, but none of ours"
    assert "No node is called" in ask(w, "!drain nowhere")


def test_a_lane_shows_what_arrives_for_it(w: World) -> None:
    assert "arrive" not in ask(w, "!lane 3"), "no router has counted it"
    boot, counted = w.procs["router-1"].boot, (Arrival(3, 1234.0),)
    w.tell(TelemetryIn("router-1", Telemetry(boot, 1000, "", 0.1, 40.0, arrivals=counted)))
    assert "1,234 events/s arrive" in ask(w, "!lane 3")


def test_a_new_leader_explains_nothing_before_its_first_plan() -> None:
    w = World(nodes=3, lanes=6)
    w.tell(ev.AffiliationsRead({BEN: "member"}))
    assert ask(w, "!explain 2", BEN) == "Lane 2 has not been scored yet; try again in a second."


def test_explain_gives_each_term_in_ms(w: World) -> None:
    answer = ask(w, "!explain 2")
    assert "modelled ms = " in answer.split("\n")[0]
    assert "RTT" in answer.split("\n")[0]
    assert "Runner-up" in answer
    assert "+ 2.0 moving" in answer
    assert "room costs" in answer
    assert "binds" in answer


def test_a_move_that_a_rule_forbids_is_refused(w: World) -> None:
    target = next(
        n
        for n in ("node-0", "node-1", "node-2")
        if n != w.partitions[WorkerKind.NODE.partition(0)].worker
    )
    frame = w.core.placing.frame
    allowed = tuple(n.id != target for n in frame.nodes)
    w.core.placing.frame = replace(
        frame, rule=(0,) * len(frame.rule), rules=(AllowedNodes("eu", allowed),)
    )
    assert "may not be placed on" in ask(w, f"!move 0 {target.partition('-')[2]}")
    assert not w.kafka


def test_a_drain_is_done_when_what_came_meanwhile_has_gone_too(w: World) -> None:
    fleet = w.core.fleet
    victim = next(s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    name = victim.partition("-")[2]
    other = next(
        p for p, s in fleet.partitions.items() if WorkerKind.NODE.works(p) and s.worker != victim
    )
    ask(w, f"!confirm {confirm_id(ask(w, f'!move {other.n} {name}'))}")
    w.kafka_step()
    w.deliver(0)
    w.kafka_step()
    w.kafka_step()  # it is released, and about to be written as the victim's
    ask(w, f"!confirm {confirm_id(ask(w, f'!drain {name}'))}")
    assert other not in w.core.news.incidents[-1].epochs
    w.kafka_step()
    assert other in fleet.owned_by(victim)
    assert other in w.core.news.incidents[-1].epochs
    w.fair(40, revive=False)
    assert not fleet.owned_by(victim)
    assert [line for line in w.said if line.startswith("ana: drain") and "done in" in line]
    assert ask(w, "!status").startswith("Calm: ")  # as the room's subject says


def test_a_drain_that_is_taken_back_is_never_told_to_be_done(w: World) -> None:
    victim = next(s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    name = victim.partition("-")[2]
    ask(w, f"!confirm {confirm_id(ask(w, f'!drain {name}'))}")
    w.kafka_step()
    ask(w, f"!confirm {confirm_id(ask(w, f'!resume {name}'))}")
    w.fair(40, revive=False)
    assert not w.core.news.incidents
    assert not [line for line in w.said if "drain" in line and "done in" in line]


def test_a_drain_is_predicted_confirmed_written_then_told(w: World) -> None:
    victim = next(s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    name = victim.partition("-")[2]
    answer = ask(w, f"!drain {name}")
    assert "RTT an event" in answer
    assert not w.intents, "a dry run changes nothing"
    assert "On it" in ask(w, f"!confirm {confirm_id(answer)}")
    assert not [s for s in w.sends if isinstance(s.command, DrainCommand)], (
        "not said before it is written"
    )
    w.kafka_step()
    assert drain_intent(victim) in w.intents
    assert [s for s in w.sends if isinstance(s.command, DrainCommand)]
    w.fair(40, revive=False)
    assert not w.core.fleet.owned_by(victim)
    assert w.all_at_work()
    assert any(line.startswith("ana: drain") and "done in" in line for line in w.said)
    w.lead()
    w.fair(10, revive=False)
    assert not w.core.fleet.owned_by(victim), "a drain outlives the coordinator"
    w.tell(ev.AffiliationsRead({ANA: "admin"}))
    ask(w, f"!confirm {confirm_id(ask(w, f'!resume {name}'))}")
    w.fair(3, revive=False)
    assert not w.intents


def test_a_move_ends_where_it_was_asked_to_and_stays(w: World) -> None:
    p = WorkerKind.NODE.partition(0)
    target = next(n for n in ("node-0", "node-1", "node-2") if n != w.partitions[p].worker)
    answer = ask(w, f"!move 0 {target.partition('-')[2]}")
    assert "ms RTT" in answer
    ask(w, f"!confirm {confirm_id(answer)}")
    w.fair(60, revive=False)
    assert w.partitions[p].worker == target
    assert w.partitions[p].state is State.ASSIGNED


def test_pause_stops_what_the_planner_wants(w: World) -> None:
    ask(w, f"!confirm {confirm_id(ask(w, '!pause'))}")
    w.fair(1, revive=False)
    assert PAUSE in w.intents
    assert "Paused" in ask(w, "!status")
    ask(w, f"!confirm {confirm_id(ask(w, '!unpause'))}")
    w.fair(1, revive=False)
    assert PAUSE not in w.intents


def test_a_confirm_is_bound_to_asker_place_version_and_time(w: World) -> None:
    one = confirm_id(ask(w, "!drain 0"))
    w.tell(ev.AffiliationsRead({ANA: "admin", BEN: "admin"}))
    assert "another person" in ask(w, f"!confirm {one}", BEN)
    assert "another person or conversation" in ask(w, f"confirm {one}", ANA, room=False)
    w.crash("node-0")
    assert "has changed" in ask(w, f"!confirm {one}")
    w.fair(30)
    two = confirm_id(ask(w, "!pause"))
    w.now_s += 121
    assert "There is no dry run" in ask(w, f"!confirm {two}")
    assert not w.intents


def test_a_node_that_flips_its_health_voids_nobodys_confirm(w: World) -> None:
    """Each flip is another version of the fleet; what the prediction rests on is the same."""
    asked = {}
    for text in ("!pause", "!drain 1", "!rollout 1", "!tune commit_gap_ms 50", "!rebalance"):
        w.tell(ev.AffiliationsRead({ANA: "owner", BEN: "member"}))
        answer, w.now_s = ask(w, text), w.now_s + 5
        if "confirm" in answer:
            asked[text] = confirm_id(answer)
    lane = next(
        p for p, s in w.partitions.items() if WorkerKind.NODE.works(p) and s.worker == "node-1"
    )
    asked["move"] = confirm_id(ask(w, f"!move {lane.n} 2"))
    version = w.core.fleet.version
    boot = w.procs["node-0"].boot
    for health in (Health.DND, Health.XA, Health.DND, Health.AVAILABLE) * 5:
        w.tell(WorkerSeen(Announcement("node-0", health, boot, "odd", capacity_eps=2000.0)))
    assert w.core.fleet.version > version
    w.tell(WorkerSeen(Announcement("node-0", Health.DND, boot, "odd", capacity_eps=2000.0)))
    for text in ("move", "!pause", "!drain 1", "!tune commit_gap_ms 50"):
        w.now_s += 3
        assert "On it" in ask(w, f"!confirm {asked[text]}"), text


def test_a_move_is_void_when_its_lane_went_elsewhere_or_its_target_takes_none(w: World) -> None:
    p = WorkerKind.NODE.partition(0)
    others = [n for n in ("node-0", "node-1", "node-2") if n != w.partitions[p].worker]
    first, second = (confirm_id(ask(w, f"!move 0 {n.partition('-')[2]}")) for n in others)
    boot = w.procs[others[0]].boot
    w.tell(WorkerSeen(Announcement(others[0], Health.DND, boot, "odd", capacity_eps=2000.0)))
    assert "takes no lanes now" in ask(w, f"!confirm {first}")
    third = confirm_id(ask(w, f"!move 0 {others[1].partition('-')[2]}"))
    assert "On it" in ask(w, f"!confirm {second}")
    assert "cannot be moved now" in ask(w, f"!confirm {third}")
    w.fair(60, revive=False)
    assert w.partitions[p].worker == others[1]
    assert not w.core.guard.counts


def test_rights_are_looked_up_again_on_confirm(w: World) -> None:
    one = confirm_id(ask(w, "!pause"))
    w.tell(AffiliationChanged(ANA, "member"))
    assert "needs an admin" in ask(w, f"!confirm {one}")


def test_a_correction_voids_the_id(w: World) -> None:
    one = confirm_id(ask(w, "!pause", message_id="first"))
    ask(w, "!rebalance", replaces="first")
    assert "There is no dry run" in ask(w, f"!confirm {one}")


def test_a_correction_by_somebody_else_voids_nothing(w: World) -> None:
    one = confirm_id(ask(w, "!pause", message_id="first"))
    ask(w, "!status", BEN, replaces="first")
    ask(w, "never mind", EVE, replaces="first")
    assert "On it" in ask(w, f"!confirm {one}")


def test_a_flood_of_questions_is_answered_once_with_slowly(w: World) -> None:
    answers = [ask(w, "!status") for _ in range(30)]
    assert sum("Too many requests" in a for a in answers) == 1
    assert sum(bool(a) for a in answers) == 11


def test_nothing_is_changed_while_kafka_is_away(w: World) -> None:
    w.tell(ev.KafkaDown())
    assert "Kafka is away" in ask(w, "!pause")
    assert ask(w, "!status")


def test_a_long_table_says_how_to_see_its_next_page(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROWS", 4)
    first, second = ask(w, "!lanes"), ask(w, "!lanes 2")
    assert first.startswith("6 of 6 lanes are placed. More: !lanes 2\n")
    assert second.startswith("6 of 6 lanes are placed.\n")
    assert len({*first.split("\n"), *second.split("\n")} - {"```"}) == 2 + 1 + 6


def test_the_drain_of_a_node_without_lanes_says_that_it_has_none(w: World) -> None:
    w = World(nodes=3, lanes=2)
    w.fair(8)
    w.tell(ev.AffiliationsRead({ANA: "admin"}))
    idle = next(n for n in ("node-0", "node-1", "node-2") if not w.core.fleet.owned_by(n))
    name = idle.partition("-")[2]
    answer = ask(w, f"!drain {name}")
    assert answer.startswith(f"Drain {name}: it has no lanes now, and would get none.\n")
    assert "nothing" not in answer


def test_status_and_map_tell_the_same_load(w: World) -> None:
    """Of an idle fleet, too, whose forecast is not idle."""
    for worker, view in w.core.fleet.views.items():
        t = view.telemetry
        if worker.startswith("node-") and isinstance(t, Telemetry):
            loads = tuple(replace(load, rate_eps=0.0) for load in t.lanes)
            w.tell(TelemetryIn(worker, replace(t, seq=t.seq + 1, lanes=loads)))
    status = ask(w, "!status")
    assert re.search(r"busiest node 0% now \(\d\), [1-9]\d*% in the forecast", status)
    places = w.core.placing.inputs.places
    assert {dot.load for dot in make_map(w.core.fleet, places.lat, places.lon).dots} == {0.0}


def test_a_figure_or_name_in_a_table_is_shortened_never_cut() -> None:
    rows = [("frankfurt-prod-12", 1_234_567, None)]
    table = format_table(("name", "lag", "p99"), rows, (11, 6, 3))
    assert table.split("\n")[2] == "frank…od-12 1,235k   -"
    wide = format_table(("name", "lag", "p99"), rows, (11, 6, 3), chat=False)
    assert wide.split("\n")[2] == "frankfurt-prod-12 1,234,567   -"


def test_a_node_whose_name_is_a_number_is_called_a_node(w: World) -> None:
    assert ask(w, "!node 1").startswith("Node 1 is ok: ")
    assert ask(w, "!node router-1").startswith("router-1 is ok: ")


def test_one_persons_dry_runs_keep_nobody_from_theirs(w: World) -> None:
    w.tell(AffiliationChanged(BEN, "admin"))
    first = confirm_id(ask(w, "!pause"))
    for _ in range(110):
        w.now_s += 1
        assert "To do it" in ask(w, "!pause", room=False)
    assert "There is no dry run" in ask(w, f"!confirm {first}")
    assert "To do it" in ask(w, "!pause", BEN)


def test_a_nick_speaks_for_nobody_else(w: World) -> None:
    dry = ask(w, "!pause", nick="ben")
    ask(w, f"!confirm {confirm_id(dry)}", nick="ben")
    w.kafka_steps()
    w.tell(ev.Tick())
    assert any(x.startswith("ana: the planner is paused") for x in w.said)
    assert not any("ben" in x for x in w.said)
