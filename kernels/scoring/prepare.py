"""The tables that every exact kernel reads, and the arithmetic that they share: float32, equal to
the bit on any device.

A **place** is a row after sorting: lanes by filter group and then along a Z-order curve, nodes into
compact blocks. There are L lanes and N nodes; P is N rounded up to a multiple of 64 (BLOCK), S the
number of regions in the RTT table, B that of brokers, F the number of filter groups (pairs of row of
the table and rule that occur), G that of list groups (filter group and traffic), D = min(k + 1, N).

`Ground`, made once for the same places, sites and rules (nearest_nodes.py):

    lane_row       int32[L]     row of the lane at each place
    lane_place     int32[L]     place of each row
    lane_xyz       float32[3,L] unit vector, by place; in steps of 2^-26, as is node_xyz (so nothing below is ever subnormal)
    lane_filter    int32[L]     filter group, by place; never decreases
    region         int32[L]     row of the table for the lane, by place: its broker's if it has one, else that of the
                                nearest region; 0 when S = 0
    near_km        float64[L]   kilometres from the nearest region to the lane, by place
    first          int32[F+1]   first place of each filter group, and L
    filter_region  int32[F]     row of the table of each filter group
    filter_rule    int32[F]     row of its rule, -1 for none
    node_row       int32[P]     row of the node at each place; 2^31 - 1 in the padding
    node_place     int32[N]     place of each row
    node_xyz       float32[3,P] unit vector, by place; the padding repeats the last one
    site           int32[P]     the node's column of the table: that of its region, or its own (its row) if any lane has
                                a broker; the last one for none and in the padding
    cap_xyz        float32[3,P/64], cap_rad float32[P/64]
                                a cap that holds the 64 nodes of each block; the radius in radians
                                is 1e-3 too large, so that 1 - cos in float32 will do

`ScoringTick`, made for each problem:

    slope          float32[L]   ms per radian: traffic * b_ms_per_km * EARTH_KM (0 if below 1e-9), by place
    base           float32[L]   traffic * a_ms, by place
    last           float32[L]   traffic * (a_ms + b_ms_per_km * near_km), 0 for a lane with a broker, by place
    traffic        float32[L]   by place
    own            int32[L]     place of the lane's own node, -1 for none, by place of the lane
    stays          bool[L]      whether the lane may stay there; False for none
    warm           int32[L]     place of a node with warm caches; -1 for none, if it may not be there, and if it is the own
    node_ms        float32[3,P] egress + degraded (row 0, OWN); + move (row 1, WARM); + move + miss (row 2, OTHER)
    may_take       bool[Q+1,P]  whether each of the Q rules (in the last row: none) leaves a node that takes lanes to be given some
    table          float32[S+1,S+1] ms from the row's region to the column's; -1 if not measured, and in the last row and
                                column. float32[S+1+B,N+1] if any lane has a broker: a column per node, and after the
                                regions and the row of -1 a row per broker: round_trips * path_ms
    list_of        int32[L]     list group, by place
    list_filter    int32[G]     filter group of each list group
    list_traffic   float32[G]   traffic of each

`NearestQuery`, made for each k and price:

    key_ms         float32[3,P] node_ms + price, summed in float64 and rounded once; equal to node_ms without a price
    bias           float32[F,P] key_ms[OTHER]; NEVER if the node takes no lanes, the rule forbids it, or the pair of
                                filter_region and site was measured, and in the padding
    least          float32[F,P/64] the least bias of each block
    list_of        int32[L]     that of the Tick: the row of the lane's list
    list_node      int32[G,D]   places of the measured nodes that a lane of the group may be given and that are best for it,
                                best first; -1 after the last
    list_ms        float32[G,D] their traffic * table + key_ms[OTHER]; NEVER after the last
    priced         bool         whether there is a price

The cost of the lane at place l at the node at place n, where `ms` is node_ms[OWN, n] if own[l] ==
n, node_ms[WARM, n] if warm[l] == n, else node_ms[OTHER, n]. Each operation is rounded to float32
and none is contracted but the written fma:

    arc(l, n):  d = (x_l - x_n, y_l - y_n, z_l - z_n)
                q = fma(d0, d0, fma(d1, d1, d2 * d2))
                if q > 2:  d = (x_l + x_n, y_l + y_n, z_l + z_n)  and q again of that
                r = sqrt(q) * p(q),  p by Horner's rule from the last of ARC to the first, each step fma(sum, q, ARC[i])
                arc = PI - r if the first q was > 2, else r
    cost(l, n): m = table[region[l], site[n]]
                if m >= 0:  last[l] + ((traffic[l] * m) + ms)
                else:       fma(slope[l], arc(l, n), base[l] + ms)

`key(l, n)` is the same with key_ms in place of node_ms. It alone fixes a query's answer, so a kernel
may visit nodes in any order and skip those that cannot be among the best. The candidates are all n
that are

    own[l], if stays[l];  warm[l], if >= 0;  and any other n with bias[f, n] < NEVER, or in the lane's list,

and the answer is the K lowest by (key, node_row). If stays[l] and own[l] is not among them, it takes
the K-th place. The result holds node_row and the cost without price; where there are fewer than K, -1
and infinity. The own node is never taken from a list or by its bias, even if it may not stay; so a
list is one longer than K.

Skipping is safe by these bounds (T: the K-th key so far): arc >= chord, so n is out if 2 *
slope^2 * (1 - cos) > (T - base - bias)^2 or T < base + bias, given room for rounding; a block is
out if slope * max(0, arc to cap - cap_rad) + base + least > T."""  # noqa: E501

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.geo import EARTH_KM
from kernels.scoring.nearest_nodes import BLOCK, Ground, Keys, ground_of_problem
from kernels.tables import Bools, Floats, Ints, Problem, Singles, check_price

