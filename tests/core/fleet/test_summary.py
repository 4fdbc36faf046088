"""Rows of workers for the feed `fleet`: what is known, a bounded share at a time."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime

from agents.core import events as ev
from agents.core.fleet.summary import (
    LANE_ROWS_AT_MOST,
    ROWS_AT_MOST,
    fleet_item,
    lane_rows,
    worker_rows,
)
from agents.core.model.feeds import (
    FLEET,
    FeedItem,
    FleetSummary,
    LaneRow,
    LaneRows,
    WorkerRow,
    WorkerRows,
)
from agents.core.model.messages import Arrival, Telemetry
from agents.core.model.placement import Intent, drain_intent
from agents.core.model.topology import WorkerKind
from plugins import namespaces as ns
from plugins.feeds import item_from_entry, item_to_entry
from tests.core.world import World

ROW = WorkerRow(
    "node-germanywestcentral-12",
    "germanywestcentral",
    "Germany West Central",
    50.1109,
    -108.6821,
    "draining",
    12,
    1234.5,
    12345,
    310.4,
    2000.0,
)
FIGURES = FleetSummary(200, 200, 1, 2000, 2000, 0, 0, 123456.1, 123456.1, 12345, 12.1, 310.4)


def published(world: World) -> FleetSummary:
    world.published.clear()
    world.tell(ev.Tick())
    summary = next(p.item.element for p in world.published if p.item.feed == FLEET)
    assert isinstance(summary, FleetSummary)
    return summary


def test_each_worker_has_a_row_with_what_it_says_and_none_of_it_when_it_is_gone() -> None:
    world = World(nodes=2, lanes=4)
    for worker in world.inv.workers:
        world.start(worker)
    world.fair(8)
    for worker in world.procs:
        world.telemetry(worker)
    said = published(world).workers
    assert said is not None
    rows = {r.worker: r for r in said.rows}
    assert rows.keys() == world.inv.workers.keys()
    assert sum(r.lanes for name, r in rows.items() if name.startswith("node-")) == 4
    assert all(r.state == "ok" for r in rows.values())
    one = rows["node-0"]
    assert (one.rate_eps, one.p99_ms) == (10.0 * one.lanes, 2.0)
    site = world.inv.sites[one.site]
    assert (one.lat, one.lon, one.region) == (site.lat, site.lon, site.region)
    world.crash("node-0")
    again = published(world).workers
    assert again is not None
    gone = next(r for r in again.rows if r.worker == "node-0")
    assert (gone.state, gone.rate_eps, gone.lag_events) == ("gone", 0.0, 0)


def test_a_node_is_draining_until_it_has_no_lane_left() -> None:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    drained = {drain_intent("node-1"): Intent("ana@d", 1)}
    world.tell(ev.PlacementWritten({}, {}, drained))
    states = []
    for _ in range(30):
        rows = published(world).workers
        assert rows is not None
        states += [r.state for r in rows.rows if r.worker == "node-1"]
        world.fair(1)
    assert list(dict.fromkeys(states)) == ["draining", "drained"]


def test_what_no_router_has_counted_does_not_arrive() -> None:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    assert published(world).arrival_eps == 0.0
    boot, counted = world.procs["router-1"].boot, (Arrival(0, 500.0), Arrival(1, 0.0))
    telemetry = Telemetry(boot, 1000, "", 0.1, 40.0, arrivals=counted)
    world.tell(ev.TelemetryIn("router-1", telemetry))
    assert published(world).arrival_eps == 500.0


def test_a_large_fleet_goes_round_in_shares() -> None:
    world = World(nodes=2 * ROWS_AT_MOST + 7, lanes=4)
    fleet = world.core.fleet
    shares = [worker_rows(fleet, turn) for turn in range(3)]
    assert {(s.turn, s.turns) for s in shares} == {(0, 3), (1, 3), (2, 3)}
    assert max(len(s.rows) for s in shares) == ROWS_AT_MOST
    assert sorted(r.worker for s in shares for r in s.rows) == sorted(fleet.views)
    assert worker_rows(fleet, 3) == shares[0]
    first, second = published(world).workers, published(world).workers
    assert first is not None
    assert second is not None
    assert second.turn == (first.turn + 1) % 3


def test_lanes_go_round_in_shares_with_their_owners() -> None:
    world = World(nodes=3, lanes=2 * LANE_ROWS_AT_MOST + 7)
    world.fair(8)
    fleet = world.core.fleet
    places = world.core.placing.inputs.places
    shares = [lane_rows(fleet, places.lat, places.lon, turn) for turn in range(3)]
    assert {(s.turn, s.turns) for s in shares} == {(0, 3), (1, 3), (2, 3)}
    rows = [r for s in shares for r in s.rows]
    assert [r.lane for r in rows] == list(range(2 * LANE_ROWS_AT_MOST + 7))
    assert {r.state for r in rows} == {"ok"}
    owned = {p.n: s.worker for p, s in fleet.partitions.items() if p.topic == "main/events.lanes"}
    assert {r.lane: f"node-{r.node}" for r in rows} == owned
    assert list(lane_rows(fleet, places.lat[:5], places.lon[:5], 0).rows) == rows[:5]


def test_an_orphan_has_no_node_and_a_faulty_lane_has_stopped() -> None:
    world = World(nodes=2, lanes=4)
    fresh = published(world).lane_rows
    assert fresh is not None
    assert {(r.node, r.state) for r in fresh.rows} == {("", "orphan")}
    world.fair(8)
    worker = world.core.fleet.partitions[WorkerKind.NODE.partition(2)].worker
    telemetry = world.core.fleet.views[worker].telemetry
    assert telemetry is not None
    lanes = tuple(replace(x, fault="disk full") if x.n == 2 else x for x in telemetry.lanes)
    world.tell(ev.TelemetryIn(worker, replace(telemetry, seq=telemetry.seq + 1, lanes=lanes)))
    rows = published(world).lane_rows
    assert rows is not None
    assert {r.lane: r.state for r in rows.rows} == {0: "ok", 1: "ok", 2: "stopped", 3: "ok"}


def test_an_item_stays_small() -> None:
    lane = LaneRow(12_345, "germanywestcentral-12", "stopped", -50.123, -108.682, 1234.5, 99, 310.4)
    full = replace(
        FIGURES,
        workers=WorkerRows(0, 4, (ROW,) * ROWS_AT_MOST),
        lane_rows=LaneRows(0, 9, (lane,) * LANE_ROWS_AT_MOST),
    )
    assert len(ET.tostring(item_to_entry(fleet_item(full, 4), datetime.now(UTC)))) < 44_000


def test_readers_and_coordinators_of_before_understand_each_other() -> None:
    item = FeedItem(
        FLEET, "current", "t", "c", replace(FIGURES, workers=WorkerRows(0, 1, (ROW,))), 4
    )
    xml = item_to_entry(item, datetime.now(UTC))
    (fleet,) = [
        x for x in xml if x.tag == f"{{{ns.FEED}}}fleet"
    ]  # one typed element, its figures where they were
    assert fleet.get("nodes") == "200"
    fleet.remove(fleet[0])
    old = item_from_entry(FLEET, "current", xml).element
    assert isinstance(old, FleetSummary)
    assert old.workers is None
