"""The planner's inputs: the fleet, the inventory and the arrival rates, as a `PlanningFrame` and a
`Moment`. Nothing is decided here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from agents.core.fleet.data_paths import NO_BROKER, DataPaths
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.paths import MeasuredPaths
from agents.core.geo.figures import GeoFigures
from agents.core.model.messages import Telemetry, is_degraded
from agents.core.model.placement import State
from agents.core.model.plan import (
    AllowedNodes,
    Lane,
    LanePlaces,
    Memory,
    Moment,
    Node,
    NodePlace,
    PlanningFrame,
)
from agents.core.model.topology import Partition, WorkerKind
from agents.core.planning.forecast import Forecast, Foresight
from agents.core.planning.hotspot_forecast import HotspotForecast, Raised
from agents.settings.calm import Calm
from kernels.tables import RttModel, Weights

SMOOTH_S = 5.0
FORGET_S = 10.0  # a router that is silent for longer no longer counts


@dataclass(slots=True)
class ArrivalRates:
    """What arrives for each lane, as the routers count it: what a node processes would hide its
    lag. `of`: per lane and router, the rate in events/s, smoothed over about SMOOTH_S, and when it
    was heard (monotonic s)."""

    of: dict[int, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def note_arrivals(self, router: str, telemetry: Telemetry, now: float) -> None:
        said = {a.n: a.rate_eps for a in telemetry.arrivals}
        for lane in said.keys() | {n for n, by in self.of.items() if router in by}:
            by = self.of.setdefault(lane, {})
            new = said.get(lane, 0.0)
            old, at = by.get(router, (new, now))
            share = min(1.0, (now - at) / SMOOTH_S) if at < now else 1.0
            by[router] = (old + share * (new - old), now)

    def lane_eps(self, lane: int, now: float) -> float | None:
        """Events/s that arrive for the lane, summed over the routers; None when no router has
        reported it within FORGET_S."""
        known = [rate for rate, at in self.of.get(lane, {}).values() if now - at <= FORGET_S]
        return sum(known) if known else None


WEIGHTS = Weights()
EMPTY: Mapping[str, tuple[float, ...]] = {}
BUCKETS = 288  # per day, in the forecast
OBSERVED_S = 2.0  # the shortest bucket: two observations, which come once a second


@dataclass(frozen=True, slots=True)
class PlacingSettings:
    """`rtt`: round-trip times between regions. `warm_s`: how long a lane's caches last on the node
    that it left. `degraded_ms`: the extra cost of a node whose devices report errors. `day_s`: the
    length of the stream's day (a replay may be compressed). `data_at_kafka`: lanes are to be near
    the brokers that lead them, not near where their events arise."""

    calm: Calm
    rtt: RttModel
    weights: Weights = WEIGHTS
    warm_s: float = 300.0
    degraded_ms: float = 20.0
    day_s: float = 86_400.0
    data_at_kafka: bool = False


@dataclass(frozen=True, slots=True)
class FleetChange:
    """A change to ask `whatif` about. `empty`: workers that are drained. `lost`: workers that are
    gone, so that their lanes are orphans. `added`: new nodes, as (site, capacity in events/s).
    `rate`: by lane, the factor of its rate."""

    empty: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    added: tuple[tuple[str, float], ...] = ()
    rate: Mapping[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class Target:
    """Where a move under way will end. `source`: the worker that has the partition until it is
    released. `by`: the person who asked for the move, or empty."""

    worker: str
    why: str
    by: str = ""
    delta_ms: float = 0.0
    source: str = ""


@dataclass(slots=True)
class Trail:
    """Where a lane was before, when it left (monotonic s), and how often it returned."""

    worker: str
    left_s: float
    returns: int = 0


@dataclass(slots=True)
class PlacingInputs:
    """What the planner needs beside the fleet: per lane, moves under way, cooldowns (until,
    monotonic s) and trails; per node, when it came, and the limit of its moves after trouble.
    `hotspots`: what they add to forecasts. `raises`: the lanes whose forecast they raised in the
    last moment. `measured`: the workers' round trips to brokers; `data`: what follows from them.
    `geo`: the traffic of lanes, and names."""

    fleet: Fleet
    places: LanePlaces
    settings: PlacingSettings
    measured: MeasuredPaths
    rates: ArrivalRates = field(default_factory=ArrivalRates)
    targets: dict[Partition, Target] = field(default_factory=dict)
    cooldown: dict[Partition, float] = field(default_factory=dict)
    trails: dict[Partition, Trail] = field(default_factory=dict)
    came: dict[str, float] = field(default_factory=dict)
    troubled: dict[str, tuple[int, float]] = field(default_factory=dict)
    hotspots: HotspotForecast = field(default_factory=HotspotForecast)
    raises: Mapping[int, Raised] = field(default_factory=dict)
    geo: GeoFigures = field(default_factory=GeoFigures)
    foresight: Foresight = field(init=False)
    data: DataPaths = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        self.data = DataPaths(self.fleet, s.rtt, self.measured, s.data_at_kafka)
        day_s = self.settings.day_s
        forecast = Forecast(
            len(self.places.lat),
            day_s=day_s,
            buckets=max(1, min(BUCKETS, int(day_s / OBSERVED_S))),
            lon=np.array(self.places.lon, dtype=np.float64),
        )
        self.foresight = Foresight(forecast, self.settings.calm.forecast_s)

    # ---- observations ----

    def forget_worker(self, worker: str) -> None:
        """The worker has left the fleet: no move is on its way to it any more."""
        self.targets = {p: t for p, t in self.targets.items() if t.worker != worker}
        self.came.pop(worker, None)
        self.troubled.pop(worker, None)

    def note_failed_handover(self, worker: str, now: float) -> None:
        """A hand-over with the worker failed: halve the moves that it may have at once; each window
        that passes allows one more again."""
        self.troubled[worker] = (max(1, self.move_limit(worker, now) // 2), now)

    def move_limit(self, worker: str, now: float) -> int:
        """How many moves from or to the worker may be under way at once."""
        calm = self.settings.calm
        if worker not in self.troubled:
            return calm.in_flight
        slots, at = self.troubled[worker]
        return min(calm.in_flight, slots + int((now - at) / calm.window_s))

    def note_assignment(
        self, p: Partition, source: str, worker: str, now: float, *, rests: bool = True
    ) -> None:
        """The lane went from `source` (empty: it was an orphan) to `worker` and now cools down;
        each return to where it just was doubles the time. Without `rests` it does not cool down:
        after an operator's drain a lane may return as soon as that is better."""
        if not rests:
            self.trails[p] = Trail(source, now)
            return
        calm, before = self.settings.calm, self.trails.get(p)
        back = (
            before is not None
            and before.worker == worker
            and now - before.left_s <= 2 * calm.cooldown_most_s
        )
        returns = before.returns + 1 if before is not None and back else 0
        if source and source != worker:
            self.trails[p] = Trail(source, now, returns)
        rest_s = min(calm.cooldown_s * float(2**returns), calm.cooldown_most_s)
        self.cooldown[p] = max(self.cooldown.get(p, 0.0), now + rest_s)

    def observe_rates(self, now: float, now_ms: int) -> None:
        """Pass the arrival rates to the forecast."""
        rates = [self.rates.lane_eps(n, now) for n in range(len(self.places.lat))]
        known = np.array([np.nan if r is None else r for r in rates], dtype=np.float64)
        self.foresight.observe_rates(now_ms / 1000, known)
        self.hotspots.observe_rates(now, known)

    def note_nodes(self, now: float, *, ramp: bool) -> None:
        """Note which nodes take lanes now. With `ramp`, a node that did not before counts as just
        come, and is loaded gradually."""
        for spec in self.fleet.inventory.workers_of(WorkerKind.NODE):
            if not self.fleet.views[spec.worker].present:
                self.came.pop(spec.worker, None)
            elif self.fleet.statuses[spec.worker].takes and spec.worker not in self.came:
                self.came[spec.worker] = now if ramp else float("-inf")

    # ---- the planner's view ----

    def make_frame(self) -> PlanningFrame:
        """The inputs that stay the same until the inventory or the damping rules change."""
        s, places, specs = (
            self.settings,
            self.places,
            self.fleet.inventory.workers_of(WorkerKind.NODE),
        )
        nodes = tuple(self.place_of(spec.worker, spec.site) for spec in specs)
        rule = places.rule or (-1,) * len(places.lat)
        rules = tuple(
            AllowedNodes(r.name, tuple(spec.site in may for spec in specs))
            for r, may in zip(places.rules, places.rule_sites, strict=True)
        )
        return PlanningFrame(places.lat, places.lon, rule, nodes, rules, s.rtt, s.calm, s.weights)

    def place_of(self, name: str, site_name: str) -> NodePlace:
        """The place of a node of this name at that site."""
        site, regions = self.fleet.inventory.sites[site_name], self.settings.rtt.regions
        row = regions.index(site.region) if site.region in regions else -1
        return NodePlace(name, site.lat, site.lon, row, site.egress_ms)

    def make_moment(
        self, partitions: list[Partition], now: float, now_ms: int, memory: Memory | None
    ) -> Moment:
        """The inputs at this time. `partitions`: the lanes, in row order."""
        row_of = {
            w.worker: i for i, w in enumerate(self.fleet.inventory.workers_of(WorkerKind.NODE))
        }
        ahead = self.foresight.predict_rates(now_ms / 1000)
        brokers = self.data.make_brokers([p.n for p in partitions])
        rows = {b.id: row for row, b in enumerate(brokers)}
        lanes = tuple(
            self._make_lane(
                p, row_of, now, float(ahead[p.n]), rows.get(self.data.leaders.get(p.n, NO_BROKER))
            )
            for p in partitions
        )
        flying = [row for lane in lanes if lane.moving for row in {lane.owner, lane.target}]
        worse = {w for w in row_of if is_degraded(self.fleet.views[w].telemetry)}
        nodes = tuple(
            self._make_node(w, flying.count(row), w in worse, now) for w, row in row_of.items()
        )
        calm = self.settings.calm
        lanes, self.raises = self.hotspots.raise_lanes(
            lanes, nodes, now, calm.forecast_s, calm.target_utilisation
        )
        memory = self._without_window(memory or Memory(), lanes)
        return Moment(now, lanes, nodes, memory, brokers=brokers)

    def _without_window(self, memory: Memory, lanes: tuple[Lane, ...]) -> Memory:
        """`memory` in which the nodes with a lane that a hotspot raises count as hot for long
        enough: the windows are there to leave chance alone, and a hotspot is none."""
        names = [w.worker for w in self.fleet.inventory.workers_of(WorkerKind.NODE)]
        hot = {names[x.owner] for x in lanes if x.id in self.raises and x.owner is not None}
        if not hot:
            return memory
        return replace(memory, hot_since_s={**memory.hot_since_s, **dict.fromkeys(hot, -math.inf)})

    def refresh_raises(self, now: float, now_ms: int) -> None:
        """Bring `raises` up to date, after hotspots have changed."""
        self.make_moment(self.fleet.partitions_of(WorkerKind.NODE), now, now_ms, None)

    def _make_lane(
        self,
        p: Partition,
        row_of: Mapping[str, int],
        now: float,
        ahead: float,
        broker: int | None,
    ) -> Lane:
        s = self.fleet.partitions[p]
        held = s.state is not State.ORPHAN
        target, trail = self.targets.get(p), self.trails.get(p)
        aim = (
            row_of.get(target.worker)
            if target and target.worker and self.fleet.statuses[target.worker].takes
            else None
        )
        warm = (
            row_of.get(trail.worker)
            if trail and now - trail.left_s <= self.settings.warm_s
            else None
        )
        return Lane(
            p.n,
            self.rates.lane_eps(p.n, now),
            self.places.expected_eps[p.n],
            owner=row_of.get(s.worker) if held else None,
            target=None if s.state is State.ASSIGNED else aim,
            moving=s.state is State.RELEASING or (held and not self.can_move(p)),
            cooldown_until_s=self.cooldown.get(p, 0.0),
            priority=self.places.priority[p.n] if self.places.priority else 0,
            forecast_eps=ahead if ahead == ahead else None,
            warm=warm,
            traffic=self.geo.index_of(p.n, now),
            broker=broker,
        )

    def _make_node(self, worker: str, in_flight: int, worse: bool, now: float) -> Node:
        view, status = self.fleet.views[worker], self.fleet.statuses[worker]
        why = ""
        if view.present and status.to_empty:
            why = "draining" if status.drained else "unhealthy"
        return Node(
            worker,
            status.capacity_eps,
            status.takes,
            why,
            in_flight,
            self.move_limit(worker, now),
            self.came.get(worker, float("-inf")),
            self.settings.degraded_ms if worse else 0.0,
        )

    def can_move(self, p: Partition) -> bool:
        """Whether its owner works it, and no step of it is under way."""
        s = self.fleet.partitions[p]
        return (
            s.state is State.ASSIGNED
            and not self.fleet.writing[p]
            and self.fleet.statuses[s.worker].usable
            and self.fleet.views[s.worker].owned.get(p) == s.epoch
        )


