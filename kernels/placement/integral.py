"""Turns a placement that splits a few lanes into one that splits none. The heaviest lanes are
settled first; the lighter ones, which are many and small, fit around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.placement.candidates import Lists
from kernels.placement.search import fit_in_lanes, improve_placement
from kernels.placement.simplex import (
    Bans,
    Tree,
    empty_tree,
    no_bans,
    recompute_prices,
    run_simplex,
    set_up_tree,
)
from kernels.tables import Candidates, Floats, Ints

SPLIT_MS = 5_000.0
"""What each event costs at a node that its lane is to leave: less than waiting, more than moving
others."""
STEP = 2.0**1.5  # from round to round, the limit above which lanes are settled falls by this factor
LIGHTEST = 1e-5  # share of the heaviest lane's load below which all lanes are settled at once
LOOKS = 300_000  # pairs of lanes that the search for swaps considers
MANY = 2_000  # lanes per turn that are fitted in where others can make room
# lanes per turn that are fitted in where others must make room; fewer in a large fleet
FEW, SCANS = 500, 5_000_000
TURNS = 10  # turns of fitting in: a lane that had to make way is fitted in next
PIVOTS = 200  # limit per lane; about ten are usual


def make_tree(lists: Lists, room: Floats, guess_ms: Floats, place: Ints | None = None) -> Tree:
    """The tree of a placement to start from; see `kernels.placement.simplex.set_up_tree`."""
    lanes = len(lists.load)
    tree = empty_tree(lanes, len(room))
    where = np.full(lanes, -1, dtype=np.int32) if place is None else place
    set_up_tree(lists, room, where, guess_ms, tree)
    return tree


def optimize_tree(
    lists: Lists, tree: Tree, first_ms: float, last_ms: float, bans: Bans | None = None
) -> None:
    """Continues to the best placement that may split lanes, within `last_ms`. Gains above
    `first_ms` are made first."""
    lanes = len(lists.load)
    run_simplex(lists, bans or no_bans(lanes), first_ms, last_ms, PIVOTS * lanes, tree)


def cost_of_tree(lists: Lists, tree: Tree) -> float:
    """The placement's cost, in ms x events/s."""
    shared = tree.over >= 0
    return float(
        (tree.rest * tree.rest_ms).sum() + (tree.part[shared] * tree.part_ms[shared]).sum()
    )


def round_off(lists: Lists, tree: Tree, last_ms: float, step: float = STEP) -> Ints:
    """Settles each split lane at the node that has most of it, and lets the others make way.

    Returns the node of each lane, int32[L], -1 for lanes that wait or are still split. Changes the
    tree, including its prices."""
    lanes, nodes = len(lists.load), len(tree.over)
    bans = no_bans(lanes)
    most = heavy = float(lists.load.max(initial=0.0))
    while heavy > 0:
        heavy = heavy / step if heavy > LIGHTEST * most else 0.0
        at = np.flatnonzero(tree.over >= 0).astype(np.int32)
        if not (bans.only[tree.over[at]] < 0).any():
            break
        settled = lists.load >= heavy
        lane, node = _find_largest_parts(tree, at)
        split = settled[lane] & (bans.only[lane] < 0) & (node < nodes)
        lane, node = lane[split], node[split]
        # whole lanes of this weight are kept where they are while the split ones move
        whole = np.flatnonzero(settled & (bans.only < 0) & (tree.kid < 0) & (tree.home < nodes))
        bans.only[whole], bans.only_ms[whole] = tree.home[whole], tree.rest_ms[whole]
        if not len(lane):
            continue
        bans.only[lane] = node
        bans.only_ms[lane] = np.where(
            lists.node[lane] == node[:, None], lists.cost_ms[lane], np.float32(np.inf)
        ).min(axis=1)
        goal = np.full(lanes, -1, dtype=np.int32)
        goal[lane] = node
        # a price on the wrong parts makes the simplex itself move them
        leaves = (goal[tree.over[at]] >= 0) & (goal[tree.over[at]] != at)
        tree.part_ms[at[leaves]] += SPLIT_MS
        tree.rest_ms[lane[tree.home[lane] != node]] += SPLIT_MS
        recompute_prices(tree)
        optimize_tree(lists, tree, 5 * last_ms, last_ms, bans)
    return np.where((tree.kid >= 0) | (tree.home == nodes), -1, tree.home).astype(np.int32)


def fit_and_improve(
    lists: Lists,
    room: Floats,
    rank: Ints,
    price: Floats,
    place: Ints,
    least: float,
    wider: Callable[[Ints], Lists] | None = None,
    *,
    equals: bool = True,
) -> Floats:
    """Fits in the lanes that wait, then searches for moves that save at least `least`. Changes
    `place`. Returns the remaining room.

    `wider`: longer lists for the lanes in these rows. `equals`: whether a lane may have to wait for
    a heavier one of the same rank."""
    at = place >= 0
    free: Floats = room - np.bincount(place[at], lists.load[at], minlength=len(room))
    for _ in range(TURNS):
        waits = _find_waiting(lists, rank, place)
        easy = waits[lists.load[waits] <= 2 * free.max(initial=0.0)][
            :MANY
        ]  # at a node where one other lane can make enough room
        fitted = _fit_waiting(lists, free, place, rank, easy, wider, force=False, equals=False)
        hard = _find_waiting(lists, rank, place)[: max(FEW // 10, min(FEW, SCANS // len(place)))]
        if (
            fitted + _fit_waiting(lists, free, place, rank, hard, wider, force=True, equals=equals)
            == 0
        ):
            break
    order = np.argsort(-lists.load, kind="stable")
    improve_placement(lists, price, free, place, order, least, LOOKS)
    return free


def _find_waiting(lists: Lists, rank: Ints, place: Ints) -> Ints:
    """Lanes that wait: the most important first, then the heaviest."""
    waits = np.flatnonzero(place < 0).astype(np.int32)
    return waits[np.lexsort((-lists.load[waits], -rank[waits]))]


def _fit_waiting(
    lists: Lists,
    free: Floats,
    place: Ints,
    rank: Ints,
    waits: Ints,
    wider: Callable[[Ints], Lists] | None,
    *,
    force: bool,
    equals: bool,
) -> int:
    if not len(waits):
        return 0
    own = lists if wider is None else wider(waits)
    rows = waits if wider is None else slice(None)
    wide = Candidates(own.node[rows], own.cost_ms[rows])
    return fit_in_lanes(waits, wide, lists, free, place, rank, force, equals)


def _find_largest_parts(tree: Tree, at: Ints) -> tuple[Ints, Ints]:
    """Each split lane and the node that has most of it. `at`: nodes that hang from one."""
    nodes = len(tree.over)
    split = np.unique(tree.over[at])
    lane = np.concatenate((tree.over[at], split))
    node = np.concatenate((at, tree.home[split])).astype(np.int32)
    part = np.where(node < nodes, np.concatenate((tree.part[at], tree.rest[split])), -1.0)
    order = np.lexsort((part, lane))
    last = order[np.append(lane[order][1:] != lane[order][:-1], True)] if len(order) else order
    return lane[last], node[last]
