"""The items of the operator feeds, as values (PROTOCOL 4); plugins/feeds turns them into Atom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agents.core.model.hotspots import HotspotState
from agents.core.model.topology import WorkerKind

FLEET, PLACEMENT, ALERTS, TUNING = "fleet", "placement", "alerts", "tuning"
HOTSPOTS, GEO = "hotspots", "geo"
OPERATOR_FEEDS = (FLEET, PLACEMENT, ALERTS, HOTSPOTS, GEO)
"""What a member of the ops room may read: `geolane watch FEED` and `follow FEED`."""
CURRENT = "current"


class Severity(StrEnum):
    """How much an alert matters. `CALM` ends an earlier alert with the same `about`."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    CALM = "calm"


@dataclass(frozen=True, slots=True)
class MoveItem:
    """One partition of a plan. `source` (XML: from): empty if the partition was an orphan. Names
    have no prefix (`fra-1`). `delta_ms`: the predicted change of latency; negative is better."""

    lane: int
    source: str
    target: str
    epoch: int
    delta_ms: float
    topic: str = WorkerKind.NODE.topic


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """A plan and its reason. `by`: the bare JID of the person who asked for it, empty if the
    coordinator decided alone."""

    plan: int
    reason: str
    by: str = ""
    moves: tuple[MoveItem, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementFigures:
    """How good the placement is, with every plan (docs/planning.md). `objective`, `bound`: ms x
    events/s. `gap`: by how much the objective is above the bound, as a share of it. `moves`: lanes
    that would have to move. `waiting`: lanes without room."""

    objective: float
    bound: float
    gap: float
    moves: int
    solve_ms: float
    waiting: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker in the feed `fleet`. `worker`: its account's name. `state`: a word for people
    (`ok`, `gone`, `draining`). `lanes`: how many partitions it has. `p99_ms`: of its slowest one.
    Figures of an absent worker are 0."""

    worker: str
    site: str
    region: str
    lat: float
    lon: float
    state: str
    lanes: int
    rate_eps: float
    lag_events: int
    p99_ms: float
    capacity_eps: float


@dataclass(frozen=True, slots=True)
class WorkerRows:
    """The rows that one item carries: share `turn` of `turns`, counted from 0. A reader keeps the
    newest of each share."""

    turn: int
    turns: int
    rows: tuple[WorkerRow, ...]


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One lane in the feed `fleet`. `node`: its owner without prefix (`fra-1`), empty for an
    orphan. `state`: ok, moving, orphan or stopped (its owner reports a fault). `lat`, `lon`: the
    middle of where its events arise."""

    lane: int
    node: str
    state: str
    lat: float
    lon: float
    rate_eps: float
    lag_events: int
    p99_ms: float


@dataclass(frozen=True, slots=True)
class LaneRows:
    """The lanes that one item carries, as WorkerRows."""

    turn: int
    turns: int
    rows: tuple[LaneRow, ...]


@dataclass(frozen=True, slots=True)
class TroubleRow:
    """One trouble (core/fleet/troubles.py) in the feed `fleet`; it has lasted for `for_s`
    seconds."""

    kind: str
    about: str
    severity: Severity
    for_s: float
    text: str


@dataclass(frozen=True, slots=True)
class TroubleRows:
    """The worst of `total` troubles, the worst first."""

    total: int
    rows: tuple[TroubleRow, ...]


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """The fleet in numbers, once a second. Rates are events/s over all lanes. `p50_ms`, `p99_ms`:
    of the slowest lane. `workers`, `troubles`, `lane_rows`: None from a coordinator that does not
    send them."""

    nodes: int
    nodes_available: int
    routers: int
    lanes: int
    lanes_assigned: int
    lanes_moving: int
    lanes_orphaned: int
    rate_eps: float
    arrival_eps: float
    lag_events: int
    p50_ms: float
    p99_ms: float
    paused: bool = False
    workers: WorkerRows | None = None
    troubles: TroubleRows | None = None
    lane_rows: LaneRows | None = None

    @classmethod
    def figure_names(cls) -> tuple[str, ...]:
        """The names of its numbers, `paused` among them."""
        rows = ("workers", "troubles", "lane_rows")
        return tuple(name for name in cls.__slots__ if name not in rows)


@dataclass(frozen=True, slots=True)
class AlertItem:
    """Something an operator should know. `kind`: a word (`node_gone`). `about`: a worker, a
    partition's key or another name; may be empty."""

    severity: Severity
    kind: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class HotspotItem:
    """One hotspot at its latest change; its id is the item's. `state`: open, grown or ended.
    `lat`, `lon`: the middle of its peak, in degrees. `eps`, `usual_eps`: the peak's events/s. Times
    are event time in epoch s; `ended_s`: 0 while it lasts."""

    id: str
    state: HotspotState
    place: str
    lat: float
    lon: float
    eps: float
    usual_eps: float
    started_s: int
    last_s: int
    ended_s: int = 0
    lanes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LaneTrafficRow:
    """The traffic of one lane. `index`: expected by static travel time. `live`: from traffic as it
    is now. `age_s`, `valid_s`: how long ago the provider was asked, and how long the figure still
    holds, when the item was made. `place`: the name of the middle of its events, or empty."""

    lane: int
    index: float
    live: bool
    provider: str
    age_s: float
    valid_s: float
    place: str = ""


@dataclass(frozen=True, slots=True)
class GeoItem:
    """The traffic that plans use now: of `lanes` lanes, in `rows` those with the slowest roads.
    `calls`: the provider's calls of this day, of `daily_calls` (0: no limit)."""

    lanes: int
    calls: int
    daily_calls: int
    rows: tuple[LaneTrafficRow, ...] = ()


@dataclass(frozen=True, slots=True)
class TuningValues:
    """For the workers: the values of tuned settings, by name; for all others each worker's own
    settings apply. `version`: what they acknowledge."""

    version: int
    values: tuple[tuple[str, int | float], ...] = ()


FeedElement = (
    FleetSummary
    | PlacementPlan
    | PlacementFigures
    | AlertItem
    | HotspotItem
    | GeoItem
    | TuningValues
)


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One item of `feed`. `title` and `content` are for people, `element` is for machines.
    `item_id`: its name within the feed, such as `current` in `fleet`, or `plan-4-918` for a
    plan."""

    feed: str
    item_id: str
    title: str
    content: str
    element: FeedElement
    leader_epoch: int
