"""Placements by other solvers, to compare ours with: exact if lanes may be split, and simple ones
that are not exact."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, TypeAlias

import highspy
import numpy as np
import numpy.typing as npt
from ortools.graph.python import min_cost_flow

from kernels.tables import Candidates, Costs, Floats, Ints

WAIT_MS = 1_000.0  # an event's cost while its lane waits: more than any round trip
SCALE = 1_000_000  # load and room are in whole units, this many for a mean lane
MICRO = 1_000  # costs are in whole microseconds


Rows: TypeAlias = list[tuple[npt.NDArray[np.integer[Any]], Floats]]
"""For each variable of a program, a constraint and the variable's factor there."""


class Exact(NamedTuple):
    """`cost` in ms x events/s, without waiting lanes. `waits`: share of the load that waits.
    `seconds`: what the solver took. `bound`: no solution can be below it (-inf if not proven)."""

    cost: float
    waits: float
    seconds: float
    bound: float = float("-inf")


def all_nodes(costs: Costs) -> Candidates:
    """Every node for every lane, in the nodes' order."""
    lanes, nodes = costs.shape
    node = np.broadcast_to(np.arange(nodes, dtype=np.int32), (lanes, nodes))
    ms = [costs.costs_at(np.full(nodes, lane, dtype=np.int32), node[lane]) for lane in range(lanes)]
    return Candidates(node, np.array(ms))


def flow(found: Candidates, load: Floats, room: Floats) -> Exact:
    """The exact optimum if lanes may be split but only among their candidates: min-cost flow by
    OR-tools."""
    lanes, nodes = len(load), len(room)
    unit = SCALE * lanes / load.sum()
    weight, space = (
        np.maximum(1, np.round(load * unit)).astype(np.int64),
        np.floor(room * unit).astype(np.int64),
    )
    lane, column = np.nonzero(found.node >= 0)
    ms = np.round(found.cost_ms[lane, column].astype(np.float64) * MICRO).astype(np.int64)
    sink = lanes + nodes
    solver = min_cost_flow.SimpleMinCostFlow()
    add = solver.add_arcs_with_capacity_and_unit_cost
    add(lane, lanes + found.node[lane, column].astype(np.int64), weight[lane], ms)
    add(np.arange(lanes), np.full(lanes, sink), weight, np.full(lanes, int(WAIT_MS * MICRO)))
    add(np.arange(lanes, sink), np.full(nodes, sink), space, np.zeros(nodes, dtype=np.int64))
    solver.set_nodes_supplies(
        np.arange(sink + 1), np.concatenate((weight, np.zeros(nodes, np.int64), [-weight.sum()]))
    )
    start = time.perf_counter()
    if solver.solve() != solver.OPTIMAL:
        raise RuntimeError("OR-tools found no optimum")
    seconds = time.perf_counter() - start
    waits = int(solver.flows(np.arange(len(lane), len(lane) + lanes)).sum())
    cost = solver.optimal_cost() / MICRO - waits * WAIT_MS
    return Exact(cost / unit, waits / float(weight.sum()), seconds)


def highs(found: Candidates, load: Floats, room: Floats, *, whole: bool, limit_s: float) -> Exact:
    """The same by HiGHS, as a linear program; or with `whole` lanes, as far as it gets within the
    limit."""
    lanes, nodes = len(load), len(room)
    lane, column = np.nonzero(found.node >= 0)
    mean = float(load.sum()) / lanes
    cost = found.cost_ms[lane, column].astype(np.float64) * load[lane] / mean
    rows: Rows = [(lane, np.ones(len(lane))), (lanes + found.node[lane, column], load[lane] / mean)]
    least = np.concatenate((np.ones(lanes), np.full(nodes, -highspy.kHighsInf)))
    most = np.concatenate((np.ones(lanes), room / mean))
    best = _program(cost, rows, least, most, whole, limit_s)
    return best._replace(cost=best.cost * mean, bound=best.bound * mean)


def fewest_moves(
    found: Candidates, load: Floats, room: Floats, place: Ints, most_cost: float, limit_s: float
) -> Exact:
    """By HiGHS, within the limit: how many lanes must leave `place` int32[L] for whole lanes to
    cost at most `most_cost` (ms x events/s). The result's `cost` and `bound` are numbers of
    lanes."""
    lanes, nodes = len(load), len(room)
    lane, column = np.nonzero(found.node >= 0)
    node, mean = found.node[lane, column], float(load.sum()) / lanes
    ms = found.cost_ms[lane, column].astype(np.float64)
    rows: Rows = [
        (lane, np.ones(len(lane))),
        (lanes + node, load[lane] / mean),
        (np.full(len(lane), lanes + nodes), ms * load[lane] / most_cost),
    ]
    least = np.concatenate((np.ones(lanes), np.full(nodes + 1, -highspy.kHighsInf)))
    most = np.concatenate((np.ones(lanes), room / mean, [1.0]))
    moves = (node != place[lane]).astype(np.float64)
    return _program(moves, rows, least, most, True, limit_s)


def _program(
    cost: Floats,
    rows: Rows,
    least: Floats,
    most: Floats,
    whole: bool,
    limit_s: float,
) -> Exact:
    """The lowest sum of `cost` over variables from 0 to 1, or `whole`. `least` and `most`: of each
    constraint's sum."""
    solver = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("time_limit", limit_s),
        ("threads", 1),
        ("mip_rel_gap", 1e-3),
    ):
        solver.setOptionValue(option, value)
    program = highspy.HighsLp()
    count = len(cost)
    program.num_col_, program.num_row_ = count, len(least)
    program.col_cost_ = cost
    program.col_lower_, program.col_upper_ = np.zeros(count), np.ones(count)
    program.row_lower_, program.row_upper_ = least, most
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = np.arange(0, len(rows) * count + 1, len(rows))
    program.a_matrix_.index_ = np.stack([row for row, _ in rows], axis=1).ravel().astype(np.int32)
    program.a_matrix_.value_ = np.stack([factor for _, factor in rows], axis=1).ravel()
    if whole:
        program.integrality_ = [highspy.HighsVarType.kInteger] * count
    solver.passModel(program)
    start = time.perf_counter()
    solver.run()
    seconds = time.perf_counter() - start
    info = solver.getInfo()
    objective = info.objective_function_value
    return Exact(
        objective if objective < 1e29 else float("inf"),
        0.0,
        seconds,
        info.mip_dual_bound if whole else objective,
    )


def greedy(found: Candidates, load: Floats, room: Floats) -> Exact:
    """Places lane after lane, the heaviest first, at its cheapest candidate with room."""
    start = time.perf_counter()
    free, cost, waits = room.copy(), 0.0, 0.0
    order = np.argsort(found.cost_ms, axis=1, kind="stable")
    for lane in np.argsort(-load, kind="stable"):
        nodes: Ints = found.node[lane, order[lane]]
        fits = np.flatnonzero((nodes >= 0) & (free[nodes] >= load[lane]))
        if len(fits):
            free[nodes[fits[0]]] -= load[lane]
            cost += float(load[lane] * found.cost_ms[lane, order[lane, fits[0]]])
        else:
            waits += float(load[lane])
    return Exact(cost, waits / float(load.sum()), time.perf_counter() - start)