NEVER = np.float32(1e17)
FEASIBLE = np.float32(
    1e15
)  # above every cost, below NEVER plus anything added to it; the square of either is a float32
OWN, WARM, OTHER = 0, 1, 2
ARC = (
    1.0,
    0.04166748374700546,
    0.004679279401898384,
    0.0007286908803507686,
    6.182775541674346e-05,
    7.639543036930263e-05,
    -2.2960515707382e-05,
    6.833550742157968e-06,
)
"""2 asin(sqrt(q) / 2) / sqrt(q) for q in [0, 2]. Each coefficient is exact in float32; the arc is
off by at most 2.4e-7 rad."""

LEAST_SLOPE = 1e-9
LISTED = 1 << 22  # pairs of list and node handled at a time
MOST_CODES = 1 << 24


class ScoringTick(NamedTuple):
    """See above."""

    ground: Ground
    slope: Singles
    base: Singles
    last: Singles
    traffic: Singles
    own: Ints
    stays: Bools
    warm: Ints
    node_ms: Singles
    may_take: Bools
    table: Singles
    list_of: Ints
    list_filter: Ints
    list_traffic: Singles


class NearestQuery(NamedTuple):
    """See above."""

    key_ms: Singles
    bias: Singles
    least: Singles
    list_of: Ints
    list_node: Ints
    list_ms: Singles
    priced: bool


class Selection(NamedTuple):
    """The lanes asked about, sorted by place. `place` int32[R]. `out` int32[R]: the row of the
    answer for each. `first` int32[F + 1]: where each filter group begins, and R."""

    place: Ints
    out: Ints
    first: Ints


