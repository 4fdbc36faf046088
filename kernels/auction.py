"""The auction: lanes bid for room at the nodes on their lists, and a node that is too full lets go who bid least; what that
one bid is the price of room there (Bertsekas, "The auction algorithm for the transportation problem", 1989)."""

from __future__ import annotations

import numpy as np

from kernels.jit import njit
from kernels.tables import Floats, Ints, Singles


@njit("int32(int32, int32, float64[::1], int32[::1], int32[::1])")
def _meld(a: int, b: int, level: Floats, child: Ints, sibling: Ints) -> int:
    """Joins two pairing heaps by their roots (-1: empty); returns the root with the lower level."""
    if a < 0:
        return b
    if b < 0:
        return a
    if level[b] < level[a] or (level[b] == level[a] and b < a):
        a, b = b, a
    sibling[b] = child[a]
    child[a] = b
    return a


@njit("int32(int32, float64[::1], int32[::1], int32[::1])")
def _without_root(root: int, level: Floats, child: Ints, sibling: Ints) -> int:
    """Takes the root off a pairing heap, in two passes; returns the new root."""
    pairs = -1
    rest = child[root]
    while rest >= 0:
        a = rest
        b = sibling[a]
        rest = sibling[b] if b >= 0 else -1
        sibling[a] = -1
        if b >= 0:
            sibling[b] = -1
        a = _meld(a, b, level, child, sibling)
        sibling[a] = pairs
        pairs = a
    out = -1
    while pairs >= 0:
        a = pairs
        pairs = sibling[a]
        sibling[a] = -1
        out = _meld(out, a, level, child, sibling)
    child[root] = -1
    return out


@njit(
    "int64(int32[:, ::1], float32[:, ::1], float64[::1], float64[::1], float64[::1], int32[::1], float64[::1], float64, "
    "float64, int64)",
)
def auction(
    node: Ints,
    cost_ms: Singles,
    load: Floats,
    room: Floats,
    price_ms: Floats,
    place: Ints,
    limit_ms: Floats,
    step_ms: float,
    step_share: float,
    most_bids: int,
) -> int:
    """Changes `price_ms` [N] and `place` [L] (node of each lane, -1: none) until every lane is where its cost and the price
    are lowest, within `step_ms + step_share * price`; returns how many bids that took.

    `node`, `cost_ms` [L, W]: the lists, -1 ends one. A lane gives up where cost and price reach `limit_ms` [L]; all give
    up after `most_bids`. No node holds more than `room` [N] in the end."""
    lanes, width = node.shape
    level = np.zeros(lanes)
    child = np.full(lanes, -1, dtype=np.int32)
    sibling = np.full(lanes, -1, dtype=np.int32)
    root = np.full(len(room), -1, dtype=np.int32)
    used = np.zeros(len(room))
    queue = np.empty(lanes, dtype=np.int32)
    head = waiting = 0
    for lane in range(lanes):
        queue[waiting] = lane
        waiting += 1
    bids = 0
    while waiting > 0:
        lane = queue[head]
        head = head + 1 if head + 1 < lanes else 0
        waiting -= 1
        at = place[lane]  # where it starts, at the level at which it would leave
        place[lane] = -1
        best = -1
        best_ms = second_ms = limit_ms[lane]
        at_ms = np.inf
        for w in range(width):
            n = node[lane, w]
            if n < 0:
                break
            ms = cost_ms[lane, w] + price_ms[n]
            if load[lane] > room[n]:
                continue
            if n == at:
                at_ms = ms
            if ms < best_ms:
                second_ms = best_ms
                best_ms = ms
                best = n
            elif ms < second_ms:
                second_ms = ms
        if best < 0:
            continue
        step = step_ms + step_share * price_ms[best]
        if at >= 0 and at != best and at_ms <= best_ms + step:
            second_ms = best_ms
            best_ms = at_ms
            best = at
        bids += 1
        if bids > most_bids:
            continue
        level[lane] = price_ms[best] + (second_ms - best_ms) + step
        place[lane] = best
        used[best] += load[lane]
        sibling[lane] = -1
        root[best] = _meld(root[best], lane, level, child, sibling)
        while used[best] > room[best]:
            out = root[best]
            root[best] = _without_root(out, level, child, sibling)
            used[best] -= load[out]
            price_ms[best] = max(price_ms[best], level[out])
            place[out] = -1
            end = head + waiting
            queue[end if end < lanes else end - lanes] = out
            waiting += 1
    return bids
