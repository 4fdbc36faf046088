"""The planner's constraint (docs/planning.md): the load of each lane, and what each node may be
given.

A node has three limits, in events/s:

    hard     target_utilisation of its capacity; an even share if the whole fleet is fuller
    settled  what it is given when there is a choice: gradually more after it came, and never so
             much that it would be relieved at once
    hot      above this it is relieved; below it may keep what it has

There is no choice for lanes whose data is at a broker, as far as the nodes near that broker have
room: they are to be filled before distant ones (`share_near_brokers`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.core.model.plan import DataBroker, Lane, Node
from agents.settings.calm import Calm
from kernels.tables import Bools, Floats, Ints

FLOOR_SHARE = 0.5
BEGUN_SHARE = 0.1
LEAST_EPS = 1e-6
ALIKE_MS = 5.0  # nodes whose round trips differ by no more are equally near
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits in events/s per node, float64[N]. `mean`: the fleet's mean utilisation, a share of
    capacity."""

    hard: Floats
    settled: Floats
    hot: Floats
    mean: float

    def room_eps(self, use: Floats) -> Floats:
        """What each node may hold when it holds `use` now: a node that is not hot may keep it."""
        out: Floats = np.where(
            use <= self.hot * (1 + ROUNDING), np.maximum(self.settled, use), self.settled
        )
        return out


def compute_limits(
    lanes: Sequence[Lane],
    nodes: Sequence[Node],
    load: Floats,
    calm: Calm,
    now_s: float,
    brokers: Sequence[DataBroker] = (),
) -> RateLimits:
    """The limits of each node. `load`: events/s per lane, float64[L]. `now_s`: on the clock of
    `Node.came_s`. `brokers`: those at which the lanes' data is."""
    capacity: Floats = np.array([n.capacity_eps for n in nodes], dtype=np.float64)
    carriers = find_carriers(lanes, nodes)
    carrying = float(capacity[carriers].sum())
    mean = float(load.sum()) / carrying if carrying > 0 else 0.0
    hard: Floats = capacity * max(calm.target_utilisation, min(1.0, calm.settle_to * mean))
    ramp = np.array([ramp_share(now_s - n.came_s, calm) for n in nodes], dtype=np.float64)
    room = np.where(carriers, capacity * calm.target_utilisation, 0.0)
    near = share_near_brokers(lanes, load, room, brokers)
    even = capacity * max(calm.settle_to * mean, calm.comfortable)
    settled: Floats = np.minimum(hard * ramp, np.maximum(even, calm.settle_to * near))
    even = capacity * max(calm.act_above * mean, calm.comfortable)
    hot: Floats = np.minimum(hard, np.maximum(even, calm.act_above * near))
    return RateLimits(hard, settled, hot, mean)


def share_near_brokers(
    lanes: Sequence[Lane], load: Floats, room: Floats, brokers: Sequence[DataBroker]
) -> Floats:
    """The events/s of each node if the load of each broker's lanes filled the `room` of the nodes
    nearest to it, float64[N]. Nodes that are about as near share evenly."""
    given: Floats = np.zeros(len(room))
    of: Ints = np.array([-1 if x.broker is None else x.broker for x in lanes], dtype=np.int32)
    for row, broker in enumerate(brokers):
        left = float(load[of == row].sum())
        path_ms = np.array(broker.path_ms)
        order = np.argsort(path_ms, kind="stable")
        begin = 0
        while begin < len(order) and left > 0:
            end = int(np.searchsorted(path_ms[order], path_ms[order[begin]] + ALIKE_MS, "right"))
            band = order[begin:end]
            free = room[band] - given[band]
            if (total := float(free.sum())) > 0:
                given[band] += free * min(1.0, left / total)
                left -= total
            begin = end
    return given


def ramp_share(age_s: float, calm: Calm) -> float:
    """The share of its room that a node gets `age_s` after it came: linear from `ramp_from` to 1
    over `ramp_s`."""
    if calm.ramp_s <= 0 or age_s >= calm.ramp_s:
        return 1.0
    return calm.ramp_from + (1 - calm.ramp_from) * max(0.0, age_s) / calm.ramp_s


def compute_load_eps(lanes: Sequence[Lane], nodes: Sequence[Node], calm: Calm) -> Floats:
    """The load to plan with, in events/s, float64[L]: the higher of the present rate and the
    forecast. The lane map's expected rate replaces an unknown rate, and every rate while hardly
    anything arrives, as before a stream begins.

    Expected rates are a guess: together they fill at most half of what the fleet may be given, so
    that with a lane map of a faster stream no lane has to wait. The smallest load is a thousandth
    of the fleet over the number of lanes; it spreads silent lanes."""
    carrying = find_carriers(lanes, nodes)
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


def find_carriers(lanes: Sequence[Lane], nodes: Sequence[Node]) -> Bools:
    """The nodes that carry the load, bool[N]: those that take lanes, or have some and may keep
    them."""
    having = {lane.owner for lane in lanes}
    return np.array(
        [not n.empty and (n.takes or row in having) for row, n in enumerate(nodes)], dtype=bool
    )
