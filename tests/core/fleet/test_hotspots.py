"""What follows from a hotspot: the room, the forecast and the plan, the feed; and what does not
follow from records that repeat, come late, flood or lie."""

from __future__ import annotations

import itertools
from dataclasses import replace

import msgspec
import pytest
from h3.api import basic_str

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import HotspotChange, HotspotsRead, QuestionAsked
from agents.core.fleet import hotspots as hotspots_module
from agents.core.fleet.hotspots import FORGOTTEN_S, SILENT_S
from agents.core.hotspots.areas import area_of, areas_around
from agents.core.lanes.lane_map import LaneMap
from agents.core.model.feeds import HOTSPOTS, HotspotItem
from agents.core.model.hotspots import Hotspot, HotspotState
from agents.core.model.messages import Arrival
from agents.core.model.plan import Decided, PlannedMove
from agents.core.model.topology import WorkerKind, WorkerSpec
from agents.core.operators.charts import MapWanted
from agents.core.planning.recording import (
    frame_from_json,
    frame_to_json,
    make_plan_json,
    moment_from_json,
    moment_to_json,
    plan_to_json,
)
from tests.core.world import NUMERICS, World

ANA = "ana@d"
DALLAS = basic_str.latlng_to_cell(32.9, -97.0, 4)
BESIDE = next(c for c in sorted(basic_str.grid_ring(DALLAS, 1)) if area_of(c) == area_of(DALLAS))
PARIS = basic_str.latlng_to_cell(48.85, 2.35, 4)
AREA = area_of(DALLAS)
NEXT_AREA = next(a for a in sorted(areas_around(AREA)) if a != AREA)
LANEMAP = LaneMap(
    1, 6, 4, {DALLAS: (0,), BESIDE: (3,), PARIS: (1, 4)}, (50.0,) * 6, ((0.0, 0.0),) * 6
)
_ids = itertools.count()


def make_world(eps: float = 300.0) -> World:
    """Lane n is beside node n % 3; each node works two lanes and could take 2,000 events/s."""
    w = World(nodes=3, lanes=6, lanemap=LANEMAP)
    w.arrivals = tuple(Arrival(n, eps) for n in range(6))
    w.fair(30)
    w.tell(ev.AffiliationsRead({ANA: "member"}))
    w.tell(HotspotsRead())
    w.said.clear()
    w.noted.clear()
    w.published.clear()
    return w


@pytest.fixture
def w() -> World:
    return make_world()


def hotspot(w: World, **fields: object) -> Hotspot:
    """Dallas has 450 events/s, three times as many as usually, since a minute."""
    at_s = int(w.now_s)
    made = Hotspot(
        f"{AREA}-{at_s}",
        HotspotState.OPEN,
        max(0, at_s - 60),
        at_s,
        at_s,
        (AREA,),
        DALLAS,
        450.0,
        150.0,
        120,
        (DALLAS,),
    )
    return msgspec.structs.replace(made, **fields)


def grow(w: World, eps_s: float = 40.0) -> None:
    """More and more arrives for lane 0, for six seconds."""
    for s in range(6):
        w.arrivals = (Arrival(0, 300.0 + eps_s * (s + 1)), *w.arrivals[1:])
        w.pass_s(1.0)


def read(w: World, *some: Hotspot, past: bool = False, age_s: float = 0.0) -> None:
    changes = tuple(HotspotChange(h, w.now.ms, age_s) for h in some)
    w.tell(HotspotsRead(changes, past))


def ended(h: Hotspot) -> Hotspot:
    return msgspec.structs.replace(h, state=HotspotState.ENDED, ended_s=h.last_s)


def ask(w: World, text: str) -> str:
    n = next(_ids)
    found = w.core.handle(QuestionAsked(ANA, "ana", text, True, f"s{n}", None, f"m{n}"), w.now)
    return "\n".join(e.text for e in found if isinstance(e, fx.Say | fx.Whisper))


# ---- the room ----


