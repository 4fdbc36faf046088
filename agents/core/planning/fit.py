"""What fits where: the load of each lane and node while a plan is being made. Nothing here decides who should go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.core.planning.plan import Calm, Figures, Lane, Node
from kernels import Candidates
from kernels.tables import Bools, Floats, Ints

TIE_MS = 1e-9
ROUNDING = 1e-9
FLOOR_SHARE = 0.5
LEAST_EPS = 1e-6


def load_eps(lanes: Sequence[Lane], nodes: Sequence[Node], calm: Calm) -> Floats:
    """Events/s to reckon with, float64[L]: the arrival rate, at least what the lane map expects, and never nothing.

    Expected rates are a guess: together they fill at most half of what the fleet may be given, so that a lane map made
    from a faster stream leaves nobody waiting. The last floor, a thousandth of the fleet over all lanes, spreads silent
    lanes."""
    carrying = carriers(lanes, nodes)
    usable = calm.target_utilisation * sum(n.capacity_eps for n, c in zip(nodes, carrying, strict=True) if c)
    expected = np.array([lane.expected_eps for lane in lanes], dtype=np.float64)
    if expected.sum() > FLOOR_SHARE * usable > 0:
        expected *= FLOOR_SHARE * usable / expected.sum()
    rate = np.array([lane.rate_eps or 0.0 for lane in lanes], dtype=np.float64)
    out: Floats = np.maximum(np.maximum(rate, expected), max(usable / 1000 / max(1, len(lanes)), LEAST_EPS))
    return out


def carriers(lanes: Sequence[Lane], nodes: Sequence[Node]) -> Bools:
    """Over which nodes the load is to be reckoned as spread, bool[N]: those that take lanes, or have some and may keep
    them."""
    having = {lane.owner for lane in lanes}
    return np.array([not n.empty and (n.takes or row in having) for row, n in enumerate(nodes)], dtype=bool)


class Board:
    """Who has what, and what that leaves.

    Per node, float64[N]: `load` (events/s given; a lane that is moving counts at both ends), `limit` (what it may be
    given), `settled` (what it may be given for calm's sake: never so much that it would be relieved), `hot` (above it,
    relieved)."""

    def __init__(
        self, lanes: Sequence[Lane], nodes: Sequence[Node], candidates: Candidates, calm: Calm, weight: Floats
    ) -> None:
        self.lanes, self.nodes, self.candidates, self.calm, self.weight = lanes, nodes, candidates, calm, weight
        self.owner: Ints = np.array([-1 if lane.owner is None else lane.owner for lane in lanes], dtype=np.int32)
        self.capacity: Floats = np.array([n.capacity_eps for n in nodes], dtype=np.float64)
        self.limit: Floats = calm.target_utilisation * self.capacity
        self.takes: Bools = np.array([n.takes and not n.empty and n.capacity_eps > 0 for n in nodes], dtype=bool)
        carrying = float(self.capacity[carriers(lanes, nodes)].sum())
        self.mean = float(weight.sum()) / carrying if carrying > 0 else 0.0
        self.settled: Floats = self._bound(calm.settle_to)
        self.hot: Floats = self._bound(calm.act_above) * (1 + ROUNDING)
        self.largest = float(self.limit[self.takes].max()) if self.takes.any() else 0.0
        self.load: Floats = np.zeros(len(nodes))
        self.count: Ints = np.zeros(len(nodes), dtype=np.int32)
        for row, lane in enumerate(lanes):
            if lane.owner is not None:
                self.put(row, lane.owner)
            if lane.target is not None and lane.target != lane.owner:
                self.put(row, lane.target)

    def _bound(self, times: float) -> Floats:
        bound: Floats = np.minimum(self.limit, self.capacity * max(times * self.mean, self.calm.idle_below))
        return bound

    def rank(self, row: int) -> tuple[int, float, int]:
        """The order of choosing: the more important, the heavier, the lower id first."""
        return -self.lanes[row].priority, -float(self.weight[row]), self.lanes[row].id

    def put(self, row: int, to: int) -> None:
        self.load[to] += self.weight[row]
        self.count[to] += 1

    def take(self, row: int, frm: int) -> None:
        self.load[frm] -= self.weight[row]
        self.count[frm] -= 1

    def fits(self, row: int, nodes: Ints, bound: Floats) -> Bools:
        """Which of `nodes` (rows, -1 for none) take the lane and stay within `bound`, bool of the same shape.

        A lane heavier than every node's limit (its own node's too) needs a largest node that has nothing else."""
        weight, own = float(self.weight[row]), int(self.owner[row])
        giant = weight > self.largest and (own < 0 or weight > self.limit[own])
        need = self.largest if giant else weight
        room = self.load[nodes] + need <= (self.limit if giant else bound)[nodes] * (1 + ROUNDING / 2)
        if giant:
            room &= self.count[nodes] == 0
        out: Bools = (nodes >= 0) & self.takes[nodes] & room
        return out

    def cheapest(self, row: int, bound: Floats) -> int | None:
        """The node with the lowest total that the lane fits, other than its own; among equals the less loaded, then the
        first."""
        nodes = self.candidates.node[row]
        ok = self.fits(row, nodes, bound) & (nodes != self.owner[row])
        if not ok.any():
            return None
        total = np.where(ok, self.candidates.total_ms[row], np.inf)
        ties = nodes[total <= total.min() + TIE_MS]
        return int(min(ties, key=lambda n: (self.load[n] / self.capacity[n], self.count[n], n)))

    def tightest(self, row: int) -> int | None:
        """The node that has the least room left once it has the lane; among equals the cheapest."""
        nodes = self.candidates.node[row]
        ok = self.fits(row, nodes, self.limit)
        if not ok.any():
            return None
        left = np.where(ok, self.limit[nodes] - self.load[nodes], np.inf)
        return int(nodes[int(np.argmin(left))])

    def claim(self, row: int, target: int) -> bool:
        """Turns the room kept for a lane that was moving into a place, if the node still takes it; else gives the room
        back."""
        self.take(row, target)
        if not self.fits(row, np.array([target], dtype=np.int32), self.limit)[0]:
            return False
        self.put(row, target)
        self.owner[row] = target
        return True

    def rtt_ms(self, rows: Ints, nodes: Ints) -> Floats:
        """The RTT of each lane to each node beside it, float64; NaN where the node is no candidate of the lane."""
        if not self.candidates.node.shape[1]:
            return np.full(len(rows), np.nan)
        here = self.candidates.node[rows] == nodes[:, None]
        found = here.any(axis=1)
        out: Floats = np.where(found, self.candidates.rtt_ms[rows, here.argmax(axis=1)], np.nan)
        return out

    def figures(self) -> Figures:
        """The placement as it stands on the board, moves counted as done."""
        rows = np.flatnonzero(self.owner >= 0).astype(np.int32)
        rtt = self.rtt_ms(rows, self.owner[rows])
        known = np.isfinite(rtt)
        weight = self.weight[rows][known]
        cost = float(weight @ rtt[known])
        load = np.bincount(self.owner[rows], weights=self.weight[rows], minlength=len(self.nodes))
        busy = load[self.capacity > 0] / self.capacity[self.capacity > 0]
        return Figures(cost, cost / float(weight.sum()) if known.any() else 0.0, float(busy.max(initial=0.0)))
