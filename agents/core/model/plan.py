"""What goes into the planner and what comes out: frozen values, in JSON for the journal too
(core/replay). Lanes and nodes are named by their row in the input.

`Frame` is what a leader's life does not change, `Moment` what one tick sees; `plan(frame, moment)`
is the whole decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.core.model.topology import Partition
from agents.settings.calm import Calm
from kernels.tables import Problem, RttModel, Weights


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as the planner sees it.

    `rate_eps`: what arrives now, events/s; None when nobody has counted yet. `expected_eps`: what
    the lane map expects; it stands in for an unknown rate, and for all while hardly anything
    arrives. `forecast_eps`: what will arrive `Calm.forecast_s` from now; None without a forecast.
    `owner`: row of the node that has the lane; None for an orphan. `target`: row of the node where
    a move under way is to end. `warm`: row of another node that still has its caches. `moving`:
    being released now. `cooldown_until_s`: calm leaves it alone until then. `priority`: when not
    all fit, the lower wait. `traffic`: see kernels.LaneTable."""

    id: int
    rate_eps: float | None
    expected_eps: float = 0.0
    owner: int | None = None
    target: int | None = None
    moving: bool = False
    cooldown_until_s: float = 0.0
    priority: int = 0
    forecast_eps: float | None = None
    warm: int | None = None
    traffic: float = 1.0


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the planner sees it.

    `takes`: whether it may be given lanes (available, with a lease). `empty`: why its lanes must go
    (`draining`, `unhealthy`), else "". `in_flight`: moves from or to it that are under way, of
    `slots` that it may have (None: `Calm.in_flight`). `came_s`: since when it takes lanes, on the
    clock of `Moment.now_s`: it is ramped from then on. `degraded_ms`: what its health costs."""

    id: str
    capacity_eps: float
    takes: bool = True
    empty: str = ""
    in_flight: int = 0
    slots: int | None = None
    came_s: float = float("-inf")
    degraded_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Where a node is: degrees, row of its region in the RTT table (-1: none), what its site's way
    out costs."""

    id: str
    lat: float
    lon: float
    site: int = -1
    egress_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class AllowedNodes:
    """A residency rule: its name, and for each node whether its lanes may be there."""

    name: str
    allowed: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class PlanningFrame:
    """What stays the same in a leader's life, or until the inventory is another. Per lane: `lat`,
    `lon` (degrees) and `rule` (row of `rules`, -1: none); per node: `nodes`."""

    lat: tuple[float, ...]
    lon: tuple[float, ...]
    rule: tuple[int, ...]
    nodes: tuple[NodePlace, ...]
    rules: tuple[AllowedNodes, ...]
    rtt: RttModel
    calm: Calm
    weights: Weights


@dataclass(frozen=True, slots=True)
class Memory:
    """What one plan hands to the next: since when (s, the caller's clock) a node is hot, by its
    name, and a lane would be better off elsewhere, by its id; the price of room in ms, by node.
    Losing it costs a delay, nothing else."""

    at_s: float = float("-inf")
    hot_since_s: Mapping[str, float] = field(default_factory=dict)
    better_since_s: Mapping[int, float] = field(default_factory=dict)
    price_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moment:
    """What one tick sees. `now_s` is on the caller's monotonic clock, as is every other time in
    here. `orphans_only`: nothing else moves (paused). `eager`: somebody asks for it, so windows and
    cooldowns are waived."""

    now_s: float
    lanes: tuple[Lane, ...]
    nodes: tuple[Node, ...]
    memory: Memory = Memory()
    orphans_only: bool = False
    eager: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """Give the orphan `lane` to the node in row `to`; `rtt_ms` from the lane to it."""

    lane: int
    to: int
    rtt_ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """Hand `lane` over between the nodes in rows `frm` and `to`; `delta_ms` is what its RTT grows
    by (negative: shorter)."""

    lane: int
    frm: int
    to: int
    delta_ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class PlacementFigures:
    """A placement in numbers. `cost`: sum of rate x RTT in ms x events/s, over the lanes that are
    placed; `mean_rtt_ms`: the same per event; `utilisation`: of the busiest node, a share of its
    whole capacity."""

    cost: float
    mean_rtt_ms: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Optimum:
    """How good the placement is that this plan steers to (DESIGN 7.3). `objective`: its cost in ms
    x events/s; `bound`: what no placement can go below; `gap`: how far the first is above the
    second, as a share of it. `moves`: lanes that are elsewhere now."""

    objective: float
    bound: float
    gap: float
    moves: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `waiting`: orphans that fit nowhere, by id, the most important first.
    `stuck`: lanes that must leave their node and fit nowhere else; they stay. `parked`: lanes to be
    taken from their node and given to nobody, since the load does not fit and others matter more.
    `load_eps`: the load that was reckoned with, per lane; `price_ms`: of room, `room_eps`: what the
    node may be given, per node, in the input's order."""

    assignments: tuple[Assignment, ...]
    moves: tuple[PlannedMove, ...]
    waiting: tuple[int, ...]
    stuck: tuple[int, ...]
    parked: tuple[int, ...]
    before: PlacementFigures
    after: PlacementFigures
    optimum: Optimum
    load_eps: tuple[float, ...]
    room_eps: tuple[float, ...]
    price_ms: tuple[float, ...]
    memory: Memory


@dataclass(frozen=True, slots=True)
class Scored:
    """A plan with what it was made from, kept so that it can be explained. Rows: `partitions` are
    the moment's lanes, `workers` its nodes. `took_ms`: how long the planning took."""

    partitions: list[Partition]
    workers: list[str]
    frame: PlanningFrame
    moment: Moment
    problem: Problem
    plan: Plan
    took_ms: float = 0.0

    def row(self, p: Partition) -> int:
        return self.partitions.index(p)

    def column(self, worker: str) -> int:
        return self.workers.index(worker)


@dataclass(frozen=True, slots=True)
class LanePlaces:
    """Per lane: where its data is (lat, lon in degrees), the rate that the lane map expects
    (events/s), the row of its residency rule in `rules` (-1: none), and its priority; `rule_sites`:
    where the lanes of each rule may be. Rules and priorities may be left out."""

    lat: tuple[float, ...]
    lon: tuple[float, ...]
    expected_eps: tuple[float, ...]
    rule: tuple[int, ...] = ()
    priority: tuple[int, ...] = ()
    rules: tuple[AllowedNodes, ...] = ()
    rule_sites: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """Something about the rules that people should know. `kind`: `unmet`, no node of the inventory
    may have these `lanes`, which wait; `idle`, the rule binds no lane."""

    kind: str
    rule: str
    lanes: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan was made. `frame`: given with a leader's first plan, and whenever it is another; None:
    the last one given. `kind`: for what (`orphans`, `tick`). `numerics`: the name of the kernels
    that it was made with."""

    frame: PlanningFrame | None
    moment: Moment
    plan: Plan
    kind: str
    numerics: str = ""
