"""Decisions for the journal: made up, small, each another; and those of a fleet whose load goes
round with the day, by the real planner."""

from __future__ import annotations

import math
from collections.abc import Iterator

from agents.core.model.plan import (
    Decided,
    Lane,
    Memory,
    Moment,
    Node,
    NodePlace,
    Optimum,
    PlacementCost,
    Plan,
    PlannedMove,
    PlanningFrame,
)
from agents.core.planning.replay import DecisionReplay
from agents.geodata import read_rtt
from agents.settings.calm import Calm
from kernels import reference
from kernels.placement.assign import solve
from kernels.tables import Numerics, Weights, no_rtt_table

NUMPY = Numerics("numpy", "the tests' choice", reference.compute_matrix_costs, solve)

FRAME = PlanningFrame(
    (39.0, 41.9),
    (-77.5, -87.6),
    (-1, -1),
    (NodePlace("node-iad-1", 39.0, -77.5), NodePlace("node-ord-1", 41.9, -87.6)),
    (),
    no_rtt_table(1.0, 0.01),
    Calm(),
    Weights(),
)


def decided(n: int, frame: PlanningFrame | None = None) -> Decided:
    """Number `n` of a series; its plan moves lane `n`."""
    moment = Moment(
        float(n),
        (Lane(0, n + 0.5, owner=0), Lane(1, None)),
        (Node("node-iad-1", 9.0), Node("node-ord-1", 9.0)),
    )
    figures = PlacementCost(1.0, 1.0, 0.5)
    plan = Plan(
        (),
        (PlannedMove(n, 0, 1, -3.5, "nearer"),),
        (1,),
        (),
        (),
        figures,
        figures,
        Optimum(1.0, 1.0, 0.0, 1),
        (n + 0.5, 1.0),
        (9.0, 9.0),
        (0.0, 0.0),
        Memory(at_s=float(n)),
    )
    return Decided(frame, moment, plan, "improve", "test")


def world(lanes: int = 24, nodes: int = 5) -> PlanningFrame:
    """Lanes all over North America, a node in each of the first regions of the RTT table."""
    rtt = read_rtt()
    places = tuple(
        NodePlace(f"node-{rtt.regions[n]}-1", float(rtt.lat[n]), float(rtt.lon[n]), n)
        for n in range(nodes)
    )
    lat = tuple(28.0 + (7 * i) % 19 for i in range(lanes))
    lon = tuple(-122.0 + (11 * i) % 48 for i in range(lanes))
    return PlanningFrame(lat, lon, (-1,) * lanes, places, (), rtt, Calm(), Weights())


def day(frame: PlanningFrame, ticks: int = 120, every_s: float = 5.0) -> Iterator[Decided]:
    """A wave of load that crosses the map, a node that dies for a while, and what the planner does
    about it."""
    follower = DecisionReplay(frame, NUMPY, frame.calm.in_flight)
    for t in range(ticks):
        load = [60 + 55 * math.sin(2 * math.pi * (t / ticks - lon / 60)) for lon in frame.lon]
        dead = 2 if ticks // 3 <= t < ticks // 2 else -1
        came_s = ticks // 2 * every_s if t >= ticks // 2 else -math.inf
        moment = Moment(
            t * every_s,
            tuple(Lane(i, load[i], forecast_eps=load[i] * 1.02) for i in range(len(load))),
            tuple(
                Node(n.id, 600.0, takes=i != dead, came_s=came_s if i == 2 else -math.inf)
                for i, n in enumerate(frame.nodes)
            ),
        )
        seen, plan = follower.replay_moment(moment)
        yield Decided(frame if t == 0 else None, seen, plan, "improve", NUMPY.name)
