"""The state of a plan while it is made: which node has which lane, the room that is left, and the
costs. Which lanes should move is decided elsewhere."""

from __future__ import annotations

import numpy as np

from agents.core.model.plan import Moment, PlacementCost, PlanningFrame
from agents.core.planning.limits import LEAST_EPS, ROUNDING, compute_limits, compute_load_eps
from kernels import Problem, lane_table, make_problem, node_table
from kernels.tables import Bools, Costs, Floats, Ints, Numerics, Solution

NOBODY = -1
OVERFULL_TRIES = 4


def _build_problem(frame: PlanningFrame, moment: Moment, sits: Ints, takes: Bools) -> Problem:
    """The cost of every lane at every node, not evaluated yet. `sits`: row of each lane's owner.
    `takes`: which nodes take lanes now."""
    lanes, nodes = moment.lanes, moment.nodes
    rows = [lane.id for lane in lanes]
    return make_problem(
        lane_table(
            [frame.lat[i] for i in rows],
            [frame.lon[i] for i in rows],
            owner=sits,
            warm=[NOBODY if lane.warm is None else lane.warm for lane in lanes],
            traffic=[lane.traffic for lane in lanes],
            rule=[frame.rule[i] for i in rows],
            source=[NOBODY if lane.broker is None else lane.broker for lane in lanes],
        ),
        node_table(
            [p.lat for p in frame.nodes],
            [p.lon for p in frame.nodes],
            site=[p.site for p in frame.nodes],
            takes=takes,
            keeps=[not n.empty for n in nodes],
            egress_ms=[p.egress_ms for p in frame.nodes],
            degraded_ms=[n.degraded_ms for n in nodes],
        ),
        frame.rtt,
        frame.weights,
        np.array([rule.allowed for rule in frame.rules], dtype=bool).reshape(
            len(frame.rules), len(nodes)
        ),
        np.array([b.path_ms for b in moment.brokers], dtype=np.float64).reshape(
            len(moment.brokers), len(nodes)
        ),
    )


