"""The best placement if lanes could be split, and with it the exact price of room at every node: a simplex method on a tree.

Where lanes may be split, all but a few are whole at the best placement: those few link the nodes that are full to a forest, at
most one for each such node. So the tree that a network simplex keeps (Dantzig 1951; Cunningham 1976) is small here. A node
hangs from the lane that it shares with another node, or from nothing while it has room to spare: then its price is 0. A lane
hangs from one of its nodes, or waits. A pivot sends one lane where cost and price are lower, takes as much load round the
circle that this closes as there is, and cuts the tree where nothing is left.

State, all changed in place, for L lanes and N nodes:

`home`    int32[L]    node that the lane hangs from; N: it waits
`rest`    float64[L]  events/s of it there
`rest_ms` float64[L]  its cost there
`below`   int32[L]    nodes that hang from the lane: it is split if there are any
`over`    int32[N]    lane that the node hangs from; -1: it has room to spare
`part`    float64[N]  events/s of that lane there, or room to spare
`part_ms` float64[N]  cost of that lane there
`price`   float64[N]  ms for each event/s of room
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.tables import Floats, Ints, Singles

Marks: TypeAlias = npt.NDArray[np.int64]

LISTS = "int32[:, ::1], float32[:, ::1]"
LANES = "int32[::1], float64[::1], float64[::1], int32[::1]"
NODES = "int32[::1], float64[::1], float64[::1], float64[::1]"
FIRST_MS = 30.0  # gains are looked for from here downwards, so that the large ones come first
ROUNDING_MS = 1e-7  # a price below 0 by less is 0


@njit(f"void(int32, int32, float64, float64, {LANES}, {NODES}, int64[::1], int64[::1], int64)")
def _pivot(
    lane: int,
    to: int,
    to_ms: float,
    gain_ms: float,
    home: Ints,
    rest: Floats,
    rest_ms: Floats,
    below: Ints,
    over: Ints,
    part: Floats,
    part_ms: Floats,
    price: Floats,
    node_mark: Marks,
    lane_mark: Marks,
    mark: int,
) -> None:
    """Lets `lane` go to the node `to` (N: it waits), where each of its events costs `to_ms` and, prices included,
    `gain_ms` less. Without a lane (-1) it is room that goes there: the node keeps some to spare."""
    nodes = len(over)
    x = to  # up from where it goes: nodes get rid of load, lanes take it further up
    while x < nodes:
        node_mark[x] = mark
        above = over[x]
        if above < 0:
            break
        lane_mark[above] = mark
        x = home[above]
    meet_lane, meet_node = -1, nodes
    most, cut_lane, cut_node = np.inf, -1, -1
    m = lane  # up from where it leaves: lanes get rid of load, nodes take it
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
    x = to
    while x < nodes and x != meet_node:
        if part[x] < most:
            most, cut_lane, cut_node = part[x], -1, x
        m = over[x]
        if m < 0 or m == meet_lane:
            break
        x = home[m]
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
    if cut_lane >= 0:  # what hangs from there hangs from `to` now, turned round
        m, x, load, ms = lane, to, most, to_ms
        while True:
            was, was_rest, was_ms = home[m], rest[m], rest_ms[m]
            home[m], rest[m], rest_ms[m] = x, load, ms
            if m == cut_lane:
                break
            m_above, load, ms = over[was], part[was], part_ms[was]
            over[was], part[was], part_ms[was] = m, was_rest, was_ms
            below[m] += 1
            below[m_above] -= 1
            x, m = was, m_above
        if below[lane] == 0:
            return
        shift = -gain_ms
    else:
        x, m, load, ms = to, lane, most, to_ms
        while True:
            was_lane, was_part, was_ms = over[x], part[x], part_ms[x]
            over[x], part[x], part_ms[x] = m, load, ms
            if m >= 0:
                below[m] += 1
            if was_lane >= 0:
                below[was_lane] -= 1
            if x == cut_node:
                break
            m = was_lane
            was, load, ms = home[m], rest[m], rest_ms[m]
            home[m], rest[m], rest_ms[m] = x, was_part, was_ms
            x = was
        shift = gain_ms
    # a price changes below the arc that is new, for all by the same
    for n in range(nodes):
        x = n
        while node_mark[x] > -mark and node_mark[x] != mark + 1:
            above = over[x]
            if (cut_lane >= 0 and above == lane) or (cut_lane < 0 and x == to):
                node_mark[x] = mark + 1
            elif above < 0 or home[above] == nodes:
                node_mark[x] = -mark
            else:
                x = home[above]
                continue
            break
        found = node_mark[x]
        x = n
        while node_mark[x] != found:
            node_mark[x] = found
            x = home[over[x]]
        if found == mark + 1:
            price[n] += shift


@njit(
    f"int64({LISTS}, float64[::1], int32[::1], float64[::1], float64, int64, {LANES}, {NODES})",
)
def settle(
    node: Ints,
    cost_ms: Singles,
    wait_ms: Floats,
    only: Ints,
    only_ms: Floats,
    last_ms: float,
    most_pivots: int,
    home: Ints,
    rest: Floats,
    rest_ms: Floats,
    below: Ints,
    over: Ints,
    part: Floats,
    part_ms: Floats,
    price: Floats,
) -> int:
    """Goes on until no lane would gain more than `last_ms` elsewhere; returns the number of pivots.

    `node`, `cost_ms` [L, W]: the lists, -1 ends one. `wait_ms` [L]: what it costs a lane to wait. `only` [L]: the one node
    where the lane may be, at `only_ms`; -1 for any on its list."""
    lanes, width = node.shape
    nodes = len(over)
    node_mark = np.zeros(nodes, dtype=np.int64)
    lane_mark = np.zeros(lanes, dtype=np.int64)
    short = np.empty(lanes + nodes, dtype=np.int32)  # lanes that may gain, looked at again and again before all are
    worth = FIRST_MS
    pivots = 0
    whole = True
    listed = 0
    while pivots < most_pivots:
        kept = 0
        for i in range(lanes + nodes if whole else listed + nodes):
            if i < (lanes if whole else listed):
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
                lane = -1
                to = i - (lanes if whole else listed)
                gain, to_ms = -price[to], 0.0
                if gain <= ROUNDING_MS:
                    continue
            pivots += 1
            _pivot(
                lane,
                to,
                to_ms,
                gain,
                home,
                rest,
                rest_ms,
                below,
                over,
                part,
                part_ms,
                price,
                node_mark,
                lane_mark,
                2 * pivots,
            )
        if whole and kept == 0:
            if worth <= last_ms:
                break
            worth = max(worth / 3, last_ms)
        else:
            whole = kept == 0
            listed = kept
    return pivots


@njit(f"void({LANES}, {NODES})")
def reprice(
    home: Ints,
    rest: Floats,
    rest_ms: Floats,
    below: Ints,
    over: Ints,
    part: Floats,
    part_ms: Floats,
    price: Floats,
) -> None:
    """Prices anew, after costs in `rest_ms` and `part_ms` were changed: a split lane is as well off at one of its nodes as
    at another."""
    nodes = len(over)
    known = np.zeros(nodes, dtype=np.bool_)
    path = np.empty(nodes, dtype=np.int32)
    for n in range(nodes):
        steps, x = 0, n
        while x < nodes and not known[x]:
            path[steps] = x
            steps += 1
            x = home[over[x]] if over[x] >= 0 else nodes
        for i in range(steps - 1, -1, -1):
            x = path[i]
            m = over[x]
            price[x] = 0.0
            if m >= 0:
                price[x] = rest_ms[m] - part_ms[x] + (price[home[m]] if home[m] < nodes else 0.0)
            known[x] = True


@njit(f"void({LISTS}, float64[::1], float64[::1], float64[::1], int32[::1], float64[::1], {LANES}, {NODES})")
def start(
    node: Ints,
    cost_ms: Singles,
    load: Floats,
    room: Floats,
    wait_ms: Floats,
    place: Ints,
    guess_ms: Floats,
    home: Ints,
    rest: Floats,
    rest_ms: Floats,
    below: Ints,
    over: Ints,
    part: Floats,
    part_ms: Floats,
    price: Floats,
) -> None:
    """Sets the state up from whole lanes: at `place` [L], or for -1 where cost and `guess_ms` [N], a price, are lowest. Where
    they do not fit into `room` [N], those wait for whom another node would be next to as good."""
    lanes, width = node.shape
    nodes = len(room)
    worse = np.full(lanes, np.inf)  # by how much the next best node is
    first = np.full(nodes, -1, dtype=np.int32)
    after = np.empty(lanes, dtype=np.int32)
    for n in range(nodes):
        # rooms that differ by a trace: no two ways to make room are quite equal, so that no circle is gone round forever
        over[n], part[n] = -1, room[n] * (1 + 1e-10 * ((n * 7919) % 1009))
        part_ms[n] = price[n] = 0.0
    for lane in range(lanes):
        below[lane], rest[lane] = 0, load[lane]
        home[lane], rest_ms[lane] = nodes, wait_ms[lane]
        least = there = wait_ms[lane]
        to = -1
        for w in range(width):
            n = node[lane, w]
            if n < 0:
                break
            if load[lane] > room[n]:
                continue
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
        low = high = 0.0  # of all who would lose less than `high`, so many leave that the others fit
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
