"""Which node works which lane: the lowest sum of load x cost within the room of every node, and a
proof of how low it could be.

1. Each lane lists the nodes to consider: all of them in a small fleet, otherwise the cheapest with
   last tick's prices added. The list grows with the new prices until no lane would gain by a node
   that it does not list. (The cheapest nodes without prices are the wrong list: they are full.)
2. simplex.py finds the best placement that may split lanes, and the exact prices.
3. integral.py turns it into one that splits none; search.py fits in the lanes that wait and
   improves on it. While a small fleet's bound is far below, steps 2 and 3 are repeated with costs
   that differ a little at random, and the cheapest placement is kept.
4. A second placement keeps every lane where it is as far as it can (step 3 then has a price on each
   move). It is preferred unless the first is cheaper by `STAY_SHARE`; while the bound is near, the
   first is not even tried.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.placement.candidates import (
    STILL_MS,
    TIE_MS,
    Lists,
    extend_lists,
    make_lists,
    priced_ms,
)
from kernels.placement.integral import (
    FEW,
    TURNS,
    cost_of_tree,
    fit_and_improve,
    make_tree,
    optimize_tree,
    round_off,
)
from kernels.placement.search import even_out_load
from kernels.placement.simplex import Tree
from kernels.tables import Bools, Candidates, Costs, Floats, Ints, Solution, check_price

WAIT_MS = 10_000.0
"""The cost of an event, in the objective and in the bound, while its lane waits. Each rank adds as
much again."""
FITS = 1 + 1e-9  # so that sums in another order also fit
SINGLE = 1 - 1e-6  # costs are float32, so what is proven from them is lowered by this much
SMALL = 100_000  # lanes x nodes up to which every node is listed
WIDTH, MORE = 12, 8  # nodes on a list at first, and how many are added at a time
WIDENINGS = 8
ENOUGH = 3e-4  # share of the cost that longer lists must promise to save
FIRST_MS, LAST_MS = 12.5, 0.02  # the smallest gain that the simplex follows, at first and at last
LEAST = 1e-7  # share of the cost that a step of the search must save
STAY_SHARE = 5e-4
# Share of a large fleet's cost: within this of the bound, a placement that keeps lanes is not
# compared with one that changes more.
SURE = 2.5e-3
ALIKE = 1e-2  # waiting loads that differ by less than this share count as equal
# the same for a small fleet, whose costs are not varied either
CLOSE = 1e-3
VARIED = 20_000  # lanes x nodes up to which costs are varied
VARIATIONS = 8
# Each cost varies by up to this many times the gap between cost and bound (spread over all events),
# and by up to this many ms.
VARY_GAPS, VARY_MOST_MS = 3.0, 50.0


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

    `load_eps` float64[L] > 0, `room_eps` float64[N] >= 0, in events/s. `owner` int32[L]: row of the
    node that has the lane, -1 for none. `fixed` bool[L]: the lane stays with its owner (or without
    one), even beyond the room. `rank` int32[L]: if not all lanes fit, those of lower rank wait.
    `price_ms` float64[N]: prices of the previous solution, to start from. The same input gives the
    same output.

    Raises ValueError for a price that is negative or not finite."""
    lanes, nodes = costs.shape
    guess = (
        np.zeros(nodes) if price_ms is None else np.ascontiguousarray(price_ms, dtype=np.float64)
    )
    check_price(guess, nodes)
    held = np.zeros(lanes, dtype=bool) if fixed is None else fixed
    # fixed lanes first: they take their room whatever the others do
    place = np.where(held, owner, -1).astype(np.int32)
    here = np.flatnonzero(place >= 0).astype(np.int32)
    used = np.bincount(place[here], load_eps[here], minlength=nodes)
    there = costs.costs_at(here, place[here]).astype(np.float64)
    objective = _sum_products(load_eps[here], np.where(np.isfinite(there), there, WAIT_MS))
    rows = np.flatnonzero(~held).astype(np.int32)
    objective += WAIT_MS * float(load_eps[held & (place < 0)].sum())
    bound, price = objective, np.zeros(nodes)
    if len(rows) and nodes:
        ranks = (
            np.zeros(len(rows), dtype=np.int32)
            if rank is None
            else np.unique(rank[rows], return_inverse=True)[1]
        )
        load = np.ascontiguousarray(load_eps[rows], dtype=np.float64)
        part = _Part(
            costs,
            rows,
            load,
            np.maximum(room_eps - used, 0.0) * FITS,
            np.ascontiguousarray(room_eps, dtype=np.float64),
            owner[rows].astype(np.int32),
            ranks.astype(np.int32),
            np.minimum(STILL_MS, TIE_MS * load.max() / load),
            (1 + ranks.astype(np.float64)) * WAIT_MS,
        )
        lists, tree, below = _solve_relaxed(part, guess)
        price = np.maximum(tree.price, 0.0)
        found = _choose_placement(part, lists, tree, price, below)
        place[rows] = found
        bound += below
        objective += _placement_cost(part, found)
    return Solution(place, price, objective, min(bound, objective))


