"""`whatif`: the plan as it would be after a change, in at most 8 lines. It changes nothing. Budget
and ramp are ignored, so it tells where the fleet would end, not how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.base.errors import OperatorError
from agents.base.suggest import suggest_names
from agents.base.text import counted
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import format_partitions
from agents.core.fleet.placing import Placing
from agents.core.fleet.placing_inputs import FleetChange
from agents.core.model.answers import (
    LISTED_AT_MOST,
    Answer,
    BusiestNode,
    PredictedFigures,
    PredictedMove,
    WhatIfData,
)
from agents.core.model.plan import PlacementCost, Scored
from agents.core.model.topology import WorkerKind, short_name
from agents.core.operators.arguments import find_lane
from agents.core.operators.explain import describe_network, node_loads_eps, seats_after_plan
from kernels.tables import Floats, Ints

USAGE = "whatif drain NODE | lose REGION | add SITE CAPACITY | rate LANE xF"
MOST_EPS, MOST_TIMES = 1e9, 1000.0
NAMES = 4


@dataclass(frozen=True, slots=True)
class Question:
    """The change for the planner, and its words. `eager`: whether windows and cooldowns are ignored
    for all lanes."""

    change: FleetChange
    words: str
    eager: bool


def answer_whatif(placing: Placing, now: float, now_ms: int, args: Sequence[str]) -> Answer:
    """The answer. Raises OperatorError for an argument that names nothing or is not a number."""
    q = parse_question(placing.fleet, args)
    # The baseline is a change that changes nothing, so that it is planned with the same freedom.
    any_lane = placing.fleet.partitions_of(WorkerKind.NODE)[0].n
    same = FleetChange(rate={any_lane: 1.0})
    base = placing.what_if(now, now_ms, same, eager=q.eager)
    then = placing.what_if(now, now_ms, q.change, eager=q.eager)
    differences = _Differences(base, then)
    lines = [f"What if {q.words} (nothing is changed):", *differences.describe()]
    return Answer("\n".join(lines), differences.to_data(q.words))


# ---- the question ----


def parse_question(fleet: Fleet, args: Sequence[str]) -> Question:
    """The question that the arguments ask. Raises OperatorError."""
    kind, rest = args[0].lower() if args else "", args[1:]
    match kind, len(rest):
        case "drain", 1:
            return _parse_drain(fleet, rest[0])
        case "lose", n if n > 0:
            return _parse_loss(fleet, " ".join(rest))
        case "add", 2:
            return _parse_new_node(fleet, *rest)
        case "rate", 2:
            return _parse_rate(fleet, *rest)
    raise OperatorError(f"Usage: {USAGE}")


def _parse_drain(fleet: Fleet, text: str) -> Question:
    by_name = {w.name: w.worker for w in fleet.inventory.workers_of(WorkerKind.NODE)}
    worker = by_name.get(text.lower(), text.lower())
    if worker not in by_name.values():
        raise OperatorError(f"No node is called {text[:40]!r}. {suggest_names(text, by_name)}")
    if fleet.statuses[worker].drained:
        raise OperatorError(f"{short_name(worker)} is already drained.")
    return Question(
        FleetChange(empty=frozenset({worker})), f"{short_name(worker)} were drained", eager=False
    )


def _parse_loss(fleet: Fleet, text: str) -> Question:
    """A region or a site; spaces and capitals do not matter."""
    sites = fleet.inventory.sites.values()
    known = {s.region: {x.name for x in sites if x.region == s.region} for s in sites} | {
        s.name: {s.name} for s in sites
    }
    wanted = {_normalize_name(name): name for name in known}.get(_normalize_name(text))
    if wanted is None:
        raise OperatorError(
            f"No region or site is called {text[:40]!r}. "
            f"{suggest_names(text, {s.region for s in sites})}"
        )
    lost = frozenset(
        w.worker for w in fleet.inventory.workers_of(WorkerKind.NODE) if w.site in known[wanted]
    )
    if not lost:
        raise OperatorError(f"There is no node in {wanted}: nothing would be lost.")
    count = "its node" if len(lost) == 1 else f"its {len(lost)} nodes"
    return Question(FleetChange(lost=lost), f"{wanted} were lost, with {count}", eager=True)


def _normalize_name(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _parse_new_node(fleet: Fleet, site: str, capacity: str) -> Question:
    sites: Mapping[str, object] = fleet.inventory.sites
    if site.lower() not in sites:
        raise OperatorError(f"No site is called {site[:40]!r}. {suggest_names(site, sites)}")
    eps = _parse_number(capacity)
    if not 0 < eps <= MOST_EPS:
        raise OperatorError(
            f"{capacity[:40]!r} is not a valid capacity: give events/s, such as 2000."
        )
    return Question(
        FleetChange(added=((site.lower(), eps),)),
        f"{site.lower()} had another node of {eps:,.0f} events/s",
        eager=True,
    )


def _parse_rate(fleet: Fleet, lane: str, factor: str) -> Question:
    n = find_lane(fleet, lane).n
    times = _parse_number(factor.lower().removeprefix("x"))
    if not 0 <= times <= MOST_TIMES:
        raise OperatorError(
            f"{factor[:40]!r} is not a valid factor: x2 doubles what arrives, x0.5 halves it."
        )
    return Question(
        FleetChange(rate={n: times}), f"lane {n} had {times:g} times its rate", eager=True
    )


def _parse_number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return math.nan


# ---- the answer ----


class _Differences:
    """The differences of `then`, the plan after the change, from `base`, the plan without it. Rows
    of nodes by row of the lane: `here` now, `there` after the change; `moved`: rows of the lanes
    that would move, of which `anyway` would move without the change, too."""

    def __init__(self, base: Scored, then: Scored) -> None:
        self._base, self._then = base, then
        self._here: Ints = base.problem.lanes.owner
        self._there = seats_after_plan(then)
        moves = (self._there != self._here) & (self._there >= 0)
        self._moved: Ints = np.flatnonzero(moves).astype(np.int32)
        same = self._there[self._moved] == seats_after_plan(base)[self._moved]
        self._anyway = int(same.sum())
        self._lost = sorted({*then.plan.waiting, *then.plan.parked})

    def _lane_of(self, row: int) -> int:
        return self._then.moment.lanes[row].id

    def to_data(self, question: str) -> WhatIfData:
        base, then = self._base, self._then
        delta_ms = {m.lane: m.delta_ms for m in then.plan.moves}
        return WhatIfData(
            question=question,
            before=_predicted_figures(base.plan.before, base, self._here),
            after=_predicted_figures(then.plan.after, then, self._there),
            rtt_basis=describe_network(then),
            lanes=len(then.moment.lanes),
            moves=tuple(
                PredictedMove(
                    lane := self._lane_of(row),
                    _name_node(base, self._here[row]) if self._here[row] >= 0 else None,
                    _name_node(then, self._there[row]),
                    delta_ms.get(lane),
                )
                for row in self._moved[:LISTED_AT_MOST]
            ),
            total_moves=len(self._moved),
            moving_anyway=self._anyway,
            waiting=tuple(self._lost[:LISTED_AT_MOST]),
            stuck=tuple(then.plan.stuck[:LISTED_AT_MOST]),
        )

    def describe(self) -> list[str]:
        base, then, lost = self._base, self._then, self._lost
        before, after = base.plan.before, then.plan.after
        lines = [
            f"RTT an event {before.mean_rtt_ms:.1f} -> {after.mean_rtt_ms:.1f} ms "
            f"({describe_network(then)}).",
            f"Busiest node, as forecast: {_describe_busiest_node(base, self._here)} -> "
            f"{_describe_busiest_node(then, self._there)}.",
            *self._describe_moves(),
        ]
        if lost:
            known = " (as now)" if lost == sorted({*base.plan.waiting, *base.plan.parked}) else ""
            lines.append(f"No room, so they wait and lag: {_name_lanes(lost)}{known}.")
        if then.plan.stuck:
            lines.append(f"They should leave but fit nowhere: {_name_lanes(then.plan.stuck)}.")
        return lines

    def _describe_moves(self) -> list[str]:
        moved, then = self._moved, self._then
        if not len(moved):
            return ["No lane would move."]
        of = f"{len(moved)} of {len(then.moment.lanes)} lanes would move"
        own = f", {self._anyway} of them in any case" if self._anyway else ""
        return [
            f"{of}{own}: {_name_lanes([*map(self._lane_of, moved)])}.",
            _describe_main_gainer(then, self._there, moved),
        ]


def _predicted_figures(figures: PlacementCost, scored: Scored, sits: Ints) -> PredictedFigures:
    busiest = _find_busiest_node(scored, sits)
    return PredictedFigures(
        figures.mean_rtt_ms,
        None if busiest is None else BusiestNode(_name_node(scored, busiest[0]), busiest[1]),
    )


def _describe_main_gainer(then: Scored, there: Ints, moved: Ints) -> str:
    """The node that gets most of the moving load, for people."""
    gained: Floats = np.zeros(len(then.workers))
    np.add.at(gained, there[moved], np.array(then.plan.load_eps)[moved])
    n = int(gained.argmax())
    lanes = int((there[moved] == n).sum())
    return (
        f"Most goes to {_name_node(then, n)}: {counted(lanes, 'lane')}, {gained[n]:,.0f} events/s."
    )


def _find_busiest_node(scored: Scored, sits: Ints) -> tuple[int, float, float] | None:
    """The row of the busiest node, its load as a share of its capacity, and how many times the mean
    of the nodes that work that is; None if there is no load."""
    use = node_loads_eps(scored, sits)
    capacity = np.array([n.capacity_eps for n in scored.moment.nodes], dtype=np.float64)
    works = (capacity > 0) & ((use > 0) | scored.problem.nodes.takes)
    if not works.any() or use.sum() == 0:
        return None
    share = np.divide(use, capacity, out=np.zeros_like(use), where=works)
    n = int(share.argmax())
    return n, float(share[n]), float(share[n] * capacity[works].sum() / use.sum())


def _describe_busiest_node(scored: Scored, sits: Ints) -> str:
    """`71% (ric-1, 1.3 x mean)`."""
    busiest = _find_busiest_node(scored, sits)
    if busiest is None:
        return "none"
    n, share, times = busiest
    return f"{share:.0%} ({_name_node(scored, n)}, {times:.1f} x mean)"


def _name_node(scored: Scored, n: int) -> str:
    known = scored.workers[n].startswith(f"{WorkerKind.NODE.name}-")
    return short_name(scored.workers[n]) if known else "the new node"


def _name_lanes(lanes: Sequence[int]) -> str:
    return format_partitions([WorkerKind.NODE.partition(n) for n in lanes], NAMES)
