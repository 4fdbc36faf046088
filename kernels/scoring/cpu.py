"""Costs on the CPU, by numba: exact, equal to the bit for any number of threads, and safe to ask
from several threads.

Threads are Python's own, since the compiled code does not hold the GIL. numba's threads would need
a library of the machine, or end the process when two callers meet."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kernels.scoring import prepare, scan
from kernels.tables import Candidates, Floats, Ints, Problem, Singles, check_problem

LEAST_LANES = 1024
"""Lanes for which it is worth waking a thread."""

PIECES = 4
"""Pieces of work per thread, so that no thread waits long for the last one."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


class CpuCosts:
    """The costs of one problem (see kernels.Costs). `threads`: how many to use; by default one per
    core.

    Raises ValueError naming the value that is not finite or out of range."""

    def __init__(self, problem: Problem, *, threads: int | None = None) -> None:
        check_problem(problem)
        self._problem, self._tick = problem, prepare.prepare_tick(problem)
        self._threads = threads or count_cores()

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._problem.lanes.lat), len(self._problem.nodes.lat)

    def find_candidates(
        self, k: int, price_ms: Floats | None = None, rows: Ints | None = None
    ) -> Candidates:
        """See kernels.Costs. Raises ValueError for k < 1 and for a price that is negative or not
        finite."""
        if k < 1:
            raise ValueError(f"k is {k}: at least one candidate is needed")
        t, width = self._tick, min(k, self.shape[1])
        chosen, q = (
            prepare.select_lanes(t.ground, rows),
            prepare.prepare_query(self._problem, t, max(1, width), price_ms),
        )
        lanes = len(chosen.place)
        out = Candidates(
            np.empty((lanes, width), dtype=np.int32), np.empty((lanes, width), dtype=np.float32)
        )
        pieces = list(self._split_into_pieces(lanes)) if width else []
        if len(pieces) > 1:
            list(
                _get_thread_pool().map(
                    lambda piece: scan.search_nodes(t, q, chosen, piece[0], piece[1], *out), pieces
                )
            )
        elif pieces:
            scan.search_nodes(t, q, chosen, 0, lanes, *out)
        return out

    def costs_at(self, lane: Ints, node: Ints) -> Singles:
        """See kernels.Costs."""
        out = np.empty(len(lane), dtype=np.float32)
        scan.compute_costs_at(
            self._tick, self._tick.ground.lane_place[lane], self._tick.ground.node_place[node], out
        )
        return out

    def _split_into_pieces(self, lanes: int) -> Iterator[tuple[int, int]]:
        step = (
            max(LEAST_LANES, -(-lanes // (self._threads * PIECES)))
            if self._threads > 1
            else max(1, lanes)
        )
        return ((start, min(lanes, start + step)) for start in range(0, lanes, step))


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _get_thread_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(count_cores(), thread_name_prefix="scores")
        return _pool