def test_the_room_is_told_when_it_opens_grows_and_ends(w: World) -> None:
    grow(w)
    h = hotspot(w)
    read(w, h)
    (told,) = w.said  # in the same turn in which the record was read
    begins = (
        "Hotspot at Dallas, US: 450 events/s, usually 150 (x3.0), since "
        f"{int(w.now_s - 60) // 60 // 60:02d}:{int(w.now_s - 60) // 60 % 60:02d} UTC. "
        "Its lane 0: forecast raised up to x"
    )
    assert told.startswith(begins)
    times = w.core.placing.inputs.raises[0].times
    assert told == f"{begins}{times:.1f}."
    assert times > 2
    w.said.clear()
    held = msgspec.structs.replace(h, state=HotspotState.HELD, last_s=h.last_s + 5, eps=700.0)
    read(w, held)
    assert w.said == []
    grown = msgspec.structs.replace(
        held, state=HotspotState.GROWN, areas=(AREA, NEXT_AREA), cells=(DALLAS, BESIDE)
    )
    read(w, grown)
    assert len(w.said) == 1
    assert w.said[0].startswith("The hotspot at Dallas, US has grown to 2 areas: 700 events/s")
    assert "lanes 0, 3" in w.said[0]
    w.said.clear()
    w.pass_s(120)
    w.said.clear()
    read(w, ended(grown))
    assert len(w.said) == 1
    assert w.said[0].startswith("The hotspot at Dallas, US has ended after 65 s, at ")
    assert [n.kind for n in w.noted if n.kind == "hotspot"] == ["hotspot"] * 3
    assert w.noted[0].data["lanes"] == [0]
    items = [p.item.element for p in w.published if p.item.feed == HOTSPOTS]
    assert [x.state for x in items if isinstance(x, HotspotItem)] == ["open", "grown", "ended"]
    assert len({p.item.item_id for p in w.published if p.item.feed == HOTSPOTS}) == 1


def test_event_time_that_is_not_the_present_is_marked(w: World) -> None:
    read(
        w,
        hotspot(
            w,
            id=f"{AREA}-979000000",
            started_s=979_000_000,
            opened_s=979_000_060,
            last_s=979_000_060,
        ),
    )
    assert "since 2001-01-09 00:26 UTC (event time)" in w.said[0]


def test_the_past_opens_and_ends_in_silence_and_a_new_leader_says_how_many_are_open() -> None:
    w = World(nodes=3, lanes=6, lanemap=LANEMAP)
    w.fair(8)
    w.said.clear()
    h, over, old = hotspot(w), hotspot(w, id=f"{AREA}-50"), hotspot(w, id=f"{AREA}-51")
    read(w, h, over, ended(over), past=True)
    read(w, old, past=True, age_s=3600.0)
    assert w.said == []
    w.tell(HotspotsRead())
    assert w.said == ["1 hotspot is open (Dallas, US): !hotspots."], "the old one is silent"
    w.tell(HotspotsRead())
    read(w, ended(h))
    assert len(w.said) == 2
    assert w.said[1].startswith("The hotspot at Dallas, US has ended")
    assert [p for p in w.published if p.item.feed == HOTSPOTS][-1].item.element.state == "ended"  # type: ignore[union-attr]
    assert (w.core.hotspots.counts["opened"], w.core.hotspots.counts["ended"]) == (0, 1)


