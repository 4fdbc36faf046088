"""What goes into the planner and what comes out: frozen values. Lanes and nodes are named by their row in the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as the planner sees it.

    `rate_eps`: what arrives now, events/s; None when nobody has counted yet. `expected_eps`: what the lane map expects;
    it stands in for an unknown rate and is the floor of a known one. `owner`: row of the node that has the lane; None
    for an orphan. `target`: row of the node where a move under way is to end. `moving`: being released now.
    `cooldown_until_s`: calm leaves it alone until then. `priority`: when not all fit, the lower wait."""

    id: int
    rate_eps: float | None
    expected_eps: float = 0.0
    owner: int | None = None
    target: int | None = None
    moving: bool = False
    cooldown_until_s: float = 0.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the planner sees it.

    `takes`: whether it may be given lanes (available, with a lease). `empty`: why its lanes must go (`draining`,
    `unhealthy`), else "". `in_flight`: moves from or to it that are under way."""

    id: str
    capacity_eps: float
    takes: bool = True
    empty: str = ""
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Calm:
    """The rules that keep a fleet calm (DESIGN 7.4).

    `target_utilisation`: share of its capacity that a node is given at most. `act_above`, `settle_to`: times the
    fleet's mean utilisation at which a node is relieved, and to which. `idle_below`: utilisation under which a node
    counts as idle: imbalance costs no latency there, so it is not relieved. `windows` of `window_s` each: for how long,
    without a break, a move must look right. `horizon_s`: time in which a move has to earn what it costs; it costs the
    events of `pause_ms` their wait. `budget_share` of the load may be on the move at once, or one lane. `in_flight`
    moves from or to one node."""

    target_utilisation: float = 0.85
    act_above: float = 1.25
    settle_to: float = 1.10
    idle_below: float = 0.10
    window_s: float = 5.0
    windows: int = 2
    cooldown_s: float = 30.0
    horizon_s: float = 300.0
    pause_ms: float = 300.0
    budget_share: float = 0.09
    in_flight: int = 5


@dataclass(frozen=True, slots=True)
class Memory:
    """What one plan hands to the next: since when (s, the caller's clock) a node is hot, by its name, and a lane would
    be better off elsewhere, by its id. Losing it costs a delay, nothing else."""

    at_s: float = float("-inf")
    hot_since_s: Mapping[str, float] = field(default_factory=dict)
    better_since_s: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Give the orphan `lane` to the node in row `to`; `rtt_ms` from the lane to it."""

    lane: int
    to: int
    rtt_ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """Hand `lane` over between the nodes in rows `frm` and `to`; `delta_ms` is what its RTT grows by (negative:
    shorter)."""

    lane: int
    frm: int
    to: int
    delta_ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class Figures:
    """A placement in numbers. `cost`: sum of rate x RTT in ms x events/s, over the lanes that are placed;
    `mean_rtt_ms`: the same per event; `utilisation`: of the busiest node, a share of its whole capacity."""

    cost: float
    mean_rtt_ms: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `waiting`: orphans that fit nowhere, by id, the most important first. `stuck`: lanes that must
    leave their node and fit nowhere else; they stay. `load_eps`: the load that was reckoned with, per lane in the
    input's order."""

    assignments: tuple[Assignment, ...]
    moves: tuple[Move, ...]
    waiting: tuple[int, ...]
    stuck: tuple[int, ...]
    before: Figures
    after: Figures
    load_eps: tuple[float, ...]
    memory: Memory
