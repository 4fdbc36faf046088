"""The fused score and top-k for the CPU: each lane looks at few nodes, and the matrix is never
stored.

Arithmetic and arrays are those of prepare.py, to the bit. It is fast by skipping. The winners of
the previous lane, a neighbour, are tried first, so that the bound is tight from the start. Blocks
of nodes too far from a whole bunch of lanes are left out for all of it. In the other blocks, 64
nodes at a time are tested, without a square root, for whether they can win at all."""

from __future__ import annotations

import math

import numpy as np

from kernels.jit import njit
from kernels.scoring.nearest_nodes import BLOCK
from kernels.scoring.prepare import (
    ARC,
    FEASIBLE,
    NEVER,
    OTHER,
    OWN,
    WARM,
    NearestQuery,
    ScoringTick,
    Selection,
)
from kernels.scoring.vector import Single, fma, lowest_bit, within_reach
from kernels.tables import Ints, Singles

BUNCH = 64
PI = np.float32(np.pi)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
A0, A1, A2, A3, A4, A5, A6, A7 = (np.float32(a) for a in ARC)
COSINE_SLACK = np.float32(
    2e-6
)  # more than the error of 1 - cos of two unit vectors in float32, and of what follows from it
ARC_SLACK = np.float32(1e-5)  # radians: more than an arc may come out shorter than its chord
ROUNDING = np.float32(
    1e-6
)  # more than the error of a sum of three float32, as a share of the largest


@njit()
def arc(xyz: Singles, i: int, others: Singles, j: int) -> Single:
    """Radians between the unit vectors in column i of `xyz` and j of `others`. It has no branch, so
    that loops over it are vectorised."""
    x, y, z, u, v, w = xyz[0, i], xyz[1, i], xyz[2, i], others[0, j], others[1, j], others[2, j]
    d0, d1, d2 = x - u, y - v, z - w
    q = fma(d0, d0, fma(d1, d1, d2 * d2))
    s0, s1, s2 = x + u, y + v, z + w
    far = q > TWO
    q = fma(s0, s0, fma(s1, s1, s2 * s2)) if far else q
    p = fma(fma(fma(fma(A7, q, A6), q, A5), q, A4), q, A3)
    p = fma(fma(fma(p, q, A2), q, A1), q, A0)
    r = np.float32(math.sqrt(q)) * p
    return PI - r if far else r


@njit()
def cost(
    measured: Single,
    last: Single,
    traffic: Single,
    slope: Single,
    radians: Single,
    base: Single,
    ms: Single,
) -> Single:
    """A lane's cost at a node whose own share is `ms`, whether the pair was measured or not."""
    if measured >= ZERO:
        return last + (traffic * measured + ms)
    return fma(slope, radians, base + ms)


@njit()
def insert(keys: Singles, nodes: Ints, size: int, key: Single, node: int, node_row: Ints) -> int:
    """Inserts a node among the `size` best (sorted by key, then row) if it is good enough. Returns
    the new size."""
    last = len(keys) - 1
    if size > last:
        if key > keys[last] or (key == keys[last] and node_row[node] > node_row[nodes[last]]):
            return size
        size = last
    at = size
    while at > 0 and (
        key < keys[at - 1] or (key == keys[at - 1] and node_row[node] < node_row[nodes[at - 1]])
    ):
        keys[at] = keys[at - 1]
        nodes[at] = nodes[at - 1]
        at -= 1
    keys[at] = key
    nodes[at] = node
    return size + 1


