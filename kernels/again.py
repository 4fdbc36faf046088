"""Solves a small fleet of heavy lanes again, part by part: a few nodes that compete for the same
lanes are emptied and refilled, and the result is kept if it is cheaper."""

from __future__ import annotations

import numpy as np

from kernels.placement.candidates import Lists, priced_ms
from kernels.placement.integral import begin, finish, now_ms, optimum, round_off
from kernels.tables import Floats, Ints

TOGETHER = 10  # nodes that are refilled at a time
MOST_NODES = 128  # nodes that are tried as the middle of a part
FIRST_MS, LAST_MS = 5.0, 0.02
GAIN = 1e-6  # share of a part's cost that must be saved


def again(lists: Lists, room: Floats, rank: Ints, price: Floats, place: Ints) -> int:
    """Changes `place` int32[L] where that is cheaper; each lane stays on its list. Returns the
    number of parts that it changed. `price` float64[N]."""
    nodes = len(room)
    if (place < 0).any() or nodes <= TOGETHER:  # that few nodes were already solved all together
        return 0
    priced = priced_ms(lists.node, lists.cost_ms, price)
    now = now_ms(lists, place) + price[place]
    used = np.bincount(place, lists.load, minlength=nodes)
    worth = np.bincount(place, (now - priced.min(axis=1)) * lists.load, minlength=nodes) + price * (
        room - used
    )
    near = _near(lists, priced - now[:, None], place, nodes)
    won = 0
    for middle in np.argsort(-worth, kind="stable")[:MOST_NODES]:
        won += _anew(lists, room, rank, price, place, np.sort(near[middle]))
    return won


def _near(lists: Lists, loss: Floats, place: Ints, nodes: int) -> Ints:
    """For each node, the nodes that compete with it most, itself first: those between which some
    lane would lose least by moving. `loss` float64[L, W], of each lane at each node on its list."""
    lane, column = np.nonzero(lists.node >= 0)
    apart = np.full((nodes, nodes), np.inf)
    np.minimum.at(apart, (place[lane], lists.node[lane, column]), loss[lane, column])
    apart = np.minimum(apart, apart.T)
    np.fill_diagonal(apart, -np.inf)
    return np.argsort(apart, axis=1, kind="stable")[:, :TOGETHER].astype(np.int32)


def _anew(lists: Lists, room: Floats, rank: Ints, price: Floats, place: Ints, some: Ints) -> bool:
    """Refills the nodes `some` with the lanes that they have. Returns whether that is cheaper, and
    so was done."""
    within = np.full(len(room) + 1, -1, dtype=np.int32)  # the last for -1, a list's end
    within[some] = np.arange(len(some), dtype=np.int32)
    rows = np.flatnonzero(within[place] >= 0)
    if not len(rows):
        return False
    node = within[lists.node[rows]]
    order = np.argsort(node < 0, axis=1, kind="stable")[:, : len(some)]
    part = Lists(
        np.ascontiguousarray(np.take_along_axis(node, order, axis=1)),
        np.ascontiguousarray(np.take_along_axis(lists.cost_ms[rows], order, axis=1)),
        lists.wait_ms[rows],
        lists.load[rows],
    )
    before = float((now_ms(part, within[place[rows]]) * part.load).sum())
    tree = begin(part, room[some], price[some])
    optimum(part, tree, FIRST_MS, LAST_MS)
    exact = np.maximum(tree.price, 0.0)
    new = round_off(part, tree, LAST_MS)
    finish(part, room[some], rank[rows], exact, new, 0.0)
    after = float((now_ms(part, new) * part.load).sum())
    if after >= before * (1 - GAIN) or (new < 0).any():
        return False
    place[rows] = some[new]
    return True
