"""Who works which lane: the lowest sum of load x cost within the room of every node, and a proof of how low it could be.

1. Each lane lists the nodes that come into question: all of them in a small fleet; else the cheapest once last tick's prices
   are added, and again once the new prices are, until no lane would win by a node that it does not list. (The cheapest nodes
   without prices are the wrong list: they are the full ones.)
2. simplex.py finds the best placement that may split lanes, and the exact prices.
3. whole.py makes it one that splits none, search.py fits in what waits and improves on it.
4. Beside it stands the placement that keeps every lane where it is as far as it can. It is preferred unless the other is
   cheaper by `STAY_SHARE`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.search import even_out, fit_in, improve
from kernels.tables import Bools, Candidates, Costs, Floats, Ints, Singles, Solution, check_price
from kernels.whole import Lists, Tree, begin, optimum, round_off, value

WAIT_MS = (
    10_000.0  # what an event costs in the objective and in the bound while its lane waits; as much more for each rank
)
TIE_MS = 0.01  # what differs by less is the same
FITS = 1 + 1e-9  # sums in another order fit too
SMALL = 100_000  # lanes x nodes up to which every node is listed
WIDTH, MORE = 12, 8  # nodes on a list at first, and added at a time
WIDENINGS = 4
ENOUGH = 2e-4  # share of the cost by which longer lists must promise to lower it
LAST_MS = 0.02  # gains that the simplex still goes after
LEAST = 1e-7  # share of the cost that a step of the search must save
STAY_SHARE = 5e-4
MOST_WAITING = 500  # lanes that are tried to be fitted in one by one, the most important and heaviest first


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
    """Places every lane that fits; see `kernels.tables.Solve`.

    `load_eps` float64[L] > 0, `room_eps` float64[N] >= 0, in events/s. `owner` int32[L]: row of the node that has the lane,
    -1 for none. `fixed` bool[L]: stays with its owner (or with nobody), even beyond the room. `rank` int32[L]: where not
    all fit, the lower wait. `price_ms` float64[N] of the solution before, to start from. The same input gives the same
    output. Raises ValueError for a price that is not finite and from 0."""
    lanes, nodes = costs.shape
    guess = np.zeros(nodes) if price_ms is None else np.ascontiguousarray(price_ms, dtype=np.float64)
    check_price(guess, nodes)
    held = np.zeros(lanes, dtype=bool) if fixed is None else fixed
    place = np.where(held, owner, -1).astype(np.int32)
    here = np.flatnonzero(place >= 0).astype(np.int32)
    used = np.bincount(place[here], load_eps[here], minlength=nodes)
    there = costs.at(here, place[here]).astype(np.float64)
    objective = float(load_eps[here] @ np.where(np.isfinite(there), there, WAIT_MS))
    rows = np.flatnonzero(~held).astype(np.int32)
    objective += WAIT_MS * float(load_eps[held & (place < 0)].sum())
    bound, price = objective, np.zeros(nodes)
    if len(rows) and nodes:
        ranks = np.zeros(len(rows), dtype=np.int32) if rank is None else np.unique(rank[rows], return_inverse=True)[1]
        part = _Part(
            costs,
            rows,
            np.ascontiguousarray(load_eps[rows]),
            np.maximum(room_eps - used, 0.0) * FITS,
            np.ascontiguousarray(room_eps, dtype=np.float64),
            owner[rows].astype(np.int32),
            ranks.astype(np.int32),
            (1 + ranks.astype(np.float64)) * WAIT_MS,
        )
        lists, tree, below = _relaxed(part, guess)
        price = np.maximum(tree.price, 0.0)
        found = _best(part, lists, tree, price)
        place[rows] = found
        bound += below
        objective += _cost(part, found)
    return Solution(place, price, objective, min(bound, objective))


class _Part(NamedTuple):
    """The lanes that are free to move, R of them: `rows` of the whole. `room` is what is left to them, `whole_room` what
    their nodes may hold in all."""

    costs: Costs
    rows: Ints
    load: Floats
    room: Floats
    whole_room: Floats
    owner: Ints
    rank: Ints
    wait_ms: Floats


def _relaxed(part: _Part, guess: Floats) -> tuple[Lists, Tree, float]:
    """The best placement that may split lanes, as a tree, on lists that are wide enough; and the bound that it proves."""
    nodes = len(part.room)
    every = len(part.rows) * nodes <= SMALL
    width = nodes if every else min(nodes, WIDTH)
    lists = _lists(part, part.costs.candidates(width, guess, part.rows))
    tree = begin(lists, part.room, guess)
    for n in range(WIDENINGS + 1):
        optimum(lists, tree, LAST_MS)
        price = np.maximum(tree.price, 0.0)
        # two at least: with one, the own node would take the place of the cheapest
        found = part.costs.candidates(min(nodes, 2 if every else MORE), price, part.rows)
        priced = np.where(found.node >= 0, found.cost_ms + price[found.node], np.inf).min(axis=1)
        lowest = np.minimum(part.wait_ms, priced * (1 - 1e-6))  # costs come in float32
        bound = float(part.load @ lowest - part.room @ price)
        now = value(lists, tree)
        if every or n == WIDENINGS or now - bound <= ENOUGH * abs(now):
            break
        node, cost = _merged(lists, _lists(part, found))
        lists = lists._replace(node=node, cost_ms=cost)
    return lists, tree, bound


def _best(part: _Part, lists: Lists, tree: Tree, price: Floats) -> Ints:
    """The placement that changes what is worth it."""
    least = LEAST * abs(value(lists, tree))
    new = _finished(part, lists, price, round_off(lists, tree, LAST_MS), least)
    if not (part.owner >= 0).any():
        return new
    kept = begin(lists, part.room, price, part.owner)
    where = np.where(kept.home == part.owner, part.owner, -1).astype(np.int32)
    old = _finished(part, lists, price, where, least)
    cost = _cost(part, old)
    return new if _cost(part, new) < cost - STAY_SHARE * abs(cost) else old


def _finished(part: _Part, lists: Lists, price: Floats, place: Ints, least: float) -> Ints:
    """Fits in what waits, and searches for what is cheaper. Changes `place`, and returns it."""
    at = place >= 0
    free = part.room - np.bincount(place[at], part.load[at], minlength=len(part.room))
    nodes = len(free)
    for _ in range(20):
        waits = np.flatnonzero(place < 0).astype(np.int32)
        waits = waits[np.lexsort((-part.load[waits], -part.rank[waits]))][:MOST_WAITING]
        if not len(waits):
            break
        wide = _lists(part, part.costs.candidates(nodes, None, part.rows[waits]), waits)
        if not fit_in(waits, wide.node, wide.cost_ms, lists.node, lists.cost_ms, part.load, free, place, part.rank):
            break
    improve(lists.node, lists.cost_ms, part.load, price, free, place, least, 20)
    even_out(lists.node, lists.cost_ms, part.load, free, place, part.owner, part.whole_room, TIE_MS, 20)
    return place


def _lists(part: _Part, found: Candidates, which: Ints | None = None) -> Lists:
    """Candidates as lists: a lane's own node is cheaper by a tie, and nodes that could not hold the lane are left out."""
    chosen = slice(None) if which is None else which
    load, owner = part.load[chosen], part.owner[chosen]
    cost = found.cost_ms - np.where(found.node == owner[:, None], np.float32(TIE_MS), np.float32(0))
    node = np.where(load[:, None] <= part.room[found.node], found.node, -1)
    if ((node[:, :-1] < 0) & (node[:, 1:] >= 0)).any():
        order = np.argsort(node < 0, axis=1, kind="stable")
        node, cost = np.take_along_axis(node, order, axis=1), np.take_along_axis(cost, order, axis=1)
    return Lists(
        np.ascontiguousarray(node, dtype=np.int32),
        np.ascontiguousarray(cost, dtype=np.float32),
        np.ascontiguousarray(part.wait_ms[chosen]),
        load,
    )


def _merged(lists: Lists, more: Lists) -> tuple[Ints, Singles]:
    """Two lists in one, nothing twice."""
    both, ms = np.hstack((lists.node, more.node)), np.hstack((lists.cost_ms, more.cost_ms))
    order = np.argsort(both, axis=1, kind="stable")
    both, ms = np.take_along_axis(both, order, axis=1), np.take_along_axis(ms, order, axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = -1
    order = np.argsort(both < 0, axis=1, kind="stable")
    both, ms = np.take_along_axis(both, order, axis=1), np.take_along_axis(ms, order, axis=1)
    width = int((both >= 0).sum(axis=1).max(initial=1))
    return np.ascontiguousarray(both[:, :width]), np.ascontiguousarray(ms[:, :width])


def _cost(part: _Part, place: Ints) -> float:
    """What a placement costs, in ms x events/s."""
    at = np.flatnonzero(place >= 0).astype(np.int32)
    ms = part.wait_ms.copy()
    ms[at] = part.costs.at(part.rows[at], place[at])
    return float(part.load @ ms)
