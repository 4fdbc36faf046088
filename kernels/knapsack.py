"""What it costs that lanes are whole: a lower bound on every placement of whole lanes, above the
split optimum.

Each lane gets a worth `u`. Each node keeps the lanes that fit into its room together and gain most,
where a lane's gain is its worth minus its cost (a 0/1 knapsack). Then `sum u - sum of the nodes'
gains` is below every placement of whole lanes, whatever `u` is. This is the Lagrangian bound of the
generalized assignment problem (Fisher, "The Lagrangian relaxation method for solving integer
programming problems", Management Science 27, 1981). From the prices of the split optimum `u` climbs
by subgradient steps: a lane that two nodes want becomes worth less, one that no node wants becomes
worth more.

The knapsacks are solved from the split item outwards (Pisinger, "A minimal algorithm for the 0-1
knapsack problem", Operations Research 45, 1997): a list of undominated choices is kept, to which
one lane after the other is added or removed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.tables import Floats

STEPS = 100
PATIENCE = 12  # steps without a better bound before they get shorter
FIRST, SHORTER, LAST = 0.1, 1.6, 1e-4  # step sizes, as shares of the remaining distance
SMOOTH = 0.6  # weight of the previous direction
# how far a knapsack's solution may be from its best, as a share of a node's part of the cost
NEAR = 1e-4
# the most undominated choices that are kept; beyond them, and beyond CORE lanes, their bound stands
# for the best
CHOICES = 4096
CORE = 60  # the most lanes that one knapsack considers

Rows = npt.NDArray[np.int64]


@njit(
    "float64(float64[::1], float64[::1], int64, float64, float64, float64, float64, boolean[::1])"
)
def _thought_over(
    gain: Floats,
    load: Floats,
    some: int,
    total: float,
    left: float,
    best: float,
    near: float,
    taken: npt.NDArray[np.bool_],
) -> float:
    """Continues from the `some` densest lanes, which gain `total` and leave room `left`: which of
    them must go, and which others come in, to gain more than `best`?

    Returns a value that no choice exceeds, and writes a choice to `taken`."""
    lanes = len(gain)
    thick = gain[some - 1] / load[some - 1] if some > 0 else np.inf
    thin = gain[some] / load[some]
    out, into = np.empty(lanes, dtype=np.int64), np.empty(lanes, dtype=np.int64)
    outs = intos = 0
    # candidates: only lanes whose change could still beat `best` by a split bound
    for i in range(some - 1, -1, -1):
        if total - gain[i] + (left + load[i]) * thin > best + near:
            out[outs] = i
            outs += 1
    for i in range(some, lanes):
        over = left - load[i]
        if total + gain[i] + over * (thin if over >= 0 else thick) > best + near:
            into[intos] = i
            intos += 1
    room, worth, which = np.empty(CHOICES), np.empty(CHOICES), np.empty(CHOICES, dtype=np.uint64)
    new_room, new_worth, new_which = (
        np.empty(CHOICES),
        np.empty(CHOICES),
        np.empty(CHOICES, dtype=np.uint64),
    )
    room[0], worth[0], which[0] = left, total, np.uint64(0)
    core = np.empty(CORE, dtype=np.int64)
    found, better, choices, c, o, i = np.uint64(0), False, 1, 0, 0, 0
    limit, full = -np.inf, False
    while choices > 0 and (o < outs or i < intos) and c < CORE and not full:
        if i < intos and (i <= o or o == outs):
            lane, d_room, d_worth = into[i], -load[into[i]], gain[into[i]]
            i += 1
        else:
            lane, d_room, d_worth = out[o], load[out[o]], -gain[out[o]]
            o += 1
        core[c] = lane
        bit = np.uint64(1) << np.uint64(c)
        c += 1
        rise = (
            gain[into[i]] / load[into[i]] if i < intos else 0.0
        )  # per event/s of room that is left
        fall = gain[out[o]] / load[out[o]] if o < outs else np.inf  # per event/s that is missing
        # Both lists are sorted by room, the most first. Of the choices with less room, only those
        # worth more are kept.
        x = y = kept = 0
        most, limit = -np.inf, -np.inf
        while x < choices or y < choices:
            if y >= choices or (x < choices and room[x] >= room[y] + d_room):
                r, v, w = room[x], worth[x], which[x]
                x += 1
            else:
                r, v, w = room[y] + d_room, worth[y] + d_worth, which[y] | bit
                y += 1
            if v <= most:
                continue
            most = v
            if r >= 0 and v > best:
                best, found, better = v, w, True
            reach = v + r * (rise if r >= 0 else fall)
            if reach > best + near:
                limit = max(limit, reach)
                if kept == CHOICES:
                    full = True
                    continue
                new_room[kept], new_worth[kept], new_which[kept] = r, v, w
                kept += 1
        choices = kept
        room, new_room, worth, new_worth, which, new_which = (
            new_room,
            room,
            new_worth,
            worth,
            new_which,
            which,
        )
    if better:
        taken[:some] = True
        taken[some:] = False
        for k in range(c):
            if found >> np.uint64(k) & np.uint64(1):
                taken[core[k]] = not taken[core[k]]
    return max(limit, best + near)


@njit("float64(float64[::1], float64[::1], float64, float64, int64[::1], float64[::1])")
def best_choice(
    gain: Floats, load: Floats, room: float, near: float, which: Rows, takers: Floats
) -> float:
    """At least the most that lanes which fit into `room` together can gain. Adds 1 to
    `takers[which[i]]` for the lanes of one choice: one within `near` of the best, or the best one
    seen.

    `gain` float64[K] > 0, `load` float64[K] > 0. No lane is heavier than `room`. The densest (gain
    divided by load) come first."""
    lanes = len(gain)
    taken = np.zeros(lanes, dtype=np.bool_)
    some, total, left = 0, 0.0, room
    while some < lanes and load[some] <= left:
        total += gain[some]
        left -= load[some]
        taken[some] = True
        some += 1
    best, rest = total, left
    for i in range(some, lanes):  # add whatever still fits
        if load[i] <= rest:
            best += gain[i]
            rest -= load[i]
            taken[i] = True
    split = total + left * gain[some] / load[some] if some < lanes else total
    if split - best > near:
        split = min(split, _thought_over(gain, load, some, total, left, best, near, taken))
    for i in range(lanes):
        if taken[i]:
            takers[which[i]] += 1
    return split


@njit("float64(float64[::1], float64[:, ::1], float64[::1], float64[::1], float64, float64[::1])")
def _bound(
    u: Floats, cost: Floats, load: Floats, room: Floats, near: float, takers: Floats
) -> float:
    """The bound at `u`; `cost` float64[N, L]. Writes to `takers` float64[L] how many nodes take
    each lane."""
    takers[:] = 0
    value = 0.0
    for lane in range(len(u)):
        value += u[lane]
    for n in range(len(room)):
        some = np.flatnonzero((u > cost[n]) & (load <= room[n]))
        if len(some):
            gain = u[some] - cost[n][some]
            order = np.argsort(-gain / load[some], kind="mergesort")
            some = some[order]
            value -= best_choice(gain[order], load[some], room[n], near, some, takers)
    return value


def whole_bound(
    cost: Floats,
    wait: Floats,
    load: Floats,
    room: Floats,
    price_ms: Floats,
    above: float,
    *,
    enough: float = math.inf,
    steps: int = STEPS,
) -> float:
    """A cost that no placement of whole lanes is below, in ms x events/s. Stops once it reaches
    `enough`.

    `cost` float64[L, N]: of all a lane's events at a node (inf: not allowed there). `wait`
    float64[L]: of a lane that is not placed. `load` > 0 float64[L] and `room` float64[N] in
    events/s. `price_ms` float64[N]: of the split optimum. `above`: a placement's cost."""
    u = np.minimum(wait, (cost + load[:, None] * price_ms).min(axis=1))
    by_node = np.ascontiguousarray(cost.T)
    near = NEAR * above / len(room)
    best, keep, slope, share, idle = -math.inf, u, np.zeros(len(load)), FIRST, 0
    takers = np.zeros(len(load))
    for _ in range(steps):
        value = _bound(u, by_node, load, room, near, takers)
        if value > best:
            best, keep, idle = value, u, 0
            if best >= enough:
                break
        elif (idle := idle + 1) >= PATIENCE:
            u, share, idle = keep, share / SHORTER, 0
            continue
        slope = SMOOTH * slope + (1 - SMOOTH) * (1 - takers)
        steepness = float((slope * slope * load).sum())
        if steepness == 0 or share < LAST:
            break
        u = np.minimum(wait, u + share * (above - value) / steepness * slope * load)
    return best
