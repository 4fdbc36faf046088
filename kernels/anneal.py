"""Searches a small fleet of heavy lanes further, by simulated annealing.

Lanes are moved and swapped at random. At first a step may also cost something, and may exceed a
node's room for a price. Lanes that end beyond the room are then fitted in again, and the search
continues within the room.

Kirkpatrick, Gelatt, Vecchi, "Optimization by Simulated Annealing", Science 220 (1983). Random
numbers: Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (2003)."""

from __future__ import annotations

import numpy as np

from kernels.jit import HAVE_NUMBA, njit
from kernels.placement.candidates import Lists, matrix, priced_ms
from kernels.placement.integral import finish
from kernels.tables import Floats, Ints

STEPS, MOST_STEPS = 2_500, 2_500_000  # for each lane, and in total, in each phase
NEAREST = 30  # nodes that a lane tries: the cheapest for it, prices included
PHASES = ((0.8, 0.1), (2.0, 0.3), (np.inf, 0.15))
"""For each phase of the search: the price of exceeding a node's room at the start, as a multiple of
the node's price (inf: the room is never exceeded); and what a step may cost at the start, as a
share of a node's part of the gap."""
DEAR_LAST = 10.0  # that multiple at the end
LEAST_PRICE = 0.1  # share of the mean price that is added to each node's here, so that none is free
OUT = 2  # the most lanes that make way for one
ELSEWHERE = 0.2  # share of those making way that do not go where the new lane comes from
SEED = 88172645463325252


def anneal(
    lists: Lists, room: Floats, rank: Ints, price: Floats, place: Ints, gap: float, least: float
) -> Ints:
    """A cheaper placement, int32[L], or `place` itself. Also `place` itself if a lane waits, or
    without numba, which would take minutes.

    `room`, `price` float64[N]. `gap`: what `place` costs above the proven bound. `least`: what the
    last search must save, in ms x events/s. The same input gives the same output."""
    if (place < 0).any() or gap <= 0 or not HAVE_NUMBA:
        return place
    lanes, nodes = len(place), len(room)
    order = np.argsort(priced_ms(lists.node, lists.cost_ms, price), axis=1, kind="stable")[
        :, :NEAREST
    ]
    near = np.ascontiguousarray(np.take_along_axis(lists.node, order, axis=1))
    cost = matrix(lists.node, lists.cost_ms, lists.load, nodes)
    dear = price + LEAST_PRICE * price.mean()
    best = place
    for times, share in PHASES:
        new = best.copy()
        _wander(
            near,
            cost,
            lists.load,
            room,
            dear,
            times,
            new,
            share * gap / nodes,
            min(MOST_STEPS, STEPS * lanes),
        )
        _shed(lists.load, room, new)
        finish(lists, room, rank, price, new, least)
        if (new >= 0).all() and _value(cost, new) < _value(cost, best):
            best = new
    return best


def _value(cost: Floats, place: Ints) -> float:
    return float(cost[np.arange(len(place)), place].sum())


def _shed(load: Floats, room: Floats, place: Ints) -> None:
    """Until no node exceeds its room, takes one lane from each that does: the lightest that is
    enough, or else the heaviest."""
    free = room - np.bincount(place, load, minlength=len(room))
    for n in np.flatnonzero(free < -1e-9 * room):
        while free[n] < 0:
            here = np.flatnonzero(place == n)
            enough = here[load[here] >= -free[n]]
            out = enough[np.argmin(load[enough])] if len(enough) else here[np.argmax(load[here])]
            place[out] = -1
            free[n] += load[out]


@njit("uint64(uint64)")
def _next(x: np.uint64) -> np.uint64:
    """The random number after this one."""
    x = x ^ (x << np.uint64(13))
    x = x ^ (x >> np.uint64(7))
    return x ^ (x << np.uint64(17))


@njit("float64(uint64)")
def _low(x: np.uint64) -> float:
    """From 0 to 1, from the lower half of a random number."""
    return float(x & np.uint64(0xFFFFFFFF)) * 2.0**-32


@njit("float64(uint64)")
def _high(x: np.uint64) -> float:
    """From 0 to 1, from the upper half."""
    return float(x >> np.uint64(32)) * 2.0**-32


