"""The fleet in numbers, for the feed `fleet` and for `status`: added up from what workers say, nothing invented."""

from __future__ import annotations

from agents.core.feeds import CURRENT, FLEET, FeedItem, FleetSummary
from agents.core.fleet import Fleet
from agents.core.model import LANES, Health, Kind, LaneLoad, State
from agents.core.planning.rates import Rates


def lane_loads(fleet: Fleet) -> dict[int, LaneLoad]:
    """What the written owner of each lane says of it."""
    out: dict[int, LaneLoad] = {}
    for p in fleet.of(Kind.NODE):
        s = fleet.partitions[p]
        view = fleet.views.get(s.worker)
        if view is not None and view.telemetry is not None and s.state is not State.ORPHAN:
            for load in view.telemetry.lanes:
                if load.topic == LANES and load.n == p.n:
                    out[p.n] = load
    return out


def node_rate_eps(fleet: Fleet, worker: str) -> float:
    """Events/s that it says it works."""
    telemetry = fleet.views[worker].telemetry
    return sum(lane.rate_eps for lane in telemetry.lanes) if telemetry else 0.0


def summarise(fleet: Fleet, rates: Rates, now: float, *, paused: bool) -> FleetSummary:
    """`now` is monotonic seconds."""
    nodes = [v for v in fleet.views.values() if v.spec.kind is Kind.NODE]
    routers = [v for v in fleet.views.values() if v.spec.kind is Kind.ROUTER]
    states = [fleet.partitions[p].state for p in fleet.of(Kind.NODE)]
    loads = lane_loads(fleet).values()
    arrivals = [rates.lane_eps(p.n, now) or 0.0 for p in fleet.of(Kind.NODE)]
    return FleetSummary(
        nodes=len(nodes),
        nodes_available=sum(v.present and v.health is Health.AVAILABLE for v in nodes),
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
    )


def fleet_item(s: FleetSummary, leader_epoch: int) -> FeedItem:
    """The item `current` of the feed `fleet`."""
    title = f"{s.nodes_available}/{s.nodes} nodes, {s.lanes_assigned}/{s.lanes} lanes, {s.rate_eps:,.0f} events/s"
    return FeedItem(FLEET, CURRENT, title, f"{title}, lag {s.lag_events:,}", s, leader_epoch)
