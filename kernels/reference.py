"""Costs in NumPy, the whole lanes x nodes matrix at once in float64: plain, exact, and the oracle
for everything faster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.geo import haversine_km_matrix
from kernels.tables import (
    Bools,
    Candidates,
    Floats,
    Ints,
    Problem,
    Singles,
    Terms,
    check_price,
    check_problem,
)


def compute_terms(problem: Problem, rows: Ints | None = None) -> Terms:
    """The cost of each lane (or each of `rows`) at each node, term by term, in ms; filters are not
    applied.

    Raises ValueError naming the value that is not finite or out of range."""
    check_problem(problem)
    lanes, nodes, weights = problem.lanes, problem.nodes, problem.weights
    chosen = np.arange(len(lanes.lat), dtype=np.int32) if rows is None else rows
    column = np.arange(len(nodes.lat))[None, :]
    own = lanes.owner[chosen][:, None] == column
    warm = own | (lanes.warm[chosen][:, None] == column)
    rtt = _compute_rtt_ms(problem, chosen)
    traffic: Floats = rtt * (lanes.traffic[chosen][:, None] - 1.0)
    miss: Floats = np.where(warm, 0.0, weights.miss_ms)
    move: Floats = np.where(own, 0.0, weights.move_ms)
    egress: Floats = np.broadcast_to(nodes.egress_ms, rtt.shape).copy()
    degraded: Floats = np.broadcast_to(nodes.degraded_ms, rtt.shape).copy()
    return Terms(
        rtt, traffic, miss, egress, degraded, move, rtt + traffic + miss + egress + degraded + move
    )


def compute_feasible_pairs(problem: Problem, rows: Ints | None = None) -> Bools:
    """Whether each lane (or each of `rows`) may be at each node, bool[R, N]: the filters of
    `Problem`."""
    lanes, nodes = problem.lanes, problem.nodes
    chosen = np.arange(len(lanes.lat), dtype=np.int32) if rows is None else rows
    own = lanes.owner[chosen][:, None] == np.arange(len(nodes.lat))[None, :]
    out: Bools = np.where(own, nodes.keeps[None, :], nodes.takes[None, :])
    rule = lanes.rule[chosen]
    bound = rule >= 0
    out[bound] &= problem.allowed[rule[bound]]
    return out


def compute_matrix_costs(problem: Problem) -> MatrixCosts:
    """The costs of all pairs, summed in float64 and rounded once. Raises ValueError as
    `compute_terms` does."""
    total_ms = compute_terms(problem).total_ms
    return MatrixCosts(
        np.where(compute_feasible_pairs(problem), total_ms, np.inf).astype(np.float32),
        problem.lanes.owner,
    )


@dataclass(frozen=True, slots=True)
class MatrixCosts:
    """Costs that are already computed (see kernels.Costs). `cost`: float32[L, N] in ms, infinite
    where a lane may not be. `own`: row of the node that has the lane, -1 for none, int32[L]."""

    cost: Singles
    own: Ints

    @property
    def shape(self) -> tuple[int, int]:
        lanes, nodes = self.cost.shape
        return lanes, nodes

    def find_candidates(
        self, k: int, price_ms: Floats | None = None, rows: Ints | None = None
    ) -> Candidates:
        """See kernels.Costs. Raises ValueError for k < 1 and for a price that is negative or not
        finite."""
        if k < 1:
            raise ValueError(f"k is {k}: at least one candidate is needed")
        count = self.shape[1]
        if price_ms is not None:
            check_price(price_ms, count)
        cost, own = (self.cost, self.own) if rows is None else (self.cost[rows], self.own[rows])
        key = cost if price_ms is None else cost + price_ms
        order = np.argsort(key, axis=1, kind="stable")[:, : min(k, count)]
        if order.shape[1]:
            row = np.arange(len(order))
            stays = (own >= 0) & np.isfinite(cost[row, own])
            absent = stays & (order != own[:, None]).all(axis=1)
            order[absent, -1] = own[absent]
        out = np.take_along_axis(cost, order, axis=1)
        return Candidates(np.where(np.isfinite(out), order, -1).astype(np.int32), out)

    def costs_at(self, lane: Ints, node: Ints) -> Singles:
        """See kernels.Costs."""
        out: Singles = self.cost[lane, node]
        return out


def _compute_rtt_ms(problem: Problem, rows: Ints) -> Floats:
    """Round-trip time on an empty network, float64[R, N]; to the lane's broker and back, as often
    as an event waits for it."""
    out = _compute_origin_ms(problem, rows)
    source = problem.lanes.source[rows]
    there = source >= 0
    out[there] = problem.weights.round_trips * problem.path_ms[source[there]]
    return out


def _compute_origin_ms(problem: Problem, rows: Ints) -> Floats:
    """Round-trip time between where the lane's events arise and each node, float64[R, N]."""
    lanes, nodes, rtt = problem.lanes, problem.nodes, problem.rtt
    lat, lon = lanes.lat[rows], lanes.lon[rows]
    out: Floats = rtt.a_ms + rtt.b_ms_per_km * haversine_km_matrix(lat, lon, nodes.lat, nodes.lon)
    if not len(rtt.lat):
        return out
    to_region_km = haversine_km_matrix(lat, lon, rtt.lat, rtt.lon)
    near = to_region_km.argmin(axis=1)
    last_mile_ms = rtt.a_ms + rtt.b_ms_per_km * to_region_km[np.arange(len(rows)), near]
    site = np.maximum(nodes.site, 0)
    known = rtt.measured[near[:, None], site[None, :]] & (nodes.site >= 0)[None, :]
    return np.where(known, last_mile_ms[:, None] + rtt.rtt_ms[near[:, None], site[None, :]], out)
