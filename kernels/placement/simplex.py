"""The best placement if lanes could be split, and with it the exact price of room at every node: a
simplex method on a tree.

If lanes may be split, all but a few are whole at the best placement, and those few link the full
nodes into a forest. So the tree of a network simplex (Dantzig 1951; Cunningham 1976) is small here.
A node hangs from the lane that it shares with another node; while it has room to spare it hangs
from nothing and its price is 0. A lane hangs from one of its nodes, or waits. A pivot sends a lane
to where cost plus price is lower. That closes a circle, round which as much load moves as there
is, and then the tree is cut.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.jit import njit
from kernels.placement.candidates import NO_LISTS, Lists
from kernels.tables import Floats, Ints, Marks

STEP = 5.0  # large gains are made first: from `first_ms` down to `last_ms` by this factor
ROUNDING_MS = 1e-7  # a price that is below 0 by less than this counts as 0


class Tree(NamedTuple):
    """The state for L lanes and N nodes, changed in place.

    `home`    int32[L]    node that the lane hangs from; N: it waits
    `rest`    float64[L]  events/s of it there
    `rest_ms` float64[L]  its cost there
    `kid`     int32[L]    first of the nodes that hang from the lane; -1: none, it is whole
    `peer`    int32[L]    next lane with kids that hangs from the same node; -1: none
    `over`    int32[N]    lane that the node hangs from; -1: it has room to spare
    `part`    float64[N]  events/s of that lane there, or room to spare
    `part_ms` float64[N]  cost of that lane there
    `twin`    int32[N]    next node that hangs from the same lane; -1: none
    `ward`    int32[N+1]  first lane with kids that hangs from the node (N: that waits); -1: none
    `price`   float64[N]  ms for each event/s of room
    """

    home: Ints
    rest: Floats
    rest_ms: Floats
    kid: Ints
    peer: Ints
    over: Ints
    part: Floats
    part_ms: Floats
    twin: Ints
    ward: Ints
    price: Floats


class Bans(NamedTuple):
    """`only` int32[L]: the one node where the lane may be, -1 for any on its list. `only_ms`
    float64[L]: its cost there."""

    only: Ints
    only_ms: Floats


class _Scratch(NamedTuple):
    """What a pivot needs: `node_mark` int64[N] and `lane_mark` int64[L] hold the number of the last
    pivot whose way led there; `stack` int32[N+1]: nodes whose prices change."""

    node_mark: Marks
    lane_mark: Marks
    stack: Ints


def empty_tree(lanes: int, nodes: int) -> Tree:
    """A tree for `set_up_tree`."""
    return Tree(
        home=np.empty(lanes, dtype=np.int32),
        rest=np.empty(lanes),
        rest_ms=np.empty(lanes),
        kid=np.empty(lanes, dtype=np.int32),
        peer=np.empty(lanes, dtype=np.int32),
        over=np.empty(nodes, dtype=np.int32),
        part=np.empty(nodes),
        part_ms=np.empty(nodes),
        twin=np.empty(nodes, dtype=np.int32),
        ward=np.empty(nodes + 1, dtype=np.int32),
        price=np.empty(nodes),
    )


def no_bans(lanes: int) -> Bans:
    """Every lane may be at any node on its list."""
    return Bans(np.full(lanes, -1, dtype=np.int32), np.zeros(lanes))


_TREE, _BANS = empty_tree(0, 0), no_bans(0)
_SCRATCH = _Scratch(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), _TREE.ward)


@njit("void(int64, int64, int64, Tree)", _TREE)
def _rehang_lane(lane: int, was: int, now: int, tree: Tree) -> None:
    """Updates the list of lanes with kids: `lane` now hangs from the node `now` instead of `was`
    (-1: none)."""
    peer, ward = tree.peer, tree.ward
    if was >= 0:
        if ward[was] == lane:
            ward[was] = peer[lane]
        else:
            other = ward[was]
            while peer[other] != lane:
                other = peer[other]
            peer[other] = peer[lane]
    if now >= 0:
        peer[lane] = ward[now]
        ward[now] = lane


@njit("void(int64, int64, int64, Tree)", _TREE)
def _rehang_node(node: int, was: int, now: int, tree: Tree) -> None:
    """Updates the lists: `node` now hangs from the lane `now` instead of `was` (-1: none)."""
    home, kid, twin = tree.home, tree.kid, tree.twin
    if was >= 0:
        if kid[was] == node:
            kid[was] = twin[node]
            if kid[was] < 0:
                _rehang_lane(was, home[was], -1, tree)
        else:
            other = kid[was]
            while twin[other] != node:
                other = twin[other]
            twin[other] = twin[node]
    if now >= 0:
        twin[node] = kid[now]
        kid[now] = node
        if twin[node] < 0:
            _rehang_lane(now, -1, home[now], tree)


@njit("void(int64, int64, float64, float64, Tree, _Scratch, int64)", _TREE, _SCRATCH)
def _pivot(
    lane: int, to: int, to_ms: float, gain_ms: float, tree: Tree, scratch: _Scratch, mark: int
) -> None:
    """Sends `lane` to the node `to` (N: it waits), where each of its events costs `to_ms` and,
    prices included, `gain_ms` less. Without a lane (-1), room is sent there: the node keeps some to
    spare. `mark`: the number of this pivot."""
    home, rest, rest_ms, kid, peer, over, part, part_ms, twin, ward, price = tree
    node_mark, lane_mark, stack = scratch
    nodes = len(over)
    x = to  # mark the way up from `to`: nodes there lose load, lanes take it further up
    while x < nodes:
        node_mark[x] = mark
        above = over[x]
        if above < 0:
            break
        lane_mark[above] = mark
        x = home[above]
    meet_lane, meet_node = -1, nodes
    most, cut_lane, cut_node = np.inf, -1, -1
    m = lane  # up from where it leaves: lanes lose load, nodes take it; ends at a mark
    while m >= 0:
        if lane_mark[m] == mark:
            meet_lane = m
            break
        if rest[m] < most:
            most, cut_lane = rest[m], m
        x = home[m]
        if x == nodes:
            break
        if node_mark[x] == mark:
            meet_node = x
            break
        m = over[x]
    # the smallest part on the way limits how much can move, and is where the tree is cut
    x = to
    while x < nodes and x != meet_node:
        if part[x] < most:
            most, cut_lane, cut_node = part[x], -1, x
        m = over[x]
        if m < 0 or m == meet_lane:
            break
        x = home[m]
    # move the load along both sides of the circle
    m = lane
    while m >= 0 and m != meet_lane:
        rest[m] -= most
        x = home[m]
        if x in (nodes, meet_node):
            break
        part[x] += most
        m = over[x]
    x = to
    while x < nodes and x != meet_node:
        part[x] -= most
        m = over[x]
        if m < 0 or m == meet_lane:
            break
        rest[m] += most
        x = home[m]
    left = 0
    if cut_lane >= 0:  # what hung below the cut now hangs from `to`, in reverse order
        m, x, load, ms = lane, to, most, to_ms
        while True:
            was, was_rest, was_ms = home[m], rest[m], rest_ms[m]
            if kid[m] >= 0:
                _rehang_lane(m, was, x, tree)
            home[m], rest[m], rest_ms[m] = x, load, ms
            if m == cut_lane:
                break
            above, load, ms = over[was], part[was], part_ms[was]
            _rehang_node(was, above, m, tree)
            over[was], part[was], part_ms[was] = m, was_rest, was_ms
            x, m = was, above
        shift = -gain_ms
        x = kid[lane]
        while x >= 0:
            stack[left] = x
            left += 1
            x = twin[x]
    else:
        x, m, load, ms = to, lane, most, to_ms
        while True:
            above, was_part, was_ms = over[x], part[x], part_ms[x]
            _rehang_node(x, above, m, tree)
            over[x], part[x], part_ms[x] = m, load, ms
            if x == cut_node:
                break
            was, load, ms = home[above], rest[above], rest_ms[above]
            if kid[above] >= 0:
                _rehang_lane(above, was, x, tree)
            home[above], rest[above], rest_ms[above] = x, was_part, was_ms
            m, x = above, was
        shift = gain_ms
        stack[0] = to
        left = 1
    while left > 0:  # all prices below the new arc change by the same amount
        left -= 1
        n = stack[left]
        price[n] += shift
        m = ward[n]
        while m >= 0:
            x = kid[m]
            while x >= 0:
                stack[left] = x
                left += 1
                x = twin[x]
            m = peer[m]


@njit("int64(Lists, Bans, float64, float64, int64, Tree)", NO_LISTS, _BANS, _TREE)
def run_simplex(
    lists: Lists, bans: Bans, first_ms: float, last_ms: float, most_pivots: int, tree: Tree
) -> int:
    """Continues until no lane would gain more than `last_ms` elsewhere. Returns the number of
    pivots."""
    node, cost_ms, wait_ms, _ = lists
    only, only_ms = bans
    home, rest_ms, price = tree.home, tree.rest_ms, tree.price
    lanes, width = node.shape
    nodes = len(price)
    scratch = _Scratch(
        np.zeros(nodes, dtype=np.int64),
        np.zeros(lanes, dtype=np.int64),
        np.empty(nodes + 1, dtype=np.int32),
    )
    # lanes that may gain; they are tried again before all lanes are
    short = np.empty(lanes, dtype=np.int32)
    worth = max(first_ms, last_ms)
    whole, listed, pivots = True, lanes, 0
    while pivots < most_pivots:
        kept = 0
        for i in range(listed + nodes):
            if i < listed:
                lane = i if whole else short[i]
                at = home[lane]
                now = rest_ms[lane] + (price[at] if at < nodes else 0.0)
                least, to, to_ms = now - worth, -1, 0.0
                if only[lane] >= 0:
                    if only[lane] != at and only_ms[lane] + price[only[lane]] < least:
                        to, to_ms = only[lane], only_ms[lane]
                        least = to_ms + price[to]
                else:
                    for w in range(width):
                        n = node[lane, w]
                        if n < 0:
                            break
                        ms = cost_ms[lane, w] + price[n]
                        if ms < least:
                            least, to, to_ms = ms, n, cost_ms[lane, w]
                    if wait_ms[lane] < least:
                        least, to, to_ms = wait_ms[lane], nodes, wait_ms[lane]
                if to < 0:
                    continue
                short[kept] = lane
                kept += 1
                gain = now - least
            else:
                lane, to, to_ms = -1, i - listed, 0.0
                gain = -price[to]
                if gain <= ROUNDING_MS:
                    continue
            pivots += 1
            _pivot(lane, to, to_ms, gain, tree, scratch, pivots)
        if kept > 0:
            whole, listed = False, kept
        elif not whole:
            whole, listed = True, lanes
        elif worth > last_ms:
            worth = max(worth / STEP, last_ms)
        else:
            break
    return pivots


@njit("void(Tree)", _TREE)
def recompute_prices(tree: Tree) -> None:
    """Computes the prices anew, after costs in `rest_ms` and `part_ms` were changed: a split lane
    must cost the same, price included, at each of its nodes."""
    _, _, rest_ms, kid, peer, over, _, part_ms, twin, ward, price = tree
    nodes = len(over)
    stack = np.empty(nodes + 1, dtype=np.int32)
    left = 1
    stack[0] = nodes  # stands for the lanes that wait
    for n in range(nodes):
        if over[n] < 0:
            price[n] = 0.0
            stack[left] = n
            left += 1
    while left > 0:
        left -= 1
        n = stack[left]
        m = ward[n]
        while m >= 0:
            x = kid[m]
            while x >= 0:
                price[x] = rest_ms[m] - part_ms[x] + (price[n] if n < nodes else 0.0)
                stack[left] = x
                left += 1
                x = twin[x]
            m = peer[m]


@njit("void(Lists, float64[::1], int32[::1], float64[::1], Tree)", NO_LISTS, _TREE)
def set_up_tree(lists: Lists, room: Floats, place: Ints, guess_ms: Floats, tree: Tree) -> None:
    """Sets up the state from whole lanes: at `place` [L] (N: it waits), or for -1 where cost plus
    `guess_ms` [N], a price, is lowest. If they do not fit into `room` [N], those wait that would
    lose least at another node."""
    node, cost_ms, wait_ms, load = lists
    home, rest, rest_ms, kid, peer, over, part, part_ms, twin, ward, price = tree
    lanes, width = node.shape
    nodes = len(room)
    worse = np.full(lanes, np.inf)  # by how much the next best node is worse
    first = np.full(nodes, -1, dtype=np.int32)
    after = np.empty(lanes, dtype=np.int32)
    ward[nodes] = -1
    for n in range(nodes):
        # Rooms differ by a trace, so that no two ways to make room are quite equal; otherwise
        # pivots could go round in a circle forever.
        over[n], part[n] = -1, room[n] * (1 + 1e-10 * ((n * 7919) % 1009))
        twin[n] = ward[n] = -1
        part_ms[n] = price[n] = 0.0
    for lane in range(lanes):
        kid[lane], peer[lane], rest[lane] = -1, -1, load[lane]
        home[lane], rest_ms[lane] = nodes, wait_ms[lane]
        least = there = wait_ms[lane]
        to = -1
        for w in range(width):
            n = node[lane, w]
            if n < 0:
                break
            ms = cost_ms[lane, w] + guess_ms[n]
            if (place[lane] < 0 and ms < least) or n == place[lane]:
                to, there, rest_ms[lane] = n, ms, cost_ms[lane, w]
            least = min(least, ms)
        if to < 0:
            continue
        next_best = wait_ms[lane]
        for w in range(width):
            n = node[lane, w]
            if n < 0:
                break
            if n != to:
                next_best = min(next_best, cost_ms[lane, w] + guess_ms[n])
        home[lane], worse[lane] = to, next_best - there
        part[to] -= load[lane]
        after[lane], first[to] = first[to], lane
    for n in range(nodes):
        if part[n] >= 0:
            continue
        # search for the loss below which lanes leave, so that the others just fit
        low = high = worse[first[n]]
        lane = first[n]
        while lane >= 0:
            low, high = min(low, worse[lane]), max(high, worse[lane])
            lane = after[lane]
        for _ in range(40):
            middle, left = (low + high) / 2, part[n]
            lane = first[n]
            while lane >= 0:
                if worse[lane] <= middle:
                    left += load[lane]
                lane = after[lane]
            low, high = (low, middle) if left >= 0 else (middle, high)
        lane = first[n]
        while lane >= 0:
            if worse[lane] <= high:
                home[lane], rest_ms[lane] = nodes, wait_ms[lane]
                part[n] += load[lane]
            lane = after[lane]
