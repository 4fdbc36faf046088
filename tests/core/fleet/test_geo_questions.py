"""The leader asks geo workers for the traffic of lanes, and plans with it while it holds; a fleet
without a geo worker asks nothing and plans as if there were none."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from agents.core import events as ev
from agents.core.events import HotspotsRead, QuestionAsked
from agents.core.fleet.geo_questions import ANSWER_S, FORGOTTEN_S, find_geo_worker
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.feeds import GEO, GeoItem
from agents.core.model.geo import (
    NO_PROVIDER,
    NO_ROUTE,
    NO_STATIC,
    LaneTraffic,
    Named,
    NamesAnswer,
    NamesCommand,
    ProviderCalls,
    Source,
    TrafficAnswer,
    TrafficCommand,
    lane_key,
)
from agents.core.model.plan import Decided
from agents.core.model.topology import WorkerKind
from agents.core.operators.explain import explain_lane
from agents.core.planning.recording import (
    frame_from_json,
    frame_to_json,
    make_plan_json,
    moment_from_json,
    moment_to_json,
    plan_to_json,
)
from tests.core.fleet.test_data_paths import Probes, nodes_of, tell_leaders
from tests.core.fleet.test_hotspots import DALLAS, LANEMAP, hotspot, read
from tests.core.world import NUMERICS, World

APPLE = Source("apple", "Apple Maps", 0.0, 300.0)
ANA = "ana@d"
CITY = Named("", "Dallas, Texas", Source("offline", valid_s=86_400.0))


def asked(w: World, kind: type = TrafficCommand) -> list[TrafficCommand | NamesCommand]:
    """What was asked since the last look, of this kind."""
    found = [x.command for x in w.asked_geo if isinstance(x.command, kind)]
    w.asked_geo = [x for x in w.asked_geo if not isinstance(x.command, kind)]
    return found  # type: ignore[return-value]


def answer_traffic(w: World, told: Mapping[int, float], source: Source = APPLE) -> list[int]:
    """Answer what was asked about traffic. Returns the lanes. Those that are not in `told` have no
    route."""
    lanes: list[int] = []
    for command in asked(w):
        assert isinstance(command, TrafficCommand)
        rows = tuple(
            LaneTraffic(x.lane, told[x.lane], source, live=True)
            if x.lane in told
            else LaneTraffic(x.lane, None, source, "no route")
            for x in command.lanes
        )
        lanes += [x.lane for x in command.lanes]
        w.tell(ev.GeoAnswered("geo-1", command, TrafficAnswer(rows, ProviderCalls(12, 20_000))))
    return lanes


def run(w: World, seconds: int, told: Mapping[int, float] | None = None) -> set[int]:
    """Let time pass. With `told`, all questions about traffic are answered with it. Returns the
    lanes that were asked about."""
    lanes: set[int] = set()
    for _ in range(seconds):
        w.fair(1)
        if told is not None:
            lanes |= set(answer_traffic(w, told))
    return lanes


@pytest.fixture
def fleet() -> World:
    w = World(nodes=2, lanes=4, geo=1)
    w.tell(ev.AffiliationsRead({ANA: "member"}))
    run(w, 10)
    return w


def ask(w: World, text: str) -> str:
    w.said.clear()
    w.tell(QuestionAsked(ANA, "", text, False, f"{text}{w.now_s}", None, "1"))
    return w.said[-1]


# ---- questions ----


def test_it_asks_a_geo_worker_for_each_lane_of_a_small_fleet(fleet: World) -> None:
    (effect,) = [x for x in fleet.asked_geo if isinstance(x.command, TrafficCommand)]
    assert effect.worker == "geo-1"
    assert effect.command.boot == fleet.procs["geo-1"].boot
    assert effect.command.leader_epoch == fleet.leader_epoch
    assert isinstance(effect.command, TrafficCommand)
    assert sorted(x.lane for x in effect.command.lanes) == [0, 1, 2, 3]


def test_people_read_that_no_provider_is_chosen(fleet: World) -> None:
    assert ask(fleet, "traffic").startswith("Traffic: n/a. The geo worker is being asked.")
    why = "the settings choose no provider of travel times (geo.travel_times)"
    (command,) = asked(fleet)
    assert isinstance(command, TrafficCommand)
    source = Source(NO_PROVIDER, valid_s=600.0)
    rows = tuple(LaneTraffic(x.lane, None, source, why) for x in command.lanes)
    fleet.tell(ev.GeoAnswered("geo-1", command, TrafficAnswer(rows)))
    assert ask(fleet, "traffic") == f"Traffic: n/a. 4 lanes: {why}. Plans count it as 1."
    assert f"Traffic: n/a, {why}; it counts as 1." in ask(fleet, "explain 0")
    run(fleet, 200)
    assert asked(fleet) == [], "that would not change it"


def test_people_read_why_the_provider_is_away_until_it_answers(fleet: World) -> None:
    why = "Valhalla gives no answer"
    (command,) = asked(fleet)
    assert isinstance(command, TrafficCommand)
    source = Source("valhalla", valid_s=1.5)
    rows = tuple(LaneTraffic(x.lane, None, source, why) for x in command.lanes)
    fleet.tell(ev.GeoAnswered("geo-1", command, TrafficAnswer(rows)))
    run(fleet, 45)
    assert ask(fleet, "traffic").startswith(f"Traffic: n/a. 4 lanes: {why}.")
    assert f"Traffic: n/a, {why} (valhalla, 5" in ask(fleet, "explain 0")
    run(fleet, 30, dict.fromkeys(range(4), 1.5))
    assert ask(fleet, "traffic").startswith("Traffic of 4 of 4 lanes is known")


def test_a_geo_worker_that_was_restarted_is_asked_about_what_it_refused_before(
    fleet: World,
) -> None:
    (command,) = asked(fleet)
    assert isinstance(command, TrafficCommand)
    source = Source("apple", valid_s=300.0)
    rows = tuple(LaneTraffic(x.lane, None, source, "refuses the key") for x in command.lanes)
    fleet.tell(ev.GeoAnswered("geo-1", command, TrafficAnswer(rows)))
    run(fleet, 70)
    assert asked(fleet) == [], "the answer holds for 300 s"
    fleet.crash("geo-1")
    run(fleet, 1)
    fleet.start("geo-1")
    assert run(fleet, 70, dict.fromkeys(range(4), 1.5)) == {0, 1, 2, 3}


def test_one_question_at_a_time_and_one_in_a_period(fleet: World) -> None:
    assert len(asked(fleet)) == 1
    run(fleet, int(FORGOTTEN_S) - 15)
    assert asked(fleet) == [], "the first one is still open"
    run(fleet, 60)
    assert len(asked(fleet)) == 1, "that one was lost"
    assert ANSWER_S < FORGOTTEN_S
    answer_traffic(fleet, {})


def test_a_large_fleet_is_asked_about_ten_lanes_at_a_time() -> None:
    w = World(nodes=2, lanes=25, geo=1)
    told = dict.fromkeys(range(25), 1.5)
    assert len(run(w, 20, told)) == 10
    assert run(w, 200, told) == set(range(25))


def test_without_a_geo_worker_nothing_is_asked_and_nothing_counts() -> None:
    w = World(nodes=2, lanes=4)
    run(w, 100)
    assert w.asked_geo == []
    assert {lane.traffic for d in w.decided for lane in d.moment.lanes} == {1.0}
    w.tell(ev.AffiliationsRead({ANA: "member"}))
    assert ask(w, "traffic").startswith("Traffic: n/a. The inventory has no geo worker")
    assert "raffic" not in ask(w, "explain 0")
    assert "raffic" not in ask(w, "lane 0")


def test_a_worker_that_drains_or_is_gone_is_not_asked() -> None:
    w = World(nodes=2, lanes=4, geo=2)
    run(w, 10)
    assert find_geo_worker(w.core.fleet) == "geo-1"
    w.crash("geo-1")
    assert find_geo_worker(w.core.fleet) == "geo-2"
    w.crash("geo-2")
    assert find_geo_worker(w.core.fleet) == ""
    w.asked_geo.clear()
    for _ in range(100):
        w.fair(1, revive=False)
    assert w.asked_geo == []


# ---- answers ----


def test_an_answer_to_another_question_changes_nothing(fleet: World) -> None:
    (command,) = asked(fleet)
    assert isinstance(command, TrafficCommand)
    row = LaneTraffic(0, 9.0, APPLE)
    fleet.tell(ev.GeoAnswered("geo-1", replace(command), TrafficAnswer((row,))))
    assert fleet.core.geo.list_known(fleet.now_s) == []
    fleet.tell(ev.GeoAnswered("geo-1", command, TrafficAnswer((LaneTraffic(77, 9.0, APPLE),))))
    assert fleet.core.geo.list_known(fleet.now_s) == [], "nobody asked about lane 77"


def test_no_answer_is_told_and_asked_again(fleet: World) -> None:
    (command,) = asked(fleet)
    assert isinstance(command, TrafficCommand)
    fleet.tell(ev.GeoAnswered("geo-1", command, None, "geo-1: no answer"))
    assert "geo-1: no answer" in ask(fleet, "traffic")
    assert fleet.core.geo.counts["traffic", "failed"] == 1
    run(fleet, 70)
    assert len(asked(fleet)) == 1


def refuse_traffic(w: World, why: str, source: Source) -> None:
    for command in asked(w):
        assert isinstance(command, TrafficCommand)
        rows = tuple(LaneTraffic(x.lane, None, source, why) for x in command.lanes)
        w.tell(ev.GeoAnswered("geo-1", command, TrafficAnswer(rows)))


def test_a_provider_that_refuses_us_is_told_in_the_room_until_it_answers(fleet: World) -> None:
    why = "Apple Maps refuses the team's key (401, 'Not Authorized'): check team id, key id, key"
    source = replace(APPLE, valid_s=300.0)
    refuse_traffic(fleet, why, source)
    assert not fleet.core.news.troubles.is_set(TroubleKind.NO_TRAFFIC, "")
    run(fleet, 310)
    fleet.said.clear()
    refuse_traffic(fleet, why, source)
    run(fleet, 5)
    told = [s for s in fleet.said if "geo-1 tells no traffic" in s]
    assert len(told) == 1
    assert why in told[0]
    assert "geolane doctor --as geo-1 on its machine" in told[0]
    assert why in ask(fleet, "traffic"), "whole, since there is no table below it"
    run(fleet, 600, dict.fromkeys(range(4), 1.2))
    assert not fleet.core.news.troubles.is_set(TroubleKind.NO_TRAFFIC, "")


@pytest.mark.parametrize(
    ("why", "source"),
    [
        (NO_ROUTE, APPLE),
        (NO_STATIC, APPLE),
        ("the settings choose no provider of travel times", Source(NO_PROVIDER, valid_s=60.0)),
    ],
)
def test_that_there_is_no_index_is_no_trouble(fleet: World, why: str, source: Source) -> None:
    for _ in range(4):
        refuse_traffic(fleet, why, replace(source, valid_s=60.0))
        run(fleet, 70)
    assert not fleet.core.news.troubles.is_set(TroubleKind.NO_TRAFFIC, "")


def test_a_geo_worker_that_answers_nothing_is_told(fleet: World) -> None:
    for _ in range(2):
        (command,) = asked(fleet)
        assert isinstance(command, TrafficCommand)
        fleet.tell(ev.GeoAnswered("geo-1", command, None, "IndexError at desk.py:1"))
        run(fleet, 70)
    assert fleet.core.news.troubles.is_set(TroubleKind.NO_TRAFFIC, "")


def test_an_answer_of_the_wrong_kind_is_none(fleet: World) -> None:
    (command,) = asked(fleet)
    assert isinstance(command, TrafficCommand)
    fleet.tell(ev.GeoAnswered("geo-1", command, NamesAnswer(())))
    assert fleet.core.geo.counts["traffic", "failed"] == 1


def test_the_feed_has_what_is_known_and_is_emptied_when_it_expires(fleet: World) -> None:
    answer_traffic(fleet, {0: 1.2, 2: 2.5})

    def last_item() -> GeoItem:
        item = [p.item for p in fleet.published if p.item.feed == GEO][-1]
        assert isinstance(item.element, GeoItem)
        return item.element

    assert [(x.lane, x.index, x.provider) for x in last_item().rows] == [
        (2, 2.5, "apple"),
        (0, 1.2, "apple"),
    ]
    assert (last_item().lanes, last_item().calls, last_item().daily_calls) == (2, 12, 20_000)
    run(fleet, 300)
    assert last_item() == GeoItem(0, 12, 20_000)


def test_people_read_index_source_and_age(fleet: World) -> None:
    at_s = fleet.core.geo._open[TrafficCommand].at_s
    answer_traffic(fleet, {0: 1.2, 2: 2.5})
    run(fleet, 5)
    text = ask(fleet, "traffic")
    assert text.startswith(
        "Traffic of 2 of 4 lanes is known (apple, live: Apple Maps); the others count as 1. 2 "
        "lanes: no route. 12 of 20,000 calls used today."
    )
    age_s = int(fleet.now_s - at_s)
    assert f"2     2.50   {age_s} s" in text
    assert f"Traffic: x2.50, by apple, live, {age_s} s ago." in ask(fleet, "explain 2")
    assert f"Traffic: n/a, no route (apple, {age_s} s ago); it counts as 1." in ask(
        fleet, "explain 1"
    )
    assert f"Traffic: x2.50, by apple, live, {age_s} s ago." in ask(fleet, "lane 2")


def test_an_invented_figure_says_so(fleet: World) -> None:
    answer_traffic(fleet, {0: 1.2}, Source("invented", valid_s=300.0))
    assert "(invented, live)" in ask(fleet, "traffic")
    assert "by invented" in ask(fleet, "explain 0")


# ---- names ----


def answer_names(w: World, name: Named = CITY) -> list[str]:
    keys: list[str] = []
    for command in asked(w, NamesCommand):
        assert isinstance(command, NamesCommand)
        keys += [x.key for x in command.places]
        named = tuple(replace(name, key=x.key) for x in command.places)
        w.tell(ev.GeoAnswered("geo-1", command, NamesAnswer(named)))
    return keys


def test_lanes_are_named_once_while_the_name_holds(fleet: World) -> None:
    assert sorted(answer_names(fleet)) == [lane_key(n) for n in range(4)]
    run(fleet, 100)
    assert answer_names(fleet) == []
    assert "Dallas, Texas (offline, 10" in ask(fleet, "lane 0")
    answer_traffic(fleet, {0: 1.2})
    assert "Dallas" in ask(fleet, "traffic")


def test_names_that_expire_soon_are_asked_for_again_only_where_they_are_read(fleet: World) -> None:
    run(fleet, 1, {0: 2.0})
    answer_names(fleet, replace(CITY, source=Source("apple", valid_s=60.0)))
    run(fleet, 60, {0: 2.0})
    assert set(answer_names(fleet)) == {lane_key(0)}
    assert "Dallas" not in ask(fleet, "lane 1")


def test_hotspots_are_named_and_their_lanes_asked_about_first() -> None:
    w = World(nodes=3, lanes=6, geo=1, lanemap=LANEMAP)
    w.tell(ev.AffiliationsRead({ANA: "member"}))
    w.tell(HotspotsRead())
    run(w, 10)
    answer_names(w)
    w.asked_geo.clear()
    read(w, hotspot(w))
    run(w, 100)
    (first, *_) = asked(w)
    assert isinstance(first, TrafficCommand)
    assert first.lanes[0].lane == 0
    assert set(answer_names(w)) == {DALLAS}
    assert "Dallas, US (Dallas, Texas: offline, " in ask(w, "hotspots")
    h = hotspot(w)
    for _ in range(12):  # it lasts
        run(w, 60)
        h = msgspec.structs.replace(h, last_s=int(w.now_s))
        read(w, h)
    assert answer_names(w) != [], "geo.context keeps minutes"


# ---- the plan ----

NEAR_EGRESS_MS = 30.0


def two_nodes() -> tuple[World, Probes]:
    """Of two nodes, one is 2 ms from the broker and has a dear way out, the other is 7 ms away:
    41 and 38.5 ms an event, with 5.5 round trips."""
    w = World(nodes=2, lanes=4, geo=1, data_at_kafka=True)
    s0 = replace(w.inv.sites["s0"], egress_ms=NEAR_EGRESS_MS)
    w.inv = msgspec.structs.replace(w.inv, sites={**w.inv.sites, "s0": s0})
    w.lead()
    probes = Probes(w, {("node-0", 2): 2.0, ("node-1", 2): 7.0})
    tell_leaders(w, dict.fromkeys(range(4), 2), {2: ""})
    return w, probes


def test_the_plan_changes_when_only_traffic_changes_and_back_when_it_expires() -> None:
    w, probes = two_nodes()
    probes.run(90)
    assert nodes_of(w) == {"node-1": 4}
    # Traffic makes the way to node-1 as long as 14 ms, that to node-0 as long as 4.
    for _ in range(120):
        answer_traffic(w, dict.fromkeys(range(4), 2.0))
        probes.run(2)
    assert nodes_of(w) == {"node-0": 4}
    text = explain_lane(w.core.placing, WorkerKind.NODE.partition(0), w.now_s).text
    assert "11.0 traffic" in text
    assert "Traffic: x2.00, by apple, live" in text
    # The provider answers no more: nothing is made up of what it said.
    probes.run(300)
    assert w.core.geo.list_known(w.now_s) == []
    assert {lane.traffic for lane in w.decided[-1].moment.lanes} == {1.0}
    probes.run(120)
    assert nodes_of(w) == {"node-1": 4}


def test_plans_with_traffic_are_made_again_byte_for_byte() -> None:
    w, probes = two_nodes()
    for _ in range(60):
        answer_traffic(w, {0: 2.0, 1: 1.37, 2: 0.25})
        probes.run(2)
    frame = next(d.frame for d in w.decided if d.frame is not None)
    some: list[Decided] = w.decided[-3:]
    assert {lane.traffic for lane in some[-1].moment.lanes} == {2.0, 1.37, 0.25, 1.0}
    for decided in some:
        moment = moment_from_json(moment_to_json(decided.moment))
        again = make_plan_json(frame_from_json(frame_to_json(frame)), moment, NUMERICS)
        assert again == plan_to_json(decided.plan)


# ---- never invented ----


@pytest.mark.parametrize("seed", range(3))
def test_no_lane_has_traffic_that_was_not_told_and_still_holds(seed: int) -> None:
    """Whatever geo workers answer or leave out, and whoever leads."""
    dice = random.Random(seed)
    w = World(nodes=3, lanes=12, geo=2)
    told: dict[int, list[tuple[float, float]]] = {}  # by lane: the index, and until when it holds
    for _ in range(400):
        before = len(w.decided)
        w.fair(1)
        for decided in w.decided[before:]:
            moment = decided.moment
            for lane in moment.lanes:
                held = {index for index, until in told.get(lane.id, []) if moment.now_s < until}
                assert lane.traffic in {1.0, *held}
        for command in asked(w):
            assert isinstance(command, TrafficCommand)
            if dice.random() < 0.2:
                continue  # it gets lost
            if dice.random() < 0.2:
                w.tell(ev.GeoAnswered("geo-1", command, None, "down"))
                continue
            rows = []
            for x in command.lanes:
                index, valid_s = round(dice.uniform(0.25, 16), 2), dice.choice([0.0, 30.0, 300.0])
                if dice.random() < 0.3:
                    rows.append(LaneTraffic(x.lane, None, APPLE, "no route"))
                    told[x.lane] = []
                elif dice.random() < 0.8:
                    rows.append(LaneTraffic(x.lane, index, replace(APPLE, valid_s=valid_s)))
                    told.setdefault(x.lane, []).append((index, w.now_s + valid_s))
            w.tell(ev.GeoAnswered("geo-1", command, TrafficAnswer(tuple(rows))))
        if dice.random() < 0.01:
            w.crash("geo-1")
        if dice.random() < 0.005:
            w.lead()
            told.clear()
    assert any(lane.traffic != 1 for d in w.decided for lane in d.moment.lanes)


def test_a_new_leader_empties_the_feed_of_the_one_before() -> None:
    w = World(nodes=2, lanes=4, geo=1)
    run(w, 10, dict.fromkeys(range(4), 2.0))
    w.published.clear()
    w.lead()
    w.asked_geo.clear()
    run(w, 5)
    items = [p.item.element for p in w.published if p.item.feed == GEO]
    assert items == [GeoItem(0, 0, 0)]
    w = World(nodes=2, lanes=4)
    run(w, 10)
    assert [p for p in w.published if p.item.feed == GEO] == []


def test_traffic_that_jitters_by_a_tenth_moves_no_lane_in_half_an_hour() -> None:
    """Although the two nodes are nearly as good."""
    w, probes = two_nodes()
    probes.run(90)
    dice, before = random.Random(1), {p: s.epoch for p, s in w.core.fleet.partitions.items()}
    for _ in range(900):
        answer_traffic(w, {n: round(dice.uniform(0.9, 1.1), 2) for n in range(4)})
        probes.run(2)
    assert {p: s.epoch for p, s in w.core.fleet.partitions.items()} == before