class _Part(NamedTuple):
    """The lanes that may move, R of them: `rows` of all lanes. `room`: the room left to them.
    `whole_room`: what the nodes may hold in total."""

    costs: Costs
    rows: Ints
    load: Floats
    room: Floats
    whole_room: Floats
    owner: Ints
    rank: Ints
    loyal_ms: Floats
    wait_ms: Floats


def _solve_relaxed(part: _Part, guess: Floats) -> tuple[Lists, Tree, float]:
    """The best placement that may split lanes, as a tree, on lists that are wide enough; and the
    bound that it proves."""
    nodes = len(part.room)
    every = len(part.rows) * nodes <= SMALL
    width = nodes if every else min(nodes, WIDTH)
    lists = _make_lists(part, part.costs.find_candidates(width, guess, part.rows))
    tree = make_tree(lists, part.room, guess)
    for n in range(WIDENINGS + 1):
        optimize_tree(lists, tree, FIRST_MS, LAST_MS)
        price = np.maximum(tree.price, 0.0)
        # at least two: with one, the own node would replace the cheapest
        found = part.costs.find_candidates(min(nodes, 2 if every else MORE), price, part.rows)
        priced = priced_ms(found.node, found.cost_ms, price)
        # the bound at these prices, and what longer lists could still save
        lowest = np.minimum(part.wait_ms, priced.min(axis=1) * SINGLE)
        bound = _sum_products(part.load, lowest) - _sum_products(part.room, price)
        priced -= np.where(found.node == part.owner[:, None], part.loyal_ms[:, None], 0.0)
        promise = (
            cost_of_tree(lists, tree)
            - _sum_products(part.load, np.minimum(part.wait_ms, priced.min(axis=1)))
            + _sum_products(part.room, price)
        )
        if every or n == WIDENINGS or promise <= ENOUGH * abs(bound):
            break
        lists = extend_lists(lists, found, part.room, part.owner, part.loyal_ms)
    return lists, tree, bound


def _choose_placement(part: _Part, lists: Lists, tree: Tree, price: Floats, bound: float) -> Ints:
    """The placement that keeps lanes where it can, or the one that changes all that is worth a
    move."""
    least = LEAST * abs(cost_of_tree(lists, tree))

    def change_freely() -> Ints:
        return _round_to_cheapest(part, lists, tree, price, bound, least)

    # without owners there is nothing to keep
    if not (part.owner >= 0).any():
        return change_freely()
    nobody = len(part.room)
    kept = make_tree(
        lists, part.room, price, np.where(part.owner >= 0, part.owner, nobody).astype(np.int32)
    )
    old = np.where(kept.home == part.owner, part.owner, -1).astype(np.int32)
    new = None
    # many lanes cannot stay: take the other placement if it places many of them
    if (old < 0).sum() > FEW:
        new = change_freely()
        if ((old < 0) & (new >= 0)).sum() > FEW:
            return new
    old = _finish_placement(part, lists, price, old, least, equals=False)
    # near enough to the bound: the other cannot be clearly cheaper
    if _placement_cost(part, old) - bound <= (CLOSE if lists.node.size <= SMALL else SURE) * abs(
        bound
    ):
        return old
    new = change_freely() if new is None else new
    return new if _is_change_worth_it(part, new, old) else old