def test_ten_thousand_at_once_are_a_few_lines(w: World) -> None:
    many = [hotspot(w, id=f"{AREA}-{n}") for n in range(10_000)]
    for at in range(0, len(many), 500):
        read(w, *many[at : at + 500])
    for _ in range(30):
        w.pass_s(1.0)
    told = "\n".join(w.said)
    assert told.count("Hotspot at") + told.count("more lines") <= 7
    assert "995 more hotspots opened; 1000 are open now: !hotspots." in told
    assert len(w.core.hotspots.open) == 1000
    assert w.core.hotspots.counts == {"opened": 1000, "untracked": 9000}
    assert sum(p.item.feed == HOTSPOTS for p in w.published) <= 20 + 2 * 31
    w.said.clear()
    for at in range(0, 1000, 500):
        read(w, *map(ended, many[at : at + 500]))
    assert "\n".join(w.said).count("has ended") <= 5, "only of those whose beginning was told"
    assert w.core.hotspots.open == {}
    assert w.core.placing.inputs.hotspots.open.keys() <= {h.id for h in many[:1000]}
    for _ in range(62):
        w.pass_s(1.0)
    assert w.core.placing.inputs.hotspots.open == {}


def test_what_repeats_comes_late_or_never_opened_is_not_told(w: World) -> None:
    h = hotspot(w)
    newer = msgspec.structs.replace(h, state=HotspotState.HELD, last_s=h.last_s + 9, eps=900.0)
    read(w, h, newer)
    w.said.clear()
    read(w, h, h, newer)
    assert w.core.hotspots.open[h.id].hotspot == newer
    read(w, ended(hotspot(w, id=f"{AREA}-7")))
    assert w.said == []
    read(w, ended(newer))
    assert len(w.said) == 1
    read(w, h, newer, ended(newer))
    assert len(w.said) == 1
    assert w.core.hotspots.open == {}
    assert len(w.core.hotspots.ended) == 2


def test_the_last_that_ended_are_remembered_and_nothing_else_of_them(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotspots_module, "IDS_KEPT", 2)
    some = [hotspot(w, id=f"{AREA}-{n}") for n in range(3)]
    for h in some:
        read(w, h, ended(h))
    assert w.core.hotspots._told == set()
    read(w, *some[1:])
    assert w.core.hotspots.open == {}
    read(w, some[0])
    assert w.core.hotspots.open.keys() == {some[0].id}, "forgotten"


def test_one_whose_first_record_was_lost_counts_from_the_next(w: World) -> None:
    read(w, hotspot(w, state=HotspotState.HELD))
    assert w.said[0].startswith("Hotspot at Dallas, US")


def test_bad_records_are_told_once_and_counted(w: World) -> None:
    w.tell(HotspotsRead(skipped=3))
    w.tell(HotspotsRead(skipped=4))
    assert [s for s in w.said if "cannot be hotspots" in s] == [
        "3 records of the topic hotspots cannot be hotspots: skipped. My log says where they are; "
        "check who may write there (geolane doctor)."
    ]
    assert w.core.hotspots.counts["skipped"] == 7


def test_a_bug_in_what_follows_costs_the_hotspot_and_not_the_leader(w: World) -> None:
    def explode(lat: float, lon: float, reach_km: float) -> str:
        raise RuntimeError("no such place")

    w.core.hotspots.name_place = explode
    read(w, hotspot(w))
    assert w.core.guard.counts["hotspots"] == 1
    w.pass_s(1.0)


# ---- lanes and the forecast ----


def lanes_of(w: World, h: Hotspot) -> tuple[int, ...]:
    read(w, h)
    return w.core.hotspots.open[h.id].lanes


def test_the_lanes_are_those_of_the_cells_else_those_of_the_areas(w: World) -> None:
    assert lanes_of(w, hotspot(w)) == (0,)
    assert lanes_of(w, hotspot(w, id=f"{AREA}-1", cells=(), peak=AREA)) == (0, 3)
    assert lanes_of(w, hotspot(w, id=f"{AREA}-2", cells=(PARIS,), peak=PARIS)) == (1, 4)


def test_it_is_told_as_it_is_after_all_that_was_read_together(w: World) -> None:
    """The area rises first, its cell in the same second."""
    area = hotspot(w, cells=(), peak=AREA)
    cell = msgspec.structs.replace(area, state=HotspotState.HELD, cells=(DALLAS,))
    read(w, area, cell)
    assert len(w.said) == 1
    assert "Its lane 0: forecast unchanged." in w.said[0]


