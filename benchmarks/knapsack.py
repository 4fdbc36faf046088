"""How much whole lanes cost at all: a lower bound on every placement of whole lanes that is above the split optimum.

Each lane gets a worth `u`, each node keeps the lanes that are worth most to it beyond their cost and fit into its room
together (a 0/1 knapsack), and `sum u - sum of what the nodes gain` is below every placement of whole lanes, whatever `u` is:
the Lagrangian bound of the generalized assignment problem (Fisher, "The Lagrangian relaxation method", 1981). From the
prices of the split optimum `u` climbs by subgradient steps, in which a lane that two nodes want is worth less and one
that none wants more."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import prange

from kernels.jit import njit
from kernels.tables import Bools, Floats

UNITS = 30_000  # that a node's room is cut into; loads are rounded down to them, which keeps the bound true
STEPS = 400
PATIENCE = 12  # steps without a better bound until they are shorter
FIRST, SHORTER, LAST = 0.1, 1.6, 1e-4  # steps, as shares of the way that is left
SMOOTH = 0.6  # of the direction before


def whole_bound(cost: Floats, wait: Floats, load: Floats, room: Floats, price_ms: Floats, above: float) -> float:
    """A cost that no placement of whole lanes is below, in ms x events/s.

    `cost` float64[L, N]: of all a lane's events at a node (inf: not there), `wait` float64[L]: of none placed; `load` > 0
    float64[L] and `room` float64[N] in events/s; `price_ms` float64[N] of the split optimum; `above`: a placement's cost."""
    u = np.minimum(wait, (cost + load[:, None] * price_ms).min(axis=1))
    wanted = np.zeros(cost.shape)
    best, keep, slope, share, idle = -math.inf, u, np.zeros(len(load)), FIRST, 0
    for _ in range(STEPS):
        value = _bound(u, cost, load, room, wanted)
        if value > best:
            best, keep, idle = value, u, 0
        elif (idle := idle + 1) >= PATIENCE:
            u, share, idle = keep, share / SHORTER, 0
            continue
        slope = SMOOTH * slope + (1 - SMOOTH) * (1 - wanted.sum(axis=1))
        steepness = float((slope * slope * load).sum())
        if steepness == 0 or share < LAST:
            break
        u = np.minimum(wait, u + share * (above - value) / steepness * slope * load)
    return best


@njit(parallel=True)
def _bound(u: Floats, cost: Floats, load: Floats, room: Floats, wanted: Floats) -> float:
    """The bound at `u`; `wanted` float64[L, N] is 1 where a node took a lane."""
    gains = np.zeros(len(room))
    wanted[:] = 0
    for n in prange(len(room)):
        some = np.flatnonzero((u > cost[:, n]) & (load <= room[n]))
        if len(some) == 0:
            continue
        gain, weight = u[some] - cost[some, n], load[some]
        if weight.sum() <= room[n]:
            gains[n] = gain.sum()
            wanted[some, n] = 1
        else:
            gains[n] = _knapsack(gain, weight, room[n], n, some, wanted)
    return float(u.sum() - gains.sum())


@njit()
def _knapsack(gain: Floats, weight: Floats, room: float, n: int, some: npt.NDArray[np.int64], wanted: Floats) -> float:
    """The most that whole lanes gain; marks them. What any best choice has, or has not, is settled first: what is left is
    solved by dynamic programming over the units of room."""
    order = np.argsort(-gain / weight)
    gain, weight, some = gain[order], weight[order], some[order]
    certain, left = 0.0, room
    for i in range(len(gain)):  # the densest first, whatever still fits
        if weight[i] <= left:
            certain += gain[i]
            left -= weight[i]
    core = np.zeros(len(gain), np.bool_)
    total, left = 0.0, room
    everywhere = np.ones(len(gain), np.bool_)
    for i in range(len(gain)):
        everywhere[i] = False
        without = _split(gain, weight, everywhere, room)
        if without < certain:
            total += gain[i]
            left -= weight[i]
            wanted[some[i], n] = 1
        else:
            core[i] = gain[i] + _split(gain, weight, everywhere, room - weight[i]) >= certain
        everywhere[i] = True
    whole = total + _dynamic(gain[core], weight[core], left, room / UNITS, n, some[core], wanted)
    return float(min(whole, _split(gain, weight, everywhere, room)))


@njit()
def _dynamic(
    gain: Floats, weight: Floats, room: float, unit: float, n: int, some: npt.NDArray[np.int64], wanted: Floats
) -> float:
    """The same without settling anything; `unit` in events/s."""
    items, units = len(gain), int(room / unit) + 1
    size = np.floor(weight / unit).astype(np.int64)
    most = np.zeros(units + 1)
    taken = np.zeros((items, units + 1), np.bool_)
    for i in range(items):
        for g in range(units, size[i] - 1, -1):
            value = most[g - size[i]] + gain[i]
            if value > most[g]:
                most[g] = value
                taken[i, g] = True
    left = units
    for i in range(items - 1, -1, -1):
        if taken[i, left]:
            left -= size[i]
            wanted[some[i], n] = 1
    return float(most[units])


@njit()
def _split(gain: Floats, weight: Floats, which: Bools, room: float) -> float:
    """The most that some gain where one may be split; the densest come first."""
    value, left = 0.0, room
    for i in range(len(gain)):
        if which[i]:
            part = min(1.0, left / weight[i])
            value += part * gain[i]
            left -= part * weight[i]
            if part < 1.0:
                break
    return value
