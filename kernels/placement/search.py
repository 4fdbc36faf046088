"""Improves a placement of whole lanes. A waiting lane is fitted in by moving others. Moves, swaps
and chains of two are made while they save cost. Among nodes of equal cost, lanes go where the load
is lower.

All functions change `place` [L] (node, -1: it waits) and `free` [N] (remaining room) in place."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels.jit import njit
from kernels.placement.candidates import NO_LISTS, Lists
from kernels.tables import Candidates, Floats, Ints, Marks, Singles

WORTH = 0.01  # share of a lane's cost of waiting to save before another waits in its place
EXPONENTS = 1100  # of float64, on either side of 0


class _Chains(NamedTuple):
    """A placement, with the lanes at each node as a doubly linked list: `first` int32[N]; `after`
    and `before` int32[L]; -1: none."""

    place: Ints
    free: Floats
    first: Ints
    after: Ints
    before: Ints


_NONE = np.empty(0, dtype=np.int32)
_NO_CHAINS = _Chains(_NONE, np.empty(0), _NONE, _NONE, _NONE)


@njit("_Chains(int32[::1], float64[::1])", _NO_CHAINS)
def _link_lanes(place: Ints, free: Floats) -> _Chains:
    """The lists of these lanes."""
    first = np.full(len(free), -1, dtype=np.int32)
    after = np.full(len(place), -1, dtype=np.int32)
    before = np.full(len(place), -1, dtype=np.int32)
    for lane in range(len(place) - 1, -1, -1):
        n = place[lane]
        if n >= 0:
            after[lane] = first[n]
            if first[n] >= 0:
                before[first[n]] = lane
            first[n] = lane
    return _Chains(place, free, first, after, before)


@njit("void(int64, int64, float64, _Chains)", _NO_CHAINS)
def _move_lane(lane: int, to: int, load: float, chains: _Chains) -> None:
    """Moves a lane; -1 makes it wait."""
    place, free, first, after, before = chains
    was = place[lane]
    if was >= 0:
        free[was] += load
        if before[lane] >= 0:
            after[before[lane]] = after[lane]
        else:
            first[was] = after[lane]
        if after[lane] >= 0:
            before[after[lane]] = before[lane]
    place[lane] = to
    if to >= 0:
        free[to] -= load
        before[lane], after[lane] = -1, first[to]
        if first[to] >= 0:
            before[first[to]] = lane
        first[to] = lane


@njit("int64(Lists, float64[::1], float64[::1], int32[::1], int64[::1], float64, int64)", NO_LISTS)
def improve_placement(
    lists: Lists, price: Floats, free: Floats, place: Ints, order: Marks, least: float, looks: int
) -> int:
    """Makes the moves, swaps and chains that save more than `least` (ms x events/s), for lanes in
    this `order` [L]. Stops when there are none, or after `looks` pairs of lanes. Returns how many
    lanes it moved.

    A lane may go where there is room, swap with another, or push another on to where there is room.
    Prices (`price` [N]) bound what most of these can save, so that those not worth a look are
    skipped: a lane that goes from b to c pays at least the difference of their prices, unless it is
    not where its cost plus price is lowest."""
    node, cost_ms, _, load = lists
    lanes, width = node.shape
    nodes = len(free)
    chains = _link_lanes(place, free)
    first, after = chains.first, chains.after
    now = np.zeros(lanes)
    lowest = np.full(lanes, np.inf)  # cost plus price at the best node
    for lane in range(lanes):
        for w in range(width):
            n = node[lane, w]
            if n < 0:
                break
            lowest[lane] = min(lowest[lane], cost_ms[lane, w] + price[n])
            if n == place[lane]:
                now[lane] = cost_ms[lane, w]
    dearest = np.empty(
        2 * EXPONENTS
    )  # highest price of a node with that much room left, by power of two
    regret = np.empty(nodes)  # the most that one of its lanes would save if only prices counted
    moves = 0
    # bounds for this round, to skip pairs of lanes
    while looks > 0:
        moved = moves
        dearest[:] = -np.inf
        regret[:] = 0.0
        for n in range(nodes):
            e = math.frexp(max(free[n], 0.0))[1] + EXPONENTS
            dearest[e] = max(dearest[e], price[n])
        for e in range(2 * EXPONENTS - 2, -1, -1):
            dearest[e] = max(dearest[e], dearest[e + 1])
        for lane in range(lanes):
            n = place[lane]
            if n >= 0:
                regret[n] = max(regret[n], (now[lane] + price[n] - lowest[lane]) * load[lane])
        for lane in order:
            a = place[lane]
            if a < 0:
                continue
            weight = load[lane]
            gain = max(least, 1e-6 * weight)
            to = other = onto = -1
            to_ms = onto_ms = 0.0
            for w in range(width):
                b = node[lane, w]
                if b < 0:
                    break
                won = (now[lane] - cost_ms[lane, w]) * weight
                if b == a or won <= gain:
                    continue
                if free[b] >= weight:
                    gain, to, to_ms, other = won, b, cost_ms[lane, w], -1
                    continue
                # no room at b: skip it if even the best swap or chain could not save enough
                need = weight - free[b]
                dear = max(dearest[math.frexp(need)[1] + EXPONENTS], price[a])
                fall = price[b] - dear
                if (
                    won - need * max(fall, 0.0) + (weight + free[a]) * max(-fall, 0.0) + regret[b]
                    <= gain
                ):
                    continue
                third = first[b] if looks > 0 else -1
                while third >= 0:
                    looks -= 1
                    more = load[third]
                    if more < need or won - more * (lowest[third] - now[third] - dear) <= gain:
                        third = after[third]
                        continue
                    most = now[third] + (won - gain) / more
                    for v in range(width):
                        c = node[third, v]
                        if c < 0:
                            break
                        if cost_ms[third, v] >= most or c == b:
                            continue
                        if more <= free[c] + (weight if c == a else 0.0):
                            most = cost_ms[third, v]
                            gain = won - (most - now[third]) * more
                            to, to_ms = b, cost_ms[lane, w]
                            other, onto, onto_ms = third, c, most
                    third = after[third]
            if to < 0:
                continue
            if other >= 0:
                _move_lane(other, onto, load[other], chains)
                now[other] = onto_ms
                moves += 1
            _move_lane(lane, to, weight, chains)
            now[lane] = to_ms
            moves += 1
        if moves == moved:
            break
    return moves


@njit(
    "int64(int64, int32[::1], float32[::1], Lists, int32[::1], boolean, _Chains)",
    *(NO_LISTS, _NO_CHAINS),
)
def _make_way(
    lane: int,
    wide_node: Ints,
    wide_cost_ms: Singles,
    lists: Lists,
    rank: Ints,
    equals: bool,
    chains: _Chains,
) -> int:
    """Makes room for `lane` at one of the nodes `wide_node` [K]: removes lanes of lower rank where
    that costs least load. If there are none, and with `equals`: removes one of the same rank where
    it is clearly cheaper that it waits instead.

    Returns the node, or -1."""
    node, cost_ms, wait_ms, load = lists
    _, free, first, after, _ = chains
    weight = load[lane]
    least, gain = np.inf, wait_ms[lane] * weight * WORTH
    to = out = -1
    for w in range(len(wide_node)):
        b = wide_node[w]
        if b < 0:
            break
        lower = free[b]
        third = first[b]
        while third >= 0:
            more = load[third]
            if rank[third] < rank[lane]:
                lower += more
                if free[b] + more >= weight and more < least:
                    least, to, out = more, b, third
            elif (
                equals
                and rank[third] == rank[lane]
                and more < weight
                and free[b] + more >= weight
                and least == np.inf
            ):
                won = (wait_ms[lane] - wide_cost_ms[w]) * weight
                for v in range(node.shape[1]):
                    if node[third, v] == b:
                        won -= (wait_ms[third] - cost_ms[third, v]) * more
                        if won > gain:
                            gain, to, out = won, b, third
                        break
            third = after[third]
        if lower >= weight and weight - free[b] < least:
            least, to, out = weight - free[b], b, -1
    if out >= 0:
        _move_lane(out, -1, load[out], chains)
    while to >= 0 and free[to] < weight:  # the least important first; of these, the heaviest
        out = -1
        third = first[to]
        while third >= 0:
            if rank[third] < rank[lane] and (
                out < 0
                or rank[third] < rank[out]
                or (rank[third] == rank[out] and load[third] > load[out])
            ):
                out = third
            third = after[third]
        _move_lane(out, -1, load[out], chains)
    return to


@njit(
    "int64(int32[::1], Candidates, Lists, float64[::1], int32[::1], int32[::1], boolean, boolean)",
    *(NO_LISTS, Candidates(NO_LISTS.node, NO_LISTS.cost_ms)),
)
def fit_in_lanes(
    waits: Ints,
    wide: Candidates,
    lists: Lists,
    free: Floats,
    place: Ints,
    rank: Ints,
    force: bool,
    equals: bool,
) -> int:
    """Gives room to the lanes `waits` [R] one by one: where there is some, or where one other lane
    can go elsewhere. With `force` also where lanes of a lower `rank` [L] must leave, or, with
    `equals`, one lighter lane of the same rank for which waiting, at `wait_ms` [L], costs less.
    Returns how many got room.

    `wide`: these lanes' own lists, which may be longer."""
    node, cost_ms, _, load = lists
    wide_node, wide_cost_ms = wide
    width = node.shape[1]
    chains = _link_lanes(place, free)
    first, after = chains.first, chains.after
    fitted = 0
    for r in range(len(waits)):
        lane = waits[r]
        weight = load[lane]
        gap = free.max()
        best = np.inf
        to = other = onto = -1
        for w in range(wide_node.shape[1]):
            b = wide_node[r, w]
            if b < 0:
                break
            if free[b] >= weight and wide_cost_ms[r, w] * weight < best:
                best, to = wide_cost_ms[r, w] * weight, b
        for turn in range(2):  # the short list first
            use_wide = turn == 1
            if use_wide and to >= 0:
                break
            for w in range(wide_node.shape[1] if use_wide else width):
                b = wide_node[r, w] if use_wide else node[lane, w]
                if b < 0:
                    break
                mine = (wide_cost_ms[r, w] if use_wide else cost_ms[lane, w]) * weight
                if free[b] >= weight or free[b] + gap < weight or mine >= best:
                    continue
                third = first[b]
                while third >= 0:
                    more = load[third]
                    if free[b] + more >= weight and gap >= more:
                        now = 0.0
                        for v in range(width):
                            if node[third, v] == b:
                                now = cost_ms[third, v]
                                break
                        for v in range(width):
                            c = node[third, v]
                            if c < 0:
                                break
                            if (
                                c != b
                                and free[c] >= more
                                and mine + (cost_ms[third, v] - now) * more < best
                            ):
                                best = mine + (cost_ms[third, v] - now) * more
                                to, other, onto = b, third, c
                    third = after[third]
        if other >= 0:
            _move_lane(other, onto, load[other], chains)
        if to < 0 and force:
            to = _make_way(lane, wide_node[r], wide_cost_ms[r], lists, rank, equals, chains)
        if to >= 0:
            _move_lane(lane, to, weight, chains)
            fitted += 1
    return fitted


