"""What an auction leaves undone: a lane that waits is fitted in by moving others, and moves, swaps and chains of two that
make the whole cheaper are made until there are none."""

from __future__ import annotations

import numpy as np

from kernels.jit import njit
from kernels.tables import Floats, Ints, Singles

LISTS = "int32[:, ::1], float32[:, ::1], float64[::1]"


@njit(f"int64({LISTS}, float64[::1], int32[::1], int64)")
def improve(node: Ints, cost_ms: Singles, load: Floats, free: Floats, place: Ints, rounds: int) -> int:
    """Changes `place` [L] and `free` [N] (room left); returns how many lanes it moved, over at most `rounds` passes.

    `node`, `cost_ms` [L, W]: the lists, -1 ends one. A lane may go where room is left, change places with another, or
    push another on to where room is left."""
    lanes, width = node.shape
    nodes = len(free)
    first = np.full(nodes, -1, dtype=np.int32)  # lanes at a node, as a doubly linked list
    after = np.full(lanes, -1, dtype=np.int32)
    before = np.full(lanes, -1, dtype=np.int32)
    now = np.full(lanes, np.inf)
    for lane in range(lanes):
        n = place[lane]
        if n >= 0:
            after[lane] = first[n]
            if first[n] >= 0:
                before[first[n]] = lane
            first[n] = lane
            for w in range(width):
                if node[lane, w] == n:
                    now[lane] = cost_ms[lane, w]
                    break
    moves = 0
    for _ in range(rounds):
        moved = False
        for lane in range(lanes):
            a = place[lane]
            if a < 0:
                continue
            load_a = load[lane]
            gain = 1e-6 * load_a
            to = other = onto = -1
            to_ms = onto_ms = 0.0
            for w in range(width):
                b = node[lane, w]
                if b < 0:
                    break
                won = (now[lane] - cost_ms[lane, w]) * load_a
                if b == a or won <= 0:
                    continue
                if free[b] >= load_a:
                    if won > gain:
                        gain, to, to_ms, other = won, b, cost_ms[lane, w], -1
                    continue
                need = load_a - free[b]
                third = first[b]
                while third >= 0:
                    load_b = load[third]
                    if load_b >= need:
                        most = now[third] + (won - gain) / load_b
                        for v in range(width):
                            c = node[third, v]
                            if c < 0:
                                break
                            if cost_ms[third, v] >= most or c == b:
                                continue
                            if load_b <= free[c] + (load_a if c == a else 0.0):
                                most = cost_ms[third, v]
                                gain = won - (most - now[third]) * load_b
                                to, to_ms = b, cost_ms[lane, w]
                                other, onto, onto_ms = third, c, most
                    third = after[third]
            for step in range(2):
                who = other if step == 0 else lane
                n, ms = (onto, onto_ms) if step == 0 else (to, to_ms)
                if who < 0 or n < 0:
                    continue
                was = place[who]
                if before[who] >= 0:
                    after[before[who]] = after[who]
                else:
                    first[was] = after[who]
                if after[who] >= 0:
                    before[after[who]] = before[who]
                before[who] = -1
                after[who] = first[n]
                if first[n] >= 0:
                    before[first[n]] = who
                first[n] = who
                free[was] += load[who]
                free[n] -= load[who]
                place[who] = n
                now[who] = ms
                moves += 1
                moved = True
        if not moved:
            break
    return moves


@njit(
    f"int64(int32[::1], int32[:, ::1], float32[:, ::1], {LISTS}, float64[::1], int32[::1], int32[::1])",
)
def fit_in(
    waits: Ints,
    waits_node: Ints,
    waits_cost_ms: Singles,
    node: Ints,
    cost_ms: Singles,
    load: Floats,
    free: Floats,
    place: Ints,
    rank: Ints,
) -> int:
    """Gives room to the lanes `waits` [R] one by one: where there is some; where one other lane can go elsewhere; where
    lanes of a lower `rank` [L] leave, or one of its own that is lighter. Changes `place` and `free`; returns how many of
    them got room. `waits_node`, `waits_cost_ms` [R, K]: their own lists, wider than `node`, `cost_ms` [L, W]."""
    lanes, width = node.shape
    fitted = 0
    for r in range(len(waits)):
        lane = waits[r]
        weight = load[lane]
        best = np.inf
        to = other = onto = -1
        for w in range(waits_node.shape[1]):
            b = waits_node[r, w]
            if b < 0:
                break
            if free[b] >= weight and waits_cost_ms[r, w] * weight < best:
                best, to = waits_cost_ms[r, w] * weight, b
        for third in range(lanes if to < 0 else 0):
            b = place[third]
            if b < 0 or free[b] + load[third] < weight:
                continue
            mine = now = np.inf
            for w in range(waits_node.shape[1]):
                if waits_node[r, w] == b:
                    mine = waits_cost_ms[r, w] * weight
                    break
            if mine >= best:
                continue
            for v in range(width):
                if node[third, v] == b:
                    now = cost_ms[third, v]
            for v in range(width):
                c = node[third, v]
                if c < 0:
                    break
                if c != b and free[c] >= load[third] and mine + (cost_ms[third, v] - now) * load[third] < best:
                    best = mine + (cost_ms[third, v] - now) * load[third]
                    to, other, onto = b, third, c
        if to >= 0:
            if other >= 0:
                free[to] += load[other]
                free[onto] -= load[other]
                place[other] = onto
            free[to] -= weight
            place[lane] = to
            fitted += 1
            continue
        # over capacity: who matters less leaves
        least = np.inf
        lower = free.copy()
        single = np.full(len(free), np.inf)
        for third in range(lanes):
            b = place[third]
            if b < 0 or rank[third] > rank[lane]:
                continue
            under = rank[third] < rank[lane]
            if under:
                lower[b] += load[third]
            if free[b] + load[third] >= weight and (under or load[third] < weight * (1 - 1e-9)):
                single[b] = min(single[b], load[third])
        for w in range(waits_node.shape[1]):
            b = waits_node[r, w]
            if b < 0:
                break
            leave = min(single[b], weight - free[b] if lower[b] >= weight else np.inf)
            if leave < least:
                least, to = leave, b
        if to < 0:
            continue
        by_single = single[to] < np.inf and (lower[to] < weight or single[to] <= 2 * (weight - free[to]))
        while free[to] < weight:
            out = -1
            for third in range(lanes):
                if place[third] != to or rank[third] > rank[lane]:
                    continue
                if by_single:
                    if load[third] == single[to] and (out < 0 or rank[third] < rank[out]):
                        out = third
                elif rank[third] < rank[lane] and (
                    out < 0 or rank[third] < rank[out] or (rank[third] == rank[out] and load[third] > load[out])
                ):
                    out = third
            free[to] += load[out]
            place[out] = -1
        free[to] -= weight
        place[lane] = to
        fitted += 1
    return fitted