def _round_to_cheapest(
    part: _Part, lists: Lists, tree: Tree, price: Floats, bound: float, least: float
) -> Ints:
    """The split placement `tree`, rounded off to whole lanes. While a small fleet's bound is far
    below: the cheapest of several, each made with costs that differ at random. Changes `tree`."""
    best = _finish_placement(part, lists, price, round_off(lists, tree, LAST_MS), least)
    cost = _placement_cost(part, best)
    # (RandomState gives the same numbers in every version of NumPy)
    random = np.random.RandomState(0)
    for _ in range(VARIATIONS if lists.node.size <= VARIED else 0):
        if cost - bound <= CLOSE * abs(bound):
            break
        by_ms = min(VARY_GAPS * (cost - bound) / float(part.load.sum()), VARY_MOST_MS)
        varied = lists._replace(
            cost_ms=(lists.cost_ms + by_ms * random.random_sample(lists.node.shape)).astype(
                np.float32
            )
        )
        other = make_tree(varied, part.room, price)
        optimize_tree(varied, other, FIRST_MS, LAST_MS)
        place = _finish_placement(part, lists, price, round_off(varied, other, LAST_MS), least)
        if (cost_there := _placement_cost(part, place)) < cost:
            best, cost = place, cost_there
    return best


def _is_change_worth_it(part: _Part, new: Ints, old: Ints) -> bool:
    """Whether clearly less load waits or, if that is equal, the placed load costs clearly less per
    event."""
    waits = [float((part.load * part.wait_ms)[place < 0].sum()) for place in (new, old)]
    if abs(waits[0] - waits[1]) > ALIKE * waits[1]:
        return waits[0] < waits[1]
    each = [
        (_placement_cost(part, place) - wait) / max(float(part.load[place >= 0].sum()), 1e-300)
        for place, wait in zip((new, old), waits, strict=True)
    ]
    return each[0] < each[1] - STAY_SHARE * abs(each[1])


def _finish_placement(
    part: _Part, lists: Lists, price: Floats, place: Ints, least: float, *, equals: bool = True
) -> Ints:
    """Fits in the lanes that wait, and searches for a cheaper placement. Changes `place`, and
    returns it."""
    nodes = len(part.room)
    # in a small fleet, lanes that still wait are tried once more: the search may have made room
    for once_more in (False, True):
        free = fit_and_improve(
            *(lists, part.room, part.rank, price, place, least),
            lambda waits: _make_lists(
                part, part.costs.find_candidates(nodes, None, part.rows[waits]), waits
            ),
            equals=equals or once_more,
        )
        if lists.node.size > SMALL or (place >= 0).all():
            break
    even_out_load(lists, free, place, part.owner, part.whole_room, TIE_MS, TURNS)
    return place


def _make_lists(part: _Part, found: Candidates, which: Ints | None = None) -> Lists:
    i = slice(None) if which is None else which
    return make_lists(
        found, part.load[i], part.room, part.owner[i], part.loyal_ms[i], part.wait_ms[i]
    )


def _placement_cost(part: _Part, place: Ints) -> float:
    """A placement's cost, in ms x events/s."""
    at = np.flatnonzero(place >= 0).astype(np.int32)
    ms = part.wait_ms.copy()
    ms[at] = part.costs.costs_at(part.rows[at], place[at])
    return _sum_products(part.load, ms)


def _sum_products(a: Floats, b: Floats) -> float:
    """Sum of products. (BLAS gives other last digits on other processors.)"""
    return float((a * b).sum())