@njit("float64(float64, float64)")
def _beyond(free: float, more: float) -> float:
    """How much further the node exceeds its room with `more` load added."""
    return max(more - free, 0.0) - max(-free, 0.0)


@njit(
    "void(int32[:, ::1], float64[:, ::1], float64[::1], float64[::1], float64[::1], float64, "
    "int32[::1], float64, int64)"
)
def _wander(
    near: Ints,
    cost: Floats,
    load: Floats,
    room: Floats,
    dear: Floats,
    dear_first: float,
    place: Ints,
    step: float,
    steps: int,
) -> None:
    """Takes random steps from `place`, which it changes. What a step may cost falls from about
    `step` ms x events/s to nothing.

    `near` [L, W]: nodes that a lane tries. `cost` [L, N]: of all its events. Each step moves a lane
    to a node. If there is no room for it, up to OUT other lanes leave. With a finite `dear_first`
    the room may be exceeded: that costs `dear` [N] for each event/s, at first `dear_first` times
    and at last DEAR_LAST times that; the result is the last placement. With inf the room is never
    exceeded, and the result is the best placement seen."""
    lanes, width = near.shape
    nodes = len(room)
    within = np.isinf(dear_first)
    x = np.uint64(SEED)
    free = room.copy()
    count = np.zeros(nodes, dtype=np.int32)
    at = np.empty((nodes, lanes), dtype=np.int32)  # the lanes at each node, in any order
    rank = np.empty(lanes, dtype=np.int32)  # the lane's index in that list
    for lane in range(lanes):
        n = place[lane]
        at[n, count[n]], rank[lane] = lane, count[n]
        count[n] += 1
        free[n] -= load[lane]
    moved, to = np.empty(OUT + 1, dtype=np.int32), np.empty(OUT + 1, dtype=np.int32)
    now = lowest = 0.0
    best = place.copy()
    for s in range(steps):
        left = 1.0 - s / steps
        x = _next(x)
        lane, u = int(_low(x) * lanes), _high(x)
        # u * u: nearer nodes are tried more often
        a, b = place[lane], near[lane, int(u * u * width)]
        if b < 0 or b == a:
            continue
        x = _next(x)
        u = _low(x)
        most = left * step * 2 * (1 - u) / (1 + u)  # about -log(u), the same on every processor
        times = 0.0 if within else DEAR_LAST - (DEAR_LAST - dear_first) * left
        more = cost[lane, b] - cost[lane, a]
        more += times * (
            dear[a] * _beyond(free[a], -load[lane]) + dear[b] * _beyond(free[b], load[lane])
        )
        free[a] += load[lane]
        free[b] -= load[lane]
        moved[0], to[0], some = lane, b, 1
        # make room at b: a lane from there goes to a, or sometimes elsewhere
        while free[b] < 0 and some <= OUT and count[b] > 0:
            x = _next(x)
            other, u = at[b, int(_high(x) * count[b])], _low(x)
            if not within:
                if u < 0.5:
                    break
                u = 2 * u - 1
            known = False
            for i in range(1, some):
                known = known or moved[i] == other
            if known:
                break
            c = a
            if u < ELSEWHERE:
                x = _next(x)
                c = near[other, int(_low(x) * width)]
            if c < 0 or c == b or (within and free[c] < load[other]):
                break
            more += cost[other, c] - cost[other, b]
            more += times * (
                dear[b] * _beyond(free[b], -load[other]) + dear[c] * _beyond(free[c], load[other])
            )
            free[b] += load[other]
            free[c] -= load[other]
            moved[some], to[some] = other, c
            some += 1
        # refused: undo the loads, the only thing changed so far
        if more > most or (within and free[b] < 0):
            for i in range(some):
                free[place[moved[i]]] -= load[moved[i]]
                free[to[i]] += load[moved[i]]
            continue
        # accepted: keep the lists of lanes by node
        for i in range(some):
            one, n = moved[i], place[moved[i]]
            count[n] -= 1
            last = at[n, count[n]]
            at[n, rank[one]], rank[last] = last, rank[one]
            at[to[i], count[to[i]]], rank[one] = one, count[to[i]]
            count[to[i]] += 1
            place[one] = to[i]
        now += more
        if within and now < lowest:
            lowest = now
            best[:] = place
    if within:
        place[:] = best
