"""Placements by other solvers, to compare ours with: exact if lanes may be split, and simple ones
that are not exact."""

from __future__ import annotations

import time
from typing import NamedTuple

import highspy
import numpy as np
from ortools.graph.python import min_cost_flow

from kernels.tables import Candidates, Costs, Floats, Ints

WAIT_MS = 1_000.0  # an event's cost while its lane waits: more than any round trip
SCALE = 1_000_000  # load and room are in whole units, this many for a mean lane
MICRO = 1_000  # costs are in whole microseconds


class Exact(NamedTuple):
    """`cost` in ms x events/s, without waiting lanes. `waits`: share of the load that waits.
    `seconds`: what the solver took."""

    cost: float
    waits: float
    seconds: float


def all_nodes(costs: Costs) -> Candidates:
    """Every node for every lane, in the nodes' order."""
    lanes, nodes = costs.shape
    node = np.broadcast_to(np.arange(nodes, dtype=np.int32), (lanes, nodes))
    ms = [costs.at(np.full(nodes, lane, dtype=np.int32), node[lane]) for lane in range(lanes)]
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
    weight = load * lanes / load.sum()
    solver = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("time_limit", limit_s),
        ("threads", 1),
        ("mip_rel_gap", 1e-3),
    ):
        solver.setOptionValue(option, value)
    program = highspy.HighsLp()
    count = len(lane)
    program.num_col_, program.num_row_ = count, lanes + nodes
    program.col_cost_ = found.cost_ms[lane, column].astype(np.float64) * weight[lane]
    program.col_lower_, program.col_upper_ = np.zeros(count), np.ones(count)
    program.row_lower_ = np.concatenate((np.ones(lanes), np.full(nodes, -highspy.kHighsInf)))
    program.row_upper_ = np.concatenate((np.ones(lanes), room * lanes / load.sum()))
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = np.arange(0, 2 * count + 1, 2)
    program.a_matrix_.index_ = (
        np.stack((lane, lanes + found.node[lane, column]), axis=1).ravel().astype(np.int32)
    )
    program.a_matrix_.value_ = np.stack((np.ones(count), weight[lane]), axis=1).ravel()
    if whole:
        program.integrality_ = [highspy.HighsVarType.kInteger] * count
    solver.passModel(program)
    start = time.perf_counter()
    solver.run()
    seconds = time.perf_counter() - start
    objective = solver.getInfo().objective_function_value
    return Exact(
        objective * float(load.sum()) / lanes if objective < 1e29 else float("inf"), 0.0, seconds
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