def apply_change(
    frame: PlanningFrame,
    moment: Moment,
    change: FleetChange,
    sites: Mapping[str, NodePlace],
    rule_sites: tuple[frozenset[str], ...],
    paths: Mapping[str, tuple[float, ...]] = EMPTY,
) -> tuple[PlanningFrame, Moment]:
    """The inputs as they would be after `change`. `sites`: a node's place, by site. `rule_sites`:
    per rule, the sites where its lanes may be. `paths`: by site, the round trip from there to each
    of the moment's brokers."""
    nodes = [
        replace(n, takes=False, empty="draining")
        if n.id in change.empty
        else replace(n, takes=False, empty="lost")
        if n.id in change.lost
        else n
        for n in moment.nodes
    ]
    lost = {row for row, n in enumerate(nodes) if n.id in change.lost}
    lanes = []
    for lane in moment.lanes:
        factor = change.rate.get(lane.id, 1.0)
        if factor != 1.0:
            lane = replace(
                lane,
                rate_eps=(lane.rate_eps or lane.expected_eps) * factor,
                expected_eps=lane.expected_eps * factor,
                forecast_eps=None if lane.forecast_eps is None else lane.forecast_eps * factor,
            )
        if lane.owner in lost:
            lane = replace(lane, owner=None, target=None, moving=False)
        lanes.append(lane)
    places, rules, brokers = list(frame.nodes), list(frame.rules), moment.brokers
    for i, (site, capacity_eps) in enumerate(change.added):
        places.append(replace(sites[site], id=f"added-{i}"))
        nodes.append(Node(f"added-{i}", capacity_eps))
        rules = [
            AllowedNodes(r.name, (*r.allowed, site in may))
            for r, may in zip(rules, rule_sites, strict=True)
        ]
        if brokers:
            brokers = tuple(
                replace(b, path_ms=(*b.path_ms, ms))
                for b, ms in zip(brokers, paths[site], strict=True)
            )
    return (
        replace(frame, nodes=tuple(places), rules=tuple(rules)),
        replace(moment, lanes=tuple(lanes), nodes=tuple(nodes), brokers=brokers),
    )
