"""The nodes considered for a lane, and its cost at each: a short list per lane, extended when
prices show that a node is missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.jit import njit
from kernels.tables import Candidates, Floats, Ints, Singles

TIE_MS = 0.01  # costs that differ by less are equal
STILL_MS = 1.0  # no lane leaves its owner to save less, however light it is: a hand-over is work


class Lists(NamedTuple):
    """`node` int32[L, W], where -1 ends a list. `cost_ms` float32[L, W]. `wait_ms` float64[L]: the
    cost of waiting. `load` float64[L] in events/s."""

    node: Ints
    cost_ms: Singles
    wait_ms: Floats
    load: Floats


NO_LISTS = Lists(
    np.empty((0, 0), dtype=np.int32),
    np.empty((0, 0), dtype=np.float32),
    np.empty(0),
    np.empty(0),
)


def make_lists(
    found: Candidates, load: Floats, room: Floats, owner: Ints, loyal_ms: Floats, wait_ms: Floats
) -> Lists:
    """Candidates as lists. A lane's own node is cheaper by `loyal_ms`, float64[L]. Nodes whose
    `room` float64[N] could not hold the lane are left out."""
    none = Lists(
        np.empty((len(load), 0), dtype=np.int32),
        np.empty((len(load), 0), dtype=np.float32),
        wait_ms,
        load,
    )
    return extend_lists(none, found, room, owner, loyal_ms)


def priced_ms(node: Ints, cost_ms: Singles, price: Floats) -> Floats:
    """Cost plus price of each node on a list, float64 of the lists' shape; inf after a list's
    end."""
    out: Floats = np.where(node >= 0, cost_ms + price[node], np.inf)
    return out


def extend_lists(
    lists: Lists, found: Candidates, room: Floats, owner: Ints, loyal_ms: Floats
) -> Lists:
    """The lists with more candidates."""
    lanes, width = lists.node.shape
    node = np.empty((lanes, width + found.node.shape[1]), dtype=np.int32)
    cost = np.empty(node.shape, dtype=np.float32)
    more = Candidates(np.ascontiguousarray(found.node), np.ascontiguousarray(found.cost_ms))
    longest = _join_lists(lists, more, room, owner, loyal_ms, Candidates(node, cost))
    if longest < node.shape[1]:
        node, cost = (
            np.ascontiguousarray(node[:, :longest]),
            np.ascontiguousarray(cost[:, :longest]),
        )
    return lists._replace(node=node, cost_ms=cost)


@njit(
    "int64(Lists, Candidates, float64[::1], int32[::1], float64[::1], Candidates)",
    *(NO_LISTS, Candidates(NO_LISTS.node, NO_LISTS.cost_ms)),
)
def _join_lists(
    lists: Lists, more: Candidates, room: Floats, owner: Ints, loyal_ms: Floats, out: Candidates
) -> int:
    """Writes the lists, followed by the candidates that they lack, to `out`. Returns the length of
    the longest."""
    node, cost_ms, _, load = lists
    more_node, more_cost_ms = more
    out_node, out_cost_ms = out
    longest = 0
    for lane in range(len(out_node)):
        known = 0
        while known < node.shape[1] and node[lane, known] >= 0:
            out_node[lane, known], out_cost_ms[lane, known] = (
                node[lane, known],
                cost_ms[lane, known],
            )
            known += 1
        end = known
        for w in range(more_node.shape[1]):
            n, ms = more_node[lane, w], more_cost_ms[lane, w]
            if n < 0 or load[lane] > room[n]:
                continue
            new = True
            for v in range(known):
                if node[lane, v] == n:
                    new = False
                    break
            if new:
                out_node[lane, end] = n
                out_cost_ms[lane, end] = ms - np.float32(loyal_ms[lane]) if n == owner[lane] else ms
                end += 1
        longest = max(longest, end)
        for w in range(end, out_node.shape[1]):
            out_node[lane, w], out_cost_ms[lane, w] = -1, np.inf
    return longest
