"""The planner's input and output as frozen values; planning/recording.py writes them to the journal
as JSON. Lanes and nodes are named by their row in the input.

`plan(frame, moment)` is the whole decision: a `PlanningFrame` has what stays the same, a `Moment`
what one tick sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agents.core.model.topology import Partition
from agents.settings.calm import Calm
from kernels.tables import Problem, RttModel, Weights


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as the planner sees it.

    `rate_eps`: events/s that arrive now; None if no router has counted them. `expected_eps`: the
    rate that the lane map expects; it replaces an unknown rate, and every rate while hardly
    anything arrives. `forecast_eps`: events/s expected `Calm.forecast_s` from now; None without a
    forecast. `owner`: row of the node that has the lane; None for an orphan. `target`: row of the
    node where a move under way will end. `warm`: row of another node that still has its caches.
    `moving`: it is being released now. `cooldown_until_s`: damping leaves it alone until then.
    `priority`: when not all lanes fit, those with a lower one wait. `traffic`: see
    kernels.LaneTable. `broker`: row of the broker at which its data is; None if that is where its
    events arise."""

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
    broker: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the planner sees it.

    `takes`: whether it may be given lanes (available, with a lease). `empty`: why its lanes must
    leave (`draining`, `unhealthy`), else "". `in_flight`: moves from or to it that are under way.
    `slots`: how many it may have (None: `Calm.in_flight`). `came_s`: when it began to take lanes,
    on the clock of `Moment.now_s`; its ramp begins then. `degraded_ms`: the cost of its health."""

    id: str
    capacity_eps: float
    takes: bool = True
    empty: str = ""
    in_flight: int = 0
    slots: int | None = None
    came_s: float = float("-inf")
    degraded_ms: float = 0.0


class PathBasis(StrEnum):
    """What the round trips to a broker rest on: workers' probes, completed where none was made; the
    RTT table, from the site that its rack names; or nothing, and then all of them are 0."""

    MEASURED = "measured"
    MODELLED = "modelled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DataBroker:
    """A broker of Kafka at which lanes' data is. `id`: Kafka's number of it; -1 stands for that of
    lanes whose leader is not known. `site`: the inventory's site where it is, empty if not known.
    `basis`: a PathBasis. `path_ms`: the round trip from each node, in the order of the frame's."""

    id: int
    site: str
    basis: str
    path_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Where a node is: `lat`, `lon` in degrees. `site`: row of its region in the RTT table (-1:
    none). `egress_ms`: the cost of its site's way out."""

    id: str
    lat: float
    lon: float
    site: int = -1
    egress_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class AllowedNodes:
    """A residency rule: its name, and per node whether its lanes may be there."""

    name: str
    allowed: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class PlanningFrame:
    """The inputs that stay the same until the inventory or the settings change. Per lane: `lat`,
    `lon` (degrees) and `rule` (row of `rules`, -1: none). Per node: `nodes`."""

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
    """What one plan passes on to the next; losing it only causes a delay. Times are seconds on the
    caller's clock. `hot_since_s`: when a node became hot, by its name. `better_since_s`: since when
    a lane would be better off elsewhere, by its id. `price_ms`: the price of room, by node."""

    at_s: float = float("-inf")
    hot_since_s: Mapping[str, float] = field(default_factory=dict)
    better_since_s: Mapping[int, float] = field(default_factory=dict)
    price_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moment:
    """The inputs of one tick. `now_s`: on the caller's monotonic clock, like every other time here.
    `orphans_only`: only orphans are placed. `eager`: windows and cooldowns are ignored, because a
    person asks. `brokers`: those at which the lanes' data is."""

    now_s: float
    lanes: tuple[Lane, ...]
    nodes: tuple[Node, ...]
    memory: Memory = Memory()
    orphans_only: bool = False
    eager: bool = False
    brokers: tuple[DataBroker, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """Give the orphan `lane` to the node in row `to`. `rtt_ms`: the modelled cost of the lane there
    (Scoreboard.resting_ms)."""

    lane: int
    to: int
    rtt_ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """Hand `lane` over from the node in row `frm` to the one in row `to`. `delta_ms`: by how much
    its modelled cost grows; negative is better."""

    lane: int
    frm: int
    to: int
    delta_ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class PlacementCost:
    """A placement in numbers. `cost`: the sum of load x modelled ms over the lanes that are placed,
    in ms x events/s. `mean_rtt_ms`: the same per event. `utilisation`: of the busiest node, a share
    of its whole capacity."""

    cost: float
    mean_rtt_ms: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Optimum:
    """How good the placement is that this plan steers to (docs/planning.md). `objective`: its cost
    in ms x events/s. `bound`: a lower bound of every placement's cost. `gap`: by how much the
    objective is above the bound, as a share of it. `moves`: lanes that are elsewhere now."""

    objective: float
    bound: float
    gap: float
    moves: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `waiting`: orphans that fit nowhere, by id, the most important first.
    `stuck`: lanes that must leave their node but fit nowhere else; they stay. `parked`: lanes to
    take from their node without giving them to another, because not all fit and others matter more.
    Per lane, in the input's order: `load_eps`, the load that was assumed. Per node: `room_eps`,
    what it may be given, and `price_ms`, the price of its room."""

    assignments: tuple[Assignment, ...]
    moves: tuple[PlannedMove, ...]
    waiting: tuple[int, ...]
    stuck: tuple[int, ...]
    parked: tuple[int, ...]
    before: PlacementCost
    after: PlacementCost
    optimum: Optimum
    load_eps: tuple[float, ...]
    room_eps: tuple[float, ...]
    price_ms: tuple[float, ...]
    memory: Memory


@dataclass(frozen=True, slots=True)
class Scored:
    """A plan with its inputs, kept so that it can be explained. `partitions`: the moment's lanes,
    row by row. `workers`: its nodes. `took_ms`: how long planning took."""

    partitions: list[Partition]
    workers: list[str]
    frame: PlanningFrame
    moment: Moment
    problem: Problem
    plan: Plan
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class LanePlaces:
    """Per lane: where its events come from (`lat`, `lon` in degrees), the rate that the lane map
    expects (events/s), the row of its residency rule in `rules` (-1: none), and its priority.
    `rule_sites`: per rule, the sites where its lanes may be. Rules and priorities may be left
    out."""

    lat: tuple[float, ...]
    lon: tuple[float, ...]
    expected_eps: tuple[float, ...]
    rule: tuple[int, ...] = ()
    priority: tuple[int, ...] = ()
    rules: tuple[AllowedNodes, ...] = ()
    rule_sites: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """Something about the rules that people should know. `kind`: `unmet` if no node of the
    inventory may have these `lanes`, which then wait; `idle` if the rule binds no lane."""

    kind: str
    rule: str
    lanes: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Decided:
    """Write a plan and its inputs to the journal. `frame`: with a leader's first plan and whenever
    it has changed; None means the last one. `kind`: what the plan was for (`orphans`, `tick`).
    `numerics`: the name of the kernels that made it."""

    frame: PlanningFrame | None
    moment: Moment
    plan: Plan
    kind: str
    numerics: str = ""
