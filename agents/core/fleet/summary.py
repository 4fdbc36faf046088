"""The fleet in numbers, for the feed `fleet`, for `status` and for pictures: sums of what workers
report, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from agents.core.fleet.fleet import Fleet, View
from agents.core.fleet.placing_inputs import ArrivalRates
from agents.core.fleet.troubles import Troubles
from agents.core.model.charts import (
    LANES_AT_MOST,
    OF_FLEET,
    OF_LANE,
    OF_NODE,
    Dot,
    Map,
    Sample,
    Thread,
)
from agents.core.model.feeds import (
    CURRENT,
    FLEET,
    FeedItem,
    FleetSummary,
    LaneRow,
    LaneRows,
    WorkerRow,
    WorkerRows,
)
from agents.core.model.messages import STARTING, LaneLoad
from agents.core.model.placement import State
from agents.core.model.topology import Partition, WorkerKind, short_name

ROWS_AT_MOST = 50  # about 11 KB
LANE_ROWS_AT_MOST = 200  # about 20 KB


def lane_loads(fleet: Fleet, kind: WorkerKind = WorkerKind.NODE) -> dict[int, LaneLoad]:
    """The load of each lane, or of each partition of another kind, as its written owner reports
    it."""
    return _loads_of(fleet, fleet.partitions_of(kind))


def _loads_of(fleet: Fleet, partitions: Iterable[Partition]) -> dict[int, LaneLoad]:
    out: dict[int, LaneLoad] = {}
    for p in partitions:
        s = fleet.partitions[p]
        view = fleet.views.get(s.worker)
        if view is not None and view.telemetry is not None and s.state is not State.ORPHAN:
            for load in view.telemetry.lanes:
                if (load.topic, load.n) == (p.topic, p.n):
                    out[p.n] = load
    return out


def node_rate_eps(fleet: Fleet, worker: str) -> float:
    """The events/s that the worker reports to process."""
    telemetry = fleet.views[worker].telemetry
    return sum(lane.rate_eps for lane in telemetry.lanes) if telemetry else 0.0


def node_load(fleet: Fleet, view: View) -> float:
    """The share of its capacity that the worker reports to process; 0 if it is not there."""
    capacity_eps = fleet.statuses[view.spec.worker].capacity_eps
    if not view.present or capacity_eps <= 0:
        return 0.0
    return node_rate_eps(fleet, view.spec.worker) / capacity_eps


def find_busiest_node(fleet: Fleet) -> View | None:
    """The node with the highest `node_load`; None if no node is there."""
    here = [v for v in fleet.views.values() if v.spec.kind == WorkerKind.NODE and v.present]
    return max(here, key=lambda v: (node_load(fleet, v), v.spec.worker), default=None)


def health_word(fleet: Fleet, view: View) -> str:
    """One word for people: gone, starting, draining, drained, ok, full, sick."""
    if not view.present:
        return "gone"
    status = fleet.statuses[view.spec.worker]
    if status.drained:
        return "draining" if fleet.owned_by(view.spec.worker) else "drained"
    if not status.usable or view.state == STARTING:
        return "starting"
    return {"available": "ok", "dnd": "full", "xa": "sick"}.get(view.health.value, "gone")


def summarise_fleet(
    fleet: Fleet,
    rates: ArrivalRates,
    troubles: Troubles,
    now: float,
    *,
    paused: bool,
    workers: WorkerRows | None = None,
    lane_rows: LaneRows | None = None,
) -> FleetSummary:
    """`now` is monotonic seconds."""
    nodes = [v for v in fleet.views.values() if v.spec.kind == WorkerKind.NODE]
    routers = [v for v in fleet.views.values() if v.spec.kind == WorkerKind.ROUTER]
    states = [fleet.partitions[p].state for p in fleet.partitions_of(WorkerKind.NODE)]
    loads = lane_loads(fleet).values()
    arrivals = [rates.lane_eps(p.n, now) or 0.0 for p in fleet.partitions_of(WorkerKind.NODE)]
    return FleetSummary(
        nodes=len(nodes),
        nodes_available=sum(v.available for v in nodes),
        routers=sum(v.present for v in routers),
        lanes=len(states),
        lanes_assigned=states.count(State.ASSIGNED),
        lanes_moving=states.count(State.RELEASING),
        lanes_orphaned=states.count(State.ORPHAN),
        rate_eps=round(sum(load.rate_eps for load in loads), 1),
        arrival_eps=round(sum(arrivals), 1),
        lag_events=sum(load.lag_events for load in loads),
        p50_ms=round(max((load.p50_ms for load in loads), default=0.0), 1),
        p99_ms=round(max((load.p99_ms for load in loads), default=0.0), 1),
        paused=paused,
        workers=workers,
        troubles=troubles.worst_rows(now),
        lane_rows=lane_rows,
    )


def worker_rows(fleet: Fleet, turn: int) -> WorkerRows:
    """The rows of share `turn` (any whole number; it wraps around), by name. At most ROWS_AT_MOST,
    so that an item stays small in a fleet of any size."""
    turns = max(1, -(-len(fleet.views) // ROWS_AT_MOST))
    share = turn % turns
    names = sorted(fleet.views)[share * ROWS_AT_MOST : (share + 1) * ROWS_AT_MOST]
    owned = Counter(s.worker for s in fleet.partitions.values() if s.state is not State.ORPHAN)
    return WorkerRows(
        share, turns, tuple(_worker_row(fleet, fleet.views[name], owned[name]) for name in names)
    )


def _worker_row(fleet: Fleet, view: View, lanes: int) -> WorkerRow:
    site = fleet.inventory.sites[view.spec.site]
    loads = view.telemetry.lanes if view.present and view.telemetry is not None else ()
    return WorkerRow(
        worker=view.spec.worker,
        site=site.name,
        region=site.region,
        lat=site.lat,
        lon=site.lon,
        state=health_word(fleet, view),
        lanes=lanes or len(fleet.worked_by_streams(view)),
        rate_eps=round(sum(load.rate_eps for load in loads), 1),
        lag_events=sum(load.lag_events for load in loads),
        p99_ms=round(max((load.p99_ms for load in loads), default=0.0), 1),
        capacity_eps=fleet.statuses[view.spec.worker].capacity_eps,
    )


def lane_rows(fleet: Fleet, lat: Sequence[float], lon: Sequence[float], turn: int) -> LaneRows:
    """The lanes of share `turn` (any whole number; it wraps around), by number; at most
    LANE_ROWS_AT_MOST. `lat`, `lon`: where each lane's events arise; a lane without is left out."""
    lanes = [p for p in fleet.partitions_of(WorkerKind.NODE) if p.n < len(lat)]
    turns = max(1, -(-len(lanes) // LANE_ROWS_AT_MOST))
    share = turn % turns
    some = sorted(lanes, key=lambda p: p.n)[share * LANE_ROWS_AT_MOST :][:LANE_ROWS_AT_MOST]
    loads = _loads_of(fleet, some)
    return LaneRows(
        share,
        turns,
        tuple(_lane_row(fleet, p, loads.get(p.n), lat[p.n], lon[p.n]) for p in some),
    )


def _lane_row(fleet: Fleet, p: Partition, load: LaneLoad | None, lat: float, lon: float) -> LaneRow:
    s = fleet.partitions[p]
    state = {State.ASSIGNED: "ok", State.RELEASING: "moving", State.ORPHAN: "orphan"}[s.state]
    return LaneRow(
        p.n,
        short_name(s.worker) if s.state is not State.ORPHAN else "",
        "stopped" if load is not None and load.fault and state == "ok" else state,
        lat,
        lon,
        round(load.rate_eps, 1) if load else 0.0,
        load.lag_events if load else 0,
        round(load.p99_ms, 1) if load else 0.0,
    )


def fleet_item(s: FleetSummary, leader_epoch: int) -> FeedItem:
    """The item `current` of the feed `fleet`."""
    title = (
        f"{s.nodes_available}/{s.nodes} nodes, {s.lanes_assigned}/{s.lanes} lanes, "
        f"{s.rate_eps:,.0f} events/s"
    )
    wrong = f"{s.troubles.rows[0].text}; " if s.troubles is not None and s.troubles.rows else ""
    return FeedItem(FLEET, CURRENT, title, f"{wrong}{title}, lag {s.lag_events:,}", s, leader_epoch)


# ---- pictures (agents/observe/charts draws them) ----


def sample_fleet(fleet: Fleet) -> tuple[Sample, ...]:
    """Samples of the fleet, of each node that has lanes, and of each lane if there are at most
    LANES_AT_MOST."""
    loads = lane_loads(fleet)
    by_node: dict[str, list[int]] = {}
    for p in fleet.partitions_of(WorkerKind.NODE):
        if p.n in loads:
            by_node.setdefault(short_name(fleet.partitions[p].worker), []).append(p.n)
    out = [_sum_loads(OF_FLEET, loads, list(loads))]
    out += [_sum_loads(OF_NODE + name, loads, lanes) for name, lanes in sorted(by_node.items())]
    if len(loads) <= LANES_AT_MOST:
        out += [_sum_loads(f"{OF_LANE}{n}", loads, [n]) for n in sorted(loads)]
    return tuple(out)


def _sum_loads(name: str, loads: dict[int, LaneLoad], lanes: list[int]) -> Sample:
    some = [loads[n] for n in lanes]
    return Sample(
        name,
        round(sum(x.rate_eps for x in some), 1),
        sum(x.lag_events for x in some),
        max((x.p50_ms for x in some), default=0.0),
        max((x.p99_ms for x in some), default=0.0),
    )


def make_map(fleet: Fleet, lat: tuple[float, ...], lon: tuple[float, ...]) -> Map:
    """The map: the sites that have nodes, and where the events of each lane come from (`lat`,
    `lon`, by lane)."""
    views = [v for v in fleet.views.values() if v.spec.kind == WorkerKind.NODE]
    names = sorted({v.spec.site for v in views})
    rows = {name: i for i, name in enumerate(names)}
    loads = lane_loads(fleet)
    room, used = [0.0] * len(names), [0.0] * len(names)
    nodes, well = [0] * len(names), [0] * len(names)
    for v in views:
        i = rows[v.spec.site]
        nodes[i] += 1
        status = fleet.statuses[v.spec.worker]
        well[i] += status.takes
        room[i] += status.capacity_eps if v.present else 0.0
    threads: list[Thread] = []
    for p in fleet.partitions_of(WorkerKind.NODE):
        s, load = fleet.partitions[p], loads.get(p.n)
        view = fleet.views.get(s.worker) if s.state is not State.ORPHAN else None
        i = rows[view.spec.site] if view is not None else -1
        rate = load.rate_eps if load is not None else 0.0
        if i >= 0:
            used[i] += rate
        if p.n < len(lat) and len(threads) < LANES_AT_MOST:
            threads.append(Thread(lat[p.n], lon[p.n], i, rate))
    sites = fleet.inventory.sites
    dots = tuple(
        Dot(
            name,
            sites[name].lat,
            sites[name].lon,
            used[i] / room[i] if room[i] else 0.0,
            nodes[i],
            well[i],
        )
        for i, name in enumerate(names)
    )
    total = sum(used)
    return Map(
        f"{sum(well)}/{sum(nodes)} nodes take lanes, {total:,.0f} events/s", dots, tuple(threads)
    )
