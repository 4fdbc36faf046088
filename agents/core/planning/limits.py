"""The constraint (DESIGN 7): what each lane weighs, and what each node may be given. The objective
is kernels.Problem's cost, the calm rules are calm.py's.

    hard     target_utilisation of its capacity; an even share, if the whole fleet is that full
    settled  what it is given when there is a choice: ramped after it came, never so
             much that it would be relieved at once
    hot      above it, it is relieved; in between it may keep what it has"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.core.model.plan import Lane, Node
from agents.settings.calm import Calm
from kernels.tables import Bools, Floats

FLOOR_SHARE = 0.5
BEGUN_SHARE = 0.1
LEAST_EPS = 1e-6
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Events/s per node, float64[N]; `mean` is the fleet's mean utilisation, a share of
    capacity."""

    hard: Floats
    settled: Floats
    hot: Floats
    mean: float

    def room(self, use: Floats) -> Floats:
        """What each node may hold now that it holds `use`: whoever is not hot may keep what it
        has."""
        out: Floats = np.where(
            use <= self.hot * (1 + ROUNDING), np.maximum(self.settled, use), self.settled
        )
        return out


def limits(
    lanes: Sequence[Lane], nodes: Sequence[Node], load: Floats, calm: Calm, now_s: float
) -> RateLimits:
    capacity: Floats = np.array([n.capacity_eps for n in nodes], dtype=np.float64)
    carrying = float(capacity[carriers(lanes, nodes)].sum())
    mean = float(load.sum()) / carrying if carrying > 0 else 0.0
    hard: Floats = capacity * max(calm.target_utilisation, min(1.0, calm.settle_to * mean))
    ramp = np.array([ramped(now_s - n.came_s, calm) for n in nodes], dtype=np.float64)
    settled: Floats = np.minimum(
        hard * ramp, capacity * max(calm.settle_to * mean, calm.comfortable)
    )
    hot: Floats = np.minimum(hard, capacity * max(calm.act_above * mean, calm.comfortable))
    return RateLimits(hard, settled, hot, mean)


def ramped(age_s: float, calm: Calm) -> float:
    """The share of its room that a node is given `age_s` after it came: a line from `ramp_from` to
    1 over `ramp_s`."""
    if calm.ramp_s <= 0 or age_s >= calm.ramp_s:
        return 1.0
    return calm.ramp_from + (1 - calm.ramp_from) * max(0.0, age_s) / calm.ramp_s


def load_eps(lanes: Sequence[Lane], nodes: Sequence[Node], calm: Calm) -> Floats:
    """Events/s to reckon with, float64[L]: what arrives or is about to; what the lane map expects
    where that is not known, or while hardly anything arrives at all, as before a stream begins; and
    never nothing.

    Expected rates are a guess: together they fill at most half of what the fleet may be given, so
    that a lane map made from a faster stream leaves nobody waiting. The last floor, a thousandth of
    the fleet over all lanes, spreads silent lanes."""
    carrying = carriers(lanes, nodes)
    usable = calm.target_utilisation * sum(
        n.capacity_eps for n, c in zip(nodes, carrying, strict=True) if c
    )
    expected = np.array([lane.expected_eps for lane in lanes], dtype=np.float64)
    if expected.sum() > FLOOR_SHARE * usable > 0:
        expected *= FLOOR_SHARE * usable / expected.sum()
    rate = np.array(
        [max(lane.rate_eps or 0.0, lane.forecast_eps or 0.0) for lane in lanes], dtype=np.float64
    )
    unknown = np.array([lane.rate_eps is None for lane in lanes], dtype=bool)
    if rate.sum() < BEGUN_SHARE * expected.sum():
        unknown[:] = True
    out: Floats = np.maximum(
        np.where(unknown, np.maximum(rate, expected), rate),
        max(usable / 1000 / max(1, len(lanes)), LEAST_EPS),
    )
    return out


def carriers(lanes: Sequence[Lane], nodes: Sequence[Node]) -> Bools:
    """Over which nodes the load is to be reckoned as spread, bool[N]: those that take lanes, or
    have some and may keep them."""
    having = {lane.owner for lane in lanes}
    return np.array(
        [not n.empty and (n.takes or row in having) for row, n in enumerate(nodes)], dtype=bool
    )
