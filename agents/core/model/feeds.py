"""What the coordinator publishes on the operator feeds, as values (PROTOCOL 4); plugins/feeds puts
them into Atom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agents.core.model.topology import LANES

FLEET, PLACEMENT, ALERTS, TUNING = "fleet", "placement", "alerts", "tuning"
CURRENT = "current"


class Severity(StrEnum):
    """How much an alert matters; `CALM` ends what an earlier one with the same `about` began."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    CALM = "calm"


@dataclass(frozen=True, slots=True)
class MoveItem:
    """One partition of a plan. `source` (XML: from) is empty when nobody had it; names have no
    prefix (`fra-1`).

    `delta_ms` is the predicted change of latency, negative is better."""

    lane: int
    source: str
    target: str
    epoch: int
    delta_ms: float
    topic: str = LANES


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """A plan and why. `by` is the bare JID of who asked for it, empty when the coordinator decided
    alone."""

    plan: int
    reason: str
    by: str = ""
    moves: tuple[MoveItem, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementFigures:
    """How good the placement is, on every tick (DESIGN 7.3). `objective` and `bound` in ms x
    events/s, `gap` the share by which the one is above the other at most; `moves`: lanes that would
    have to move; `waiting`: lanes without room."""

    objective: float
    bound: float
    gap: float
    moves: int
    solve_ms: float
    waiting: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker in the feed `fleet`. `worker` is its account's name, `state` the word that people
    read (`ok`, `gone`, `draining`); `lanes` counts its partitions, `p99_ms` is the worst one's;
    what it does not say while it is away is 0."""

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
    """As many rows as one item may carry: share `turn` of `turns`, counted from 0. A reader keeps
    the newest of each share."""

    turn: int
    turns: int
    rows: tuple[WorkerRow, ...]


@dataclass(frozen=True, slots=True)
class TroubleRow:
    """One standing trouble (core/fleet/troubles.py) in the feed `fleet`: it has stood `for_s`
    seconds."""

    kind: str
    about: str
    severity: Severity
    for_s: float
    text: str


@dataclass(frozen=True, slots=True)
class TroubleRows:
    """The worst of `total` standing troubles, the worst first."""

    total: int
    rows: tuple[TroubleRow, ...]


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """The fleet in numbers, once a second. Rates are events/s over all lanes; `p99_ms` is the worst
    lane's. `workers` is None from a coordinator that does not tell of each, `troubles` from one
    that does not tell of those."""

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

    @classmethod
    def figures(cls) -> tuple[str, ...]:
        """The names of its numbers, `paused` among them."""
        return tuple(name for name in cls.__slots__ if name not in ("workers", "troubles"))


@dataclass(frozen=True, slots=True)
class AlertItem:
    """Something an operator should know. `kind` is a word (`node_gone`), `about` a worker, a lane
    or empty."""

    severity: Severity
    kind: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class TuningValues:
    """For the workers: settings by name, and what they are to be from now on; what is not named is
    as each worker's own settings say. `version` is what they acknowledge."""

    version: int
    values: tuple[tuple[str, int | float], ...] = ()


FeedElement = FleetSummary | PlacementPlan | PlacementFigures | AlertItem | TuningValues


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One item of `feed`. `title` and `content` are for people, `element` for machines.

    `item_id` names it within the feed: `current` for the feed `fleet`, `plan-4-918` for a plan."""

    feed: str
    item_id: str
    title: str
    content: str
    element: FeedElement
    leader_epoch: int
