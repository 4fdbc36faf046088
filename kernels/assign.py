"""Who works which lane: the lowest sum of load x cost within the room of every node, and a proof of how low it could be."""

from __future__ import annotations

import numpy as np

from kernels.auction import auction
from kernels.search import fit_in, improve
from kernels.tables import Bools, Candidates, Costs, Floats, Ints, Singles, Solution, check_price

WAIT_MS = 10_000.0  # what a lane that waits counts as costing, in the objective and in the bound
TIE_MS = 0.01  # what differs by less is the same
FITS = 1 + 1e-9  # sums in another order fit too
SMALL = 20_000  # lanes x nodes up to which every node is a candidate
WIDTH = 12


def solve(
    costs: Costs,
    load_eps: Floats,
    room_eps: Floats,
    *,
    owner: Ints,
    fixed: Bools | None = None,
    rank: Ints | None = None,
    price_ms: Floats | None = None,
) -> Solution:
    """Places every lane that fits. See `kernels.tables.Solve`."""
    lanes, nodes = costs.shape
    held = np.zeros(lanes, dtype=bool) if fixed is None else fixed
    price = np.zeros(nodes) if price_ms is None else np.ascontiguousarray(price_ms, dtype=np.float64).copy()
    check_price(price, nodes)
    place = np.where(held, owner, -1).astype(np.int32)
    stays = held & (owner >= 0)
    room = np.maximum(room_eps - np.bincount(owner[stays], load_eps[stays], minlength=nodes), 0.0) * (
        1 + 1e-9
    )  # sums in another order must fit too
    rows = np.flatnonzero(~held).astype(np.int32)
    if len(rows) and nodes:
        own = owner[rows].astype(np.int32)
        load = np.ascontiguousarray(load_eps[rows])
        order = np.zeros(len(rows), dtype=np.int32) if rank is None else rank[rows].astype(np.int32)
        width = nodes if len(rows) * nodes <= SMALL else min(nodes, WIDTH)
        node, cost = _lists(costs.candidates(width, price, rows), own)
        limit = np.full(len(rows), 1000.0)
        where = own.copy() if price_ms is not None else np.full(len(rows), -1, dtype=np.int32)
        auction(node, cost, load, room, price, where, limit, 1.0, 0.03, 60 * len(rows))
        if width < nodes:
            node, cost = _merged(node, cost, *_lists(costs.candidates(2 * width, price, rows), own))
            auction(node, cost, load, room, price, where, limit, 0.3, 0.01, 60 * len(rows))
        free = room - np.bincount(where[where >= 0], load[where >= 0], minlength=nodes)
        for _ in range(20):
            waits = np.flatnonzero(where < 0).astype(np.int32)
            waits = waits[np.lexsort((-load[waits], -order[waits]))]
            wide = _lists(costs.candidates(nodes, None, rows[waits]), own[waits])
            if not len(waits) or not fit_in(waits, *wide, node, cost, load, free, where, order):
                break
        improve(node, cost, load, free, where, 20)
        place[rows] = where
    return Solution(
        place, price, _objective(costs, load_eps, place), _bound(costs, load_eps, room, price, rows, stays, owner)
    )


def _lists(found: Candidates, own: Ints) -> tuple[Ints, Singles]:
    """Candidates as the auction wants them, a lane's own node cheaper by a tie."""
    cost = found.cost_ms - np.where(found.node == own[:, None], np.float32(TIE_MS), np.float32(0))
    return np.ascontiguousarray(found.node), np.ascontiguousarray(cost, dtype=np.float32)


def _merged(node: Ints, cost: Singles, more_node: Ints, more_cost: Singles) -> tuple[Ints, Singles]:
    """Two lists in one, nothing twice."""
    both, ms = np.hstack((node, more_node)), np.hstack((cost, more_cost))
    order = np.argsort(both, axis=1, kind="stable")
    both, ms = np.take_along_axis(both, order, axis=1), np.take_along_axis(ms, order, axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = -1
    ms[both < 0] = np.inf
    order = np.argsort(ms, axis=1, kind="stable")
    both, ms = np.take_along_axis(both, order, axis=1), np.take_along_axis(ms, order, axis=1)
    width = int((both >= 0).sum(axis=1).max())
    return np.ascontiguousarray(both[:, :width]), np.ascontiguousarray(ms[:, :width])


def _objective(costs: Costs, load: Floats, place: Ints) -> float:
    """Sum of load x cost; a lane that waits, or stays where it may not be, counts as `WAIT_MS`."""
    placed = np.flatnonzero(place >= 0).astype(np.int32)
    ms = np.full(len(load), WAIT_MS)
    ms[placed] = costs.at(placed, place[placed])
    return float(load @ np.where(np.isfinite(ms), ms, WAIT_MS))


def _bound(costs: Costs, load: Floats, room: Floats, price: Floats, rows: Ints, stays: Bools, owner: Ints) -> float:
    """What no placement goes below: each free lane where cost and price are lowest, less what the room is worth."""
    ms = np.full(len(load), WAIT_MS)
    if len(rows) and len(room):
        found = costs.candidates(min(2, costs.shape[1]), price, rows)  # two: the own node may take the last place
        priced = found.cost_ms.astype(np.float64) + price[found.node]
        ms[rows] = np.minimum(ms[rows], priced.min(axis=1)) * (1 - 1e-6)
    held = np.flatnonzero(stays).astype(np.int32)
    there = costs.at(held, owner[held].astype(np.int32)).astype(np.float64)
    ms[held] = np.where(np.isfinite(there), there, WAIT_MS)
    return float(load @ ms - price @ room)