class Scoreboard:
    """Per lane: `owner`, the row of its node (-1: none); `flying`, whether it is being released;
    `sits`, the row where it counts: its owner, or, if it is on its way, its target. `arriving`:
    rows of lanes that were released and have a target. Per node: `use`, the events/s it was given;
    a lane on its way counts at both ends."""

    def __init__(self, frame: PlanningFrame, moment: Moment, numerics: Numerics) -> None:
        self.frame, self.moment, self.numerics, self.calm = frame, moment, numerics, frame.calm
        self.lanes, self.nodes = moment.lanes, moment.nodes
        self.load = compute_load_eps(self.lanes, self.nodes, self.calm)
        self.limits = compute_limits(
            self.lanes, self.nodes, self.load, self.calm, moment.now_s, moment.brokers
        )
        self.priority: Ints = np.array([lane.priority for lane in self.lanes], dtype=np.int32)
        self.takes: Bools = np.array(
            [n.takes and not n.empty and n.capacity_eps > 0 for n in self.nodes], dtype=bool
        )
        self.owner: Ints = np.array(
            [NOBODY if lane.owner is None else lane.owner for lane in self.lanes], dtype=np.int32
        )
        self.flying: Bools = np.array([lane.moving for lane in self.lanes], dtype=bool) & (
            self.owner >= 0
        )
        self.sits: Ints = np.array(
            [self._find_seat(r) for r in range(len(self.lanes))], dtype=np.int32
        )
        self.use: Floats = np.zeros(len(self.nodes))
        self.count: Ints = np.zeros(len(self.nodes), dtype=np.int32)
        for row in range(len(self.lanes)):
            for n in {int(self.sits[row]), int(self.owner[row])} - {NOBODY}:
                self.add_load(row, n)
        self.arriving = self._find_arriving()
        self.problem = _build_problem(frame, moment, self.sits.copy(), self.takes)
        self.costs = numerics.costs(self.problem)

    def _find_seat(self, row: int) -> int:
        """The row where the lane counts; NOBODY if it is on its way to a node that no longer takes
        it."""
        lane = self.lanes[row]
        if lane.owner is not None and not lane.moving:
            return lane.owner
        return (
            NOBODY if lane.target is None or not self._may_go_to(row, lane.target) else lane.target
        )

    def _may_go_to(self, row: int, node: int) -> bool:
        return bool(self.takes[node]) and self.rules_allow(row, node)

    def rules_allow(self, row: int, node: int) -> bool:
        """Whether the residency rules allow the lane at the node."""
        rule = self.frame.rule[self.lanes[row].id]
        return rule < 0 or self.frame.rules[rule].allowed[node]

    def _find_arriving(self) -> list[int]:
        """Released lanes whose target still has room, the most important first. The others become
        orphans without a target; the least important lose theirs first."""
        rows = [r for r in range(len(self.lanes)) if self.owner[r] < 0 and self.sits[r] >= 0]
        fit = []
        for r in sorted(rows, key=self.rank, reverse=True):
            to = int(self.sits[r])
            if self.use[to] <= self.limits.hard[to] * (1 + ROUNDING) or self.count[to] == 1:
                fit.append(r)
            else:
                self.remove_load(r, to)
                self.sits[r] = NOBODY
        return fit[::-1]

    # ---- which node has which lane ----

    def add_load(self, row: int, to: int) -> None:
        """Count the lane at the node."""
        self.use[to] += self.load[row]
        self.count[to] += 1

    def remove_load(self, row: int, frm: int) -> None:
        """Count the lane at the node no more."""
        self.use[frm] -= self.load[row]
        self.count[frm] -= 1

    def settle_orphan(self, row: int, to: int) -> None:
        """Give an orphan to a node."""
        if self.sits[row] != to:
            self.sits[row] = to
            self.add_load(row, to)

    def rank(self, row: int) -> tuple[int, float, int]:
        """The order in which lanes choose: by priority, then the heavier, then the lower id
        first."""
        return -self.lanes[row].priority, -float(self.load[row]), self.lanes[row].id

    @property
    def largest_limit_eps(self) -> float:
        """The most events/s that a node may be given."""
        return float(self.limits.hard[self.takes].max()) if self.takes.any() else 0.0

    def may_stay(self) -> Bools:
        """Which lanes may stay where they sit, bool[L]: the node keeps its lanes, and the rules
        allow it."""
        out: Bools = np.zeros(len(self.lanes), dtype=bool)
        rows = np.flatnonzero(self.sits >= 0).astype(np.int32)
        out[rows] = np.isfinite(self.costs.costs_at(rows, self.sits[rows]))
        return out

    # ---- the best placement ----

    def find_best_placement(
        self, fixed: Bools, *, orphans_first: bool = False
    ) -> tuple[Solution, Floats]:
        """The cheapest placement in which `fixed` lanes stay where they sit, and the room that it
        uses (events/s per node): the settled limit, or the hard one if lanes would have to wait. If
        even that is too little, lanes keep their node unless others matter more. `orphans_first`:
        lanes that have a node take no room from orphans."""
        settled = self.limits.room_eps(self.use)
        # A lane that alone is more than its node is to be left with: the others leave it.
        here = self.sits >= 0
        here[here] = self.load[here] <= self.limits.hard[self.sits[here]]
        np.maximum.at(settled, self.sits[here], self.load[here])
        hard = np.maximum(settled, self.limits.hard)
        if not self.nodes:
            return Solution(self.sits, np.zeros(0), 0.0, 0.0), hard
        # A lane that is being released without a target is soon an orphan, and must not take room
        # from those that are orphans now.
        light = (self.owner >= 0) & ~fixed if orphans_first else self.flying & (self.sits < 0)
        found = self._solve_placement(fixed, settled, light)
        if (found.node >= 0).all():
            return found, settled
        # Too little room: a lane of the highest priority must not lose its node to another, so
        # those that did are fixed and the rest is solved again. The tries are bounded.
        held, stays = fixed, self.may_stay() & ~self.may_have_to_yield()
        for _ in range(OVERFULL_TRIES):
            found = self._solve_placement(held, hard, light)
            if not (left := (found.node < 0) & stays).any():
                break
            held = held | left
        return found, hard

    def _solve_placement(self, fixed: Bools, room: Floats, light: Bools) -> Solution:
        price = np.array(
            [self.moment.memory.price_ms.get(n.id, 0.0) for n in self.nodes], dtype=np.float64
        )
        here = self.sits >= 0
        own = np.bincount(self.sits[here], self.load[here], minlength=len(self.nodes))
        leaving = self.use - own  # lanes on their way still use room where they come from
        return self.numerics.solve(
            self.costs,
            np.where(light, LEAST_EPS, self.load),
            np.maximum(0.0, room - leaving) * (1 + ROUNDING),
            owner=self.sits,
            fixed=fixed,
            rank=self.priority,
            price_ms=price,
        )

    def may_have_to_yield(self) -> Bools:
        """Which lanes may have to wait when not all fit, bool[L]: those with less than the highest
        priority. Among equals none has to yield."""
        out: Bools = self.priority < self.priority.max(initial=0)
        return out

    def find_home_for_giant(self, row: int) -> int | None:
        """The row of a node for a lane that is too heavy for every node: the cheapest of the
        largest nodes that are empty; None if there is none."""
        empty = np.flatnonzero(
            self.takes
            & (self.count == 0)
            & (self.limits.hard >= self.largest_limit_eps * (1 - ROUNDING))
        )
        if not len(empty):
            return None
        cost = self.costs.costs_at(np.full(len(empty), row, dtype=np.int32), empty.astype(np.int32))
        return int(empty[int(cost.argmin())]) if np.isfinite(cost.min()) else None

    # ---- figures ----

    def resting_ms(self, rows: Ints, nodes: Ints) -> Floats:
        """The cost in ms of each lane at the node beside it once it is there, float64: all terms
        except those of the hand-over. Also for nodes where the lane may not be."""
        w, lanes = self.frame.weights, self.problem.lanes
        cost = self.costs.costs_at(rows, nodes).astype(np.float64)
        if len(barred := np.flatnonzero(~np.isfinite(cost))):
            cost[barred] = self._costs_anywhere().costs_at(rows[barred], nodes[barred])
        own, warm = lanes.owner[rows] == nodes, lanes.warm[rows] == nodes
        out: Floats = cost - np.where(own, 0.0, w.move_ms + np.where(warm, 0.0, w.miss_ms))
        return out

    def _costs_anywhere(self) -> Costs:
        """The costs as if every lane could be at every node."""
        p, anywhere = self.problem, np.ones(len(self.nodes), dtype=bool)
        nodes = p.nodes._replace(takes=anywhere, keeps=anywhere)
        return self.numerics.costs(p._replace(nodes=nodes, allowed=np.ones_like(p.allowed)))

    def measure_placement(self, at: Ints) -> PlacementCost:
        """The placement `at` (row of a node per lane, -1: none) in numbers."""
        rows = np.flatnonzero(at >= 0).astype(np.int32)
        resting = self.resting_ms(rows, at[rows])
        load = self.load[rows]
        cost = float((load * resting).sum())  # not by BLAS, whose last digits depend on the CPU
        use = np.bincount(at[rows], weights=self.load[rows], minlength=len(self.nodes))
        capacity = np.array([n.capacity_eps for n in self.nodes], dtype=np.float64)
        busy = use[capacity > 0] / capacity[capacity > 0]
        mean = cost / float(load.sum()) if len(rows) else 0.0
        return PlacementCost(round(cost, 3), round(mean, 6), round(float(busy.max(initial=0.0)), 6))