@njit("int64(Lists, float64[::1], int32[::1], int32[::1], float64[::1], float64, int64)", NO_LISTS)
def even_out_load(
    lists: Lists, free: Floats, place: Ints, owner: Ints, room: Floats, tie_ms: float, rounds: int
) -> int:
    """Moves lanes that are not at their `owner` to nodes of the same cost within `tie_ms` that stay
    less full in proportion to `room` [N], what they may hold in total. Returns the number of
    moves."""
    node, cost_ms, _, load = lists
    lanes, width = node.shape
    moves = 0
    for _ in range(rounds):
        moved = moves
        for lane in range(lanes):
            a = place[lane]
            if a < 0 or a == owner[lane] or room[a] <= 0:
                continue
            now = 0.0
            for w in range(width):
                if node[lane, w] == a:
                    now = cost_ms[lane, w]
            fullness = 1 - free[a] / room[a]
            to = -1
            for w in range(width):
                b = node[lane, w]
                if b < 0:
                    break
                if (
                    b == a
                    or cost_ms[lane, w] > now + tie_ms
                    or cost_ms[lane, w] < now - tie_ms
                    or free[b] < load[lane]
                ):
                    continue
                if (
                    room[b] <= 0
                    or (fullness - (1 - (free[b] - load[lane]) / room[b]))
                    <= 1e-9 * load[lane] / room[b]
                ):
                    continue
                fullness = 1 - (free[b] - load[lane]) / room[b]
                to = b
            if to >= 0:
                free[a] += load[lane]
                free[to] -= load[lane]
                place[lane] = to
                moves += 1
        if moves == moved:
            break
    return moves