def test_a_cell_that_the_map_does_not_have_is_in_the_lane_of_its_hash(w: World) -> None:
    far = basic_str.latlng_to_cell(-25.0, 125.0, 4)
    n = LANEMAP.lane_of(far, b"")
    assert lanes_of(w, hotspot(w, cells=(far,), peak=far)) == (n,)
    nowhere = basic_str.latlng_to_cell(-25.0, 125.0, 7)
    none = hotspot(w, id=f"{AREA}-1", cells=(nowhere,), peak=nowhere, areas=(area_of(far),))
    assert lanes_of(w, none) == ()
    assert "No lane of the map has its cells." in w.said[-1]


def run_on(w: World, seconds: int) -> list[Decided]:
    w.decided.clear()
    for _ in range(seconds):
        w.pass_s(1.0)
        for _ in range(50):
            if not (w.kafka or w.sends):
                break
            w.kafka_step()
            if w.sends:
                w.deliver(0)
    return list(w.decided)


def test_the_plan_differs_only_by_the_hotspot_and_explain_names_it() -> None:
    """Two equal fleets in which a lane grows, of which one reads of a hotspot: neighbours of the
    lane move away although its node still has room."""
    calm, hot = make_world(), make_world()
    for w in (calm, hot):
        grow(w)
    h = hotspot(hot)
    read(hot, h)
    first_calm, first_hot = run_on(calm, 1)[0], run_on(hot, 1)[0]
    lanes = zip(first_calm.moment.lanes, first_hot.moment.lanes, strict=True)
    differ = {a.id: (a, b) for a, b in lanes if a != b}
    assert differ.keys() == {0}
    before, after = differ[0]
    assert before.forecast_eps is not None
    assert after.forecast_eps is not None
    assert before == replace(after, forecast_eps=before.forecast_eps)
    assert after.forecast_eps > 2 * before.forecast_eps
    assert first_calm.moment.nodes == first_hot.moment.nodes

    line = f"forecast raised x{hot.core.placing.inputs.raises[0].times:.1f} by the hotspot at"
    assert f"{line} Dallas, US" in ask(hot, "!explain 0")
    assert f"{line} Dallas, US" in ask(hot, "!lane 0")
    assert "by the hotspot" not in ask(hot, "!explain 1") + ask(calm, "!explain 0")
    assert len(ask(hot, "!explain 0").split("\n")) <= 8

    moved = [*first_hot.plan.moves, *(m for d in run_on(hot, 5) for m in d.plan.moves)]
    assert [m for d in run_on(calm, 5) for m in d.plan.moves] == []
    assert moved
    assert all(isinstance(m, PlannedMove) and m.frm == 0 for m in moved), "away from its node"
    run_on(hot, 20)
    assert "by the hotspot" not in ask(hot, "!explain 0"), "it grows no more"


def first_move_s(*, with_hotspots: bool) -> int:
    """Lane 0 grows from 300 to 1,500 events/s within two minutes: after how many seconds does a
    lane leave its node? An engine notices six seconds late, and at such rates, each second."""
    w, base, began_s = make_world(), 300.0, 0
    began_s = int(w.now_s)
    for t in range(120):
        w.arrivals = (Arrival(0, base + 10.0 * t), *w.arrivals[1:])
        seen = t - 6
        if with_hotspots and 10.0 * seen > 0.64 * base:  # from when on a test for x2.5 sees it
            h = hotspot(w, id=f"{AREA}-1", started_s=began_s, opened_s=began_s, usual_eps=base)
            read(w, msgspec.structs.replace(h, eps=base + 10.0 * seen))
        if any(m.frm == 0 for d in run_on(w, 1) for m in d.plan.moves):
            return t
    return 120


def test_when_a_burst_grows_lanes_move_sooner() -> None:
    with_, without = first_move_s(with_hotspots=True), first_move_s(with_hotspots=False)
    assert with_ <= without - 10