def prepare_tick(p: Problem) -> ScoringTick:
    """The tables of a checked problem."""
    g = ground_of_problem(p)
    traffic = p.lanes.traffic[g.lane_row]
    slope = traffic * (p.rtt.b_ms_per_km * EARTH_KM)
    own, stays, warm = _own_and_warm_nodes(p)
    place = np.append(g.node_place, np.int32(-1))
    lists = _group_lists(g, traffic.astype(np.float32))
    return ScoringTick(
        ground=g,
        slope=np.where(slope < LEAST_SLOPE, 0.0, slope).astype(np.float32),
        base=(traffic * p.rtt.a_ms).astype(np.float32),
        last=np.where(
            p.lanes.source[g.lane_row] >= 0,
            0.0,
            traffic * (p.rtt.a_ms + p.rtt.b_ms_per_km * g.near_km),
        ).astype(np.float32),
        traffic=traffic.astype(np.float32),
        own=place[own[g.lane_row]],
        stays=stays[g.lane_row],
        warm=place[warm[g.lane_row]],
        node_ms=_compute_node_ms(p, g, None),
        may_take=_compute_may_take(p, g),
        table=_make_rtt_table(p),
        list_of=lists[0],
        list_filter=lists[1],
        list_traffic=lists[2],
    )


def prepare_query(p: Problem, t: ScoringTick, k: int, price_ms: Floats | None) -> NearestQuery:
    """The tables for the `k` best at this price. Raises ValueError for a price that is negative or
    not finite."""
    if price_ms is not None:
        check_price(price_ms, len(p.nodes.lat))
    g = t.ground
    key_ms = t.node_ms if price_ms is None else _compute_node_ms(p, g, price_ms)
    measured = t.table[g.filter_region][:, g.site] >= 0
    bias = np.where(t.may_take[g.filter_rule] & ~measured, key_ms[OTHER], NEVER)
    least = (
        bias.reshape(len(bias), -1, BLOCK).min(axis=2)
        if bias.size
        else np.zeros((len(bias), 0), dtype=np.float32)
    )
    list_node, list_ms = _make_lists(t, key_ms, min(k + 1, max(1, len(p.nodes.lat))))
    return NearestQuery(key_ms, bias, least, t.list_of, list_node, list_ms, price_ms is not None)


def select_lanes(g: Ground, rows: Ints | None) -> Selection:
    """All lanes, or those in `rows` (int32[R], any order, repeats allowed)."""
    if rows is None:
        return Selection(np.arange(len(g.lane_row), dtype=np.int32), g.lane_row, g.first)
    places = g.lane_place[rows]
    out = np.argsort(places, kind="stable").astype(np.int32)
    place = places[out]
    return Selection(place, out, np.searchsorted(place, g.first).astype(np.int32))


def _own_and_warm_nodes(p: Problem) -> tuple[Ints, Bools, Ints]:
    """By row of the lane: the own node's row, whether it may stay there, and a warm node where it
    may be (rows, -1 for none)."""
    lanes, nodes = p.lanes, p.nodes
    may = np.vstack((p.allowed, np.ones((1, len(nodes.lat)), dtype=bool)))
    stays, warm = np.zeros(len(lanes.lat), dtype=bool), np.full(len(lanes.lat), -1, dtype=np.int32)
    at = np.flatnonzero(lanes.owner >= 0)
    stays[at] = nodes.keeps[lanes.owner[at]] & may[lanes.rule[at], lanes.owner[at]]
    at = np.flatnonzero((lanes.warm >= 0) & (lanes.warm != lanes.owner))
    at = at[nodes.takes[lanes.warm[at]] & may[lanes.rule[at], lanes.warm[at]]]
    warm[at] = lanes.warm[at]
    return lanes.owner, stays, warm


def _compute_node_ms(p: Problem, g: Ground, price_ms: Floats | None) -> Singles:
    own = p.nodes.egress_ms + p.nodes.degraded_ms
    if price_ms is not None:
        own = own + price_ms
    warm = own + p.weights.move_ms
    out = np.zeros((3, len(g.node_row)), dtype=np.float32)
    out[:, g.node_place] = np.stack((own, warm, warm + p.weights.miss_ms))
    return out


