"""How much whole lanes cost at all: a lower bound on every placement of whole lanes that is above
the split optimum.

Each lane gets a worth `u`, each node keeps the lanes that are worth most to it beyond their cost
and fit into its room together (a 0/1 knapsack), and `sum u - sum of what the nodes gain` is below
every placement of whole lanes, whatever `u` is: the Lagrangian bound of the generalized assignment
problem (Fisher, "The Lagrangian relaxation method for solving integer programming problems",
Management Science 27, 1981). From the prices of the split optimum `u` climbs by subgradient steps,
in which a lane that two nodes want is worth less and one that none wants more.

The knapsacks are solved from the split one outwards (Pisinger, "A minimal algorithm for the 0-1
knapsack problem", Operations Research 45, 1997): what could be best is a list of undominated
choices, in which one lane after the other is put in or taken out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.tables import Floats

STEPS = 100
PATIENCE = 12  # steps without a better bound until they are shorter
FIRST, SHORTER, LAST = 0.1, 1.6, 1e-4  # steps, as shares of the way that is left
SMOOTH = 0.6  # of the direction before
# how far from a knapsack's best its solution may be, as a share of a node's part of the cost
NEAR = 1e-4
# undominated ones that are kept; beyond them, and beyond CORE lanes, their bound is taken for the
# best
CHOICES = 4096
CORE = 60  # lanes about which a knapsack has to think

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
    """Goes on from the `some` densest, which gain `total` and leave room `left`: which of them may
    have to go, and which of the others come in, for more than `best`? Returns what no choice gains
    more than, and writes one to `taken`."""
    lanes = len(gain)
    thick = gain[some - 1] / load[some - 1] if some > 0 else np.inf
    thin = gain[some] / load[some]
    out, into = np.empty(lanes, dtype=np.int64), np.empty(lanes, dtype=np.int64)
    outs = intos = 0
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
        )  # for each event/s of room that is left
        fall = gain[out[o]] / load[out[o]] if o < outs else np.inf  # for each that is missing
        # both lists have the most room first; of those with less room only who is worth more is
        # kept
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
    """Not less than the most that lanes gain which fit into `room` together; adds 1 to
    `takers[which[i]]` for those of a choice that gains as much within `near`, or the best one seen.

    `gain` float64[K] > 0, `load` float64[K] > 0, no lane heavier than `room`, the densest (gain by
    load) first."""
    lanes = len(gain)
    taken = np.zeros(lanes, dtype=np.bool_)
    some, total, left = 0, 0.0, room
    while some < lanes and load[some] <= left:
        total += gain[some]
        left -= load[some]
        taken[some] = True
        some += 1
    best, rest = total, left
    for i in range(some, lanes):  # whatever still fits
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
    """The bound at `u`; `cost` float64[N, L]. Writes how many nodes take each lane to `takers`
    float64[L]."""
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
    """A cost that no placement of whole lanes is below, in ms x events/s; no more is done for it
    once it is `enough`.

    `cost` float64[L, N]: of all a lane's events at a node (inf: not there), `wait` float64[L]: of
    none placed; `load` > 0 float64[L] and `room` float64[N] in events/s; `price_ms` float64[N] of
    the split optimum; `above`: a placement's cost."""
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