def test_an_end_ends_the_raise(w: World) -> None:
    h = hotspot(w)
    read(w, h)
    grow(w)
    assert w.core.placing.inputs.raises.keys() == {0}
    read(w, ended(h))
    assert w.core.placing.inputs.raises == {}


def test_a_recorded_decision_gives_the_same_plan_without_the_hotspot(w: World) -> None:
    grow(w)
    read(w, hotspot(w))
    frame = w.core.placing.frame
    for decided in run_on(w, 15):
        moment = moment_from_json(moment_to_json(decided.moment))
        again = make_plan_json(frame_from_json(frame_to_json(frame)), moment, NUMERICS)
        assert again == plan_to_json(decided.plan)


def test_one_of_which_nothing_more_is_heard_counts_no_more(w: World) -> None:
    h = hotspot(w)
    read(w, h)
    run_on(w, 120 + int(SILENT_S) - 7)
    grow(w)
    assert 0 in w.core.placing.inputs.raises
    w.pass_s(2.0)
    assert w.core.placing.inputs.raises == {}
    assert "1 more hotspot should have ended" in ask(w, "!hotspots")
    read(w, hotspot(w, id=f"{AREA}-5"))
    assert "1 more hotspot should have ended" in ask(w, "!hotspots")
    w.now_s += FORGOTTEN_S + 1
    w.tell(ev.Tick())
    assert w.core.hotspots.open == {}


def test_without_a_lane_map_hotspots_are_told_and_raise_nothing() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    w.tell(HotspotsRead())
    w.said.clear()
    read(w, hotspot(w))
    assert w.said[0].endswith("No lane of the map has its cells.")


# ---- the command ----


def test_the_command_says_what_is_open_and_what_has_ended(w: World) -> None:
    assert "The inventory has no analytics worker" in ask(w, "!hotspots")
    grow(w)
    h, over = hotspot(w), hotspot(w, id=f"{AREA}-7", eps=0.05, usual_eps=0.0)
    read(w, h, over, ended(over))
    answer = ask(w, "!hotspots")
    assert "1 hotspot is open." in answer
    assert "Dallas, US: 450 events/s, usually 150 (x3.0), since" in answer
    assert "lane 0, forecast x" in answer
    assert "should have ended" not in answer
    assert "Ended: Dallas, US, 0.05 events/s, usually none, at" in answer
    read(w, *[hotspot(w, id=f"{AREA}-{n}") for n in range(1000, 1300)])
    answer = ask(w, "!hotspots")
    assert "301 hotspots are open, the first 4 of them." in answer
    assert len(answer.split("\n")) <= 8
    assert len(answer) <= 600


def test_the_map_has_a_ring_for_each_open_hotspot(w: World) -> None:
    assert rings(w) == []
    h = hotspot(w)
    read(w, h, hotspot(w, id=f"{AREA}-1", peak=PARIS, cells=(PARIS,), eps=160.0))
    assert rings(w) == ["Dallas, US x3.0", "Paris, FR x1.1"]
    read(w, ended(h))
    assert rings(w) == ["Paris, FR x1.1"]


def rings(w: World) -> list[str]:
    found = w.core.handle(QuestionAsked(ANA, "ana", "!map", True, "s", None, "m"), w.now)
    (wanted,) = [e.what for e in found if isinstance(e, fx.Errand)]
    assert isinstance(wanted, MapWanted)
    return [r.name for r in wanted.map.rings]


def test_without_an_analytics_worker_it_says_what_to_do(w: World) -> None:
    inv = w.inv
    spec = WorkerSpec("analytics-1", WorkerKind.ANALYTICS, "s0", 1000.0)
    w.read(msgspec.structs.replace(inv, workers={**inv.workers, "analytics-1": spec}))
    assert "start geolane analytics --name 1, or its unit geolane-analytics@1." in ask(
        w, "!hotspots"
    )
    w.start("analytics-1")
    assert ask(w, "!hotspots") == "No hotspot is open."