def _make_rtt_table(p: Problem) -> Singles:
    regions, brokers, nodes = len(p.rtt.lat), len(p.path_ms), len(p.nodes.lat)
    out = np.full((regions + 1, regions + 1), -1.0, dtype=np.float32)
    out[:regions, :regions] = np.where(p.rtt.measured, p.rtt.rtt_ms, -1.0)
    if not (p.lanes.source >= 0).any():
        return out
    by_node = np.full((regions + 1 + brokers, nodes + 1), -1.0, dtype=np.float32)
    by_node[: regions + 1, :nodes] = out[:, p.nodes.site]  # -1: the last column, where all are -1
    by_node[regions + 1 :, :nodes] = p.weights.round_trips * p.path_ms
    return by_node


def _compute_may_take(p: Problem, g: Ground) -> Bools:
    out = np.zeros((len(p.allowed) + 1, len(g.node_row)), dtype=bool)
    out[:-1, g.node_place] = p.allowed & p.nodes.takes
    out[-1, g.node_place] = p.nodes.takes
    return out


def _group_lists(g: Ground, traffic: Singles) -> tuple[Ints, Ints, Singles]:
    """The list of each lane, int32[L], and each list's filter group, int32[G], and traffic,
    float32[G]. Each lane may have its own list; usually there are few."""
    values = np.unique(traffic)
    code = g.lane_filter.astype(np.int64) * len(values)
    if len(values) > 1:
        code += np.searchsorted(values, traffic)
    codes = len(g.filter_region) * len(values)
    if codes <= MOST_CODES:
        occurs = np.zeros(codes, dtype=bool)
        occurs[code] = True
        used, list_of = np.flatnonzero(occurs), (np.cumsum(occurs, dtype=np.int32) - 1)[code]
    else:
        used, inverse = np.unique(code, return_inverse=True)
        list_of = inverse.astype(np.int32)
    return (
        list_of,
        (used // max(1, len(values))).astype(np.int32),
        values[used % max(1, len(values))],
    )


def _make_lists(t: ScoringTick, key_ms: Singles, depth: int) -> tuple[Ints, Singles]:
    """The best measured nodes of each list group. Only the `depth` best nodes of a column can be
    among the best of all."""
    g, group_filter, group_traffic = t.ground, t.list_filter, t.list_traffic
    none = t.table.shape[1] - 1
    list_node = np.full((len(group_filter), depth), -1, dtype=np.int32)
    list_ms = np.full((len(group_filter), depth), NEVER, dtype=np.float32)
    for rule in np.unique(g.filter_rule):
        nodes = np.flatnonzero(t.may_take[rule] & (g.site < none))
        nodes = nodes[np.lexsort((g.node_row[nodes], key_ms[OTHER, nodes], g.site[nodes]))]
        begins = np.searchsorted(g.site[nodes], np.arange(none + 1))
        nodes = nodes[np.arange(len(nodes)) - begins[g.site[nodes]] < depth]
        if not len(nodes):
            # cost and row in one integer, so that one sort orders by both
            continue
        width = min(depth, len(nodes))
        groups = np.flatnonzero(g.filter_rule[group_filter] == rule)
        for chunk in np.array_split(groups, -(-len(groups) * len(nodes) // LISTED)):
            table_ms = t.table[g.filter_region[group_filter[chunk]]][:, g.site[nodes]]
            ms = group_traffic[chunk, None] * table_ms + key_ms[OTHER, nodes]
            ms = np.where(table_ms >= 0, ms, NEVER)
            order: Keys = (ms.view(np.uint32).astype(np.uint64) << np.uint64(32)) | g.node_row[
                nodes
            ].astype(np.uint64)
            order = np.sort(np.partition(order, width - 1, axis=1)[:, :width], axis=1)
            best_ms = (order >> np.uint64(32)).astype(np.uint32).view(np.float32)
            best = g.node_place[(order & np.uint64(0xFFFFFFFF)).astype(np.int64)]
            list_ms[chunk, :width] = best_ms
            list_node[chunk, :width] = np.where(best_ms < FEASIBLE, best, -1)
    return list_node, list_ms