@njit()
def bound_bunch(
    place: Ints, begin: int, end: int, lane_filter: Ints, slope: Singles, lane_xyz: Singles
) -> tuple[int, int, Single, Single, Single]:
    """The lanes from `begin` that share one filter group: where they end, one in their middle,
    their largest distance from it in radians, and their least and greatest slope."""
    end = min(end, begin + BUNCH)
    while lane_filter[place[end - 1]] != lane_filter[place[begin]]:
        end -= 1
    middle = place[(begin + end) // 2]
    radius, least, greatest = ZERO, slope[middle], ZERO
    for i in range(begin, end):
        radius = max(radius, arc(lane_xyz, place[i], lane_xyz, middle))
        least, greatest = min(least, slope[place[i]]), max(greatest, slope[place[i]])
    return end, middle, radius, least, greatest


@njit()
def highest_node_ms(key: Single, base: Single, slope: Single) -> Single:
    """What a node may cost beside `base` for its key to be at most `key`, and a little more."""
    return fma(key, ROUNDING, fma(slope, ARC_SLACK, key - base))


@njit()
def search_nodes(
    t: ScoringTick,
    q: NearestQuery,
    chosen: Selection,
    begin: int,
    end: int,
    out_node: Ints,
    out_ms: Singles,
) -> None:
    """The best nodes of the chosen lanes from `begin` to `end`. Writes their rows of `out_node`,
    int32[R, K], and `out_ms`, float32[R, K]."""
    # Local names: numba counts references to a named tuple's array at each access.
    place, out, g = chosen.place, chosen.out, t.ground
    lane_xyz, lane_filter, lane_region, node_xyz, node_row = (
        g.lane_xyz,
        g.lane_filter,
        g.region,
        g.node_xyz,
        g.node_row,
    )
    site, cap_xyz, cap_rad, table, node_ms = g.site, g.cap_xyz, g.cap_rad, t.table, t.node_ms
    slopes, bases, lasts, traffics, own, stays, warm = (
        t.slope,
        t.base,
        t.last,
        t.traffic,
        t.own,
        t.stays,
        t.warm,
    )
    key_ms, bias, least, list_of, list_node, list_ms = (
        q.key_ms,
        q.bias,
        q.least,
        q.list_of,
        q.list_node,
        q.list_ms,
    )
    k, depth, blocks = out_node.shape[1], list_node.shape[1], len(cap_rad)
    keys, nodes = np.empty(k, np.float32), np.empty(k, np.int32)
    before, trial, tried = np.empty(k, np.uint32), np.empty(k, np.float32), 0
    seen, bound, near = (
        np.zeros(blocks, np.uint64),
        np.empty(blocks, np.float32),
        np.empty(blocks, np.int64),
    )
    bunch_end, differ, reach, count = begin, ZERO, ZERO, 0
    for i in range(begin, end):
        lane = place[i]
        f, region, mine, caches = lane_filter[lane], lane_region[lane], own[lane], warm[lane]
        base, slope, last, traffic = bases[lane], slopes[lane], lasts[lane], traffics[lane]
        # a new bunch: bound each block of nodes for all its lanes
        if i == bunch_end:
            bunch_end, middle, radius, least_slope, greatest_slope = bound_bunch(
                place, i, end, lane_filter, slopes, lane_xyz
            )
            for b in range(blocks):
                away = arc(lane_xyz, middle, cap_xyz, b) - cap_rad[b] - radius
                bound[b] = fma(least_slope, max(ZERO, away), least[f, b])
            reach, differ = -NEVER, greatest_slope * radius
        size = 0
        own_key = NEVER
        # the own and the warm node have costs of their own, so they never come from a list or a
        # block
        if stays[lane]:
            radians = arc(lane_xyz, lane, node_xyz, mine)
            own_key = cost(
                table[region, site[mine]], last, traffic, slope, radians, base, key_ms[OWN, mine]
            )
            size = insert(keys, nodes, size, own_key, mine, node_row)
        if caches >= 0:
            radians = arc(lane_xyz, lane, node_xyz, caches)
            key = cost(
                table[region, site[caches]],
                last,
                traffic,
                slope,
                radians,
                base,
                key_ms[WARM, caches],
            )
            size = insert(keys, nodes, size, key, caches, node_row)
        # the previous lane's winners make the bound tight early
        for j in range(tried):
            trial[j] = fma(
                slope, arc(lane_xyz, lane, node_xyz, before[j]), base + bias[f, before[j]]
            )
        for j in range(tried):
            node = before[j]
            if trial[j] < FEASIBLE and node != mine and node != caches:
                size = insert(keys, nodes, size, trial[j], node, node_row)
                seen[node // BLOCK] |= np.uint64(1) << np.uint64(node % BLOCK)
        for j in range(depth):
            node, key = list_node[list_of[lane], j], last + list_ms[list_of[lane], j]
            if node < 0 or (size == k and key > keys[k - 1]):
                break
            if node != mine and node != caches:
                size = insert(keys, nodes, size, key, node, node_row)
        top = highest_node_ms(keys[k - 1] if size == k else FEASIBLE, base, slope)
        if top > reach:
            reach, count = top + differ, 0
            for b in range(blocks):
                near[count] = b
                count += int(bound[b] <= reach)
        # now the nodes that were not measured, block by block, while they may beat the K-th
        square = TWO * slope * slope
        x, y, z = (
            -square * lane_xyz[0, lane],
            -square * lane_xyz[1, lane],
            -square * lane_xyz[2, lane],
        )
        for j in range(count):
            if bound[near[j]] > top:
                continue
            start = near[j] * BLOCK
            found = within_reach(
                node_xyz, bias, f, start, x, y, z, square * (ONE - COSINE_SLACK), top
            )
            found &= ~seen[near[j]]
            while found != 0:
                node = start + lowest_bit(found)
                found &= found - np.uint64(1)
                key = fma(slope, arc(lane_xyz, lane, node_xyz, node), base + bias[f, node])
                if node != mine and node != caches and (size < k or key <= keys[k - 1]):
                    size = insert(keys, nodes, size, key, node, node_row)
                    top = highest_node_ms(keys[k - 1] if size == k else FEASIBLE, base, slope)
        for j in range(tried):
            seen[before[j] // BLOCK] = np.uint64(0)
        tried, missing, o = size, stays[lane], out[i]
        for j in range(size):
            before[j] = nodes[j]
            missing &= nodes[j] != mine
        # the own node takes the last place if it may stay and did not win
        if missing:
            keys[k - 1], nodes[k - 1] = own_key, mine
        for j in range(size):
            node = nodes[j]
            key = keys[j]
            if q.priced:
                kind = OWN if node == mine else WARM if node == caches else OTHER
                radians = arc(lane_xyz, lane, node_xyz, node)
                key = cost(
                    table[region, site[node]],
                    last,
                    traffic,
                    slope,
                    radians,
                    base,
                    node_ms[kind, node],
                )
            out_node[o, j], out_ms[o, j] = node_row[node], key
        for j in range(size, k):
            out_node[o, j], out_ms[o, j] = -1, np.inf


@njit()
def compute_costs_at(t: ScoringTick, lanes: Ints, nodes: Ints, out_ms: Singles) -> None:
    """Writes the cost of each lane at the node beside it (places); infinite where the lane may not
    be."""
    g = t.ground
    for i in range(len(lanes)):
        lane, node = lanes[i], nodes[i]
        kind = OWN if t.own[lane] == node else WARM if t.warm[lane] == node else OTHER
        if t.stays[lane] if kind == OWN else t.may_take[g.filter_rule[g.lane_filter[lane]], node]:
            measured, radians = (
                t.table[g.region[lane], g.site[node]],
                arc(g.lane_xyz, lane, g.node_xyz, node),
            )
            ms = t.node_ms[kind, node]
            out_ms[i] = cost(
                measured, t.last[lane], t.traffic[lane], t.slope[lane], radians, t.base[lane], ms
            )
        else:
            out_ms[i] = np.inf
