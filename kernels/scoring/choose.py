"""Chooses the kernel that scores, once and with the reason: a GPU that works, else numba on the
CPU, else NumPy.

A kernel works if it gives the oracle's answer to a small problem that contains every term."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels import reference
from kernels.geo import haversine_km_matrix
from kernels.jit import HAVE_NUMBA
from kernels.placement.assign import solve
from kernels.tables import (
    Bools,
    Candidates,
    Costs,
    Floats,
    Numerics,
    Problem,
    RttModel,
    Weights,
    lane_table,
    make_problem,
    node_table,
)

KERNELS = ("gpu", "cpu", "numpy")
SLACK_MS = 2e-3
K = 8


class Unfit(RuntimeError):
    """A kernel that cannot be used here. The message says why."""


def choose_numerics(want: str = "auto") -> Numerics:
    """The kernel `want` (for `auto` the first of KERNELS), or the next one that works, so that
    lanes are placed even with a broken driver or wheel. `Numerics.why` says what is wrong with the
    skipped ones.

    Takes seconds: libraries are imported, kernels and `solve` compiled. Raises ValueError for an
    unknown name."""
    if want not in ("auto", *KERNELS):
        raise ValueError(f"kernel {want!r} is unknown: auto, {', '.join(KERNELS)}")
    passed_over = []
    first = 0 if want == "auto" else KERNELS.index(want)
    for name in KERNELS[first:]:
        try:
            what, costs = OPENERS[name]()
        except Unfit as e:
            passed_over.append(f"{name} does not work here: {e}")
        else:
            return Numerics(name, "; ".join([what, *passed_over]), costs, solve)
    raise Unfit("; ".join(passed_over))


def try_out_kernel(costs: Callable[[Problem], Costs]) -> None:
    """Asks a kernel every kind of question once, and has lanes placed by it. Raises Unfit if an
    answer differs from the oracle's."""
    p = _make_sample_problem()
    lanes, nodes = len(p.lanes.lat), len(p.nodes.lat)
    price_ms, rows = np.linspace(0.0, 30.0, nodes), np.arange(0, lanes, 3, dtype=np.int32)
    kernel, oracle = costs(p), reference.compute_matrix_costs(p)
    for k, price, some in (
        (K, None, None),
        (1, price_ms, None),
        (K, price_ms, rows),
        (nodes, None, rows),
    ):
        found, best = kernel.find_candidates(k, price, some), oracle.find_candidates(k, price, some)
        differ = np.abs(_priced_costs(found, price) - _priced_costs(best, price)).max()
        if not differ <= SLACK_MS:
            raise Unfit(f"its costs are {differ:g} ms from those of the oracle (k = {k})")
    lane, node = (a.ravel().astype(np.int32) for a in np.indices((lanes, nodes)))
    at, expected = kernel.costs_at(lane, node), oracle.costs_at(lane, node)
    may = np.isfinite(expected)
    if (np.isfinite(at) != may).any() or np.abs(at[may] - expected[may]).max() > SLACK_MS:
        raise Unfit("its single costs are not those of the oracle")
    solve(
        kernel,
        np.ones(lanes),
        np.full(nodes, 1.5 * lanes / nodes),
        owner=p.lanes.owner,
        price_ms=price_ms,
    )


def _priced_costs(found: Candidates, price_ms: Floats | None) -> Floats:
    price = 0.0 if price_ms is None else price_ms[found.node]
    return np.where(found.node < 0, -1.0, np.where(found.node < 0, 0.0, found.cost_ms) + price)


def _make_sample_problem() -> Problem:
    """Lanes and nodes along a spiral over the whole Earth, with every term, some measured pairs, a
    rule and brokers."""
    lanes, nodes, regions = 150, 70, 5

    def spiral(count: int, turn: float) -> tuple[Floats, Floats]:
        step = np.arange(count, dtype=np.float64) + 0.5
        return np.degrees(np.arcsin(1 - 2 * step / count)), (step * turn) % 360.0 - 180.0

    lane, node = np.arange(lanes, dtype=np.float64), np.arange(nodes, dtype=np.float64)
    region = spiral(regions, 100.0)
    ms = 5.0 + 0.015 * haversine_km_matrix(*region, *region) * 1.2
    measured: Bools = np.indices(ms.shape).sum(axis=0) % 2 == 0
    allowed: Bools = node[None, :] % 3 > 0
    return make_problem(
        lane_table(
            *spiral(lanes, 137.508),
            owner=(lane * 7 % (nodes + 1) - 1).astype(np.int32),
            warm=(lane * 11 % (nodes + 1) - 1).astype(np.int32),
            traffic=1.0 + lane % 4 * 0.25,
            rule=(lane % 2 - 1).astype(np.int32),
            source=(lane % 3 - 1).astype(np.int32),
        ),
        node_table(
            *spiral(nodes, 137.508),
            site=(node % (regions + 1) - 1).astype(np.int32),
            takes=node % 10 > 0,
            keeps=node % 20 > 0,
            egress_ms=node % 5,
            degraded_ms=node % 7 * 2.0,
        ),
        RttModel(tuple(map(str, range(regions))), *region, ms, measured, 5.0, 0.015),
        Weights(2.0, 3.0),
        allowed,
        np.stack((node % 9 * 4.0, (nodes - node) * 1.25)),
    )


def _open_gpu() -> tuple[str, Callable[[Problem], Costs]]:
    from kernels.scoring import gpu  # imports CuPy if it is installed

    works, what = gpu.probe_gpu()
    if not works:
        raise Unfit(what)
    try_out_kernel(gpu.make_gpu_costs)
    if gpu.open_device().failed:  # the CPU answered in its place
        raise Unfit(gpu.open_device().failed)
    return what, gpu.make_gpu_costs


def _open_cpu() -> tuple[str, Callable[[Problem], Costs]]:
    if not HAVE_NUMBA:
        raise Unfit("numba cannot be imported")
    from kernels.scoring import cpu  # imports numba's compiler

    try_out_kernel(cpu.CpuCosts)
    return f"numba, {cpu.count_cores()} threads", cpu.CpuCosts


def _open_numpy() -> tuple[str, Callable[[Problem], Costs]]:
    try_out_kernel(reference.compute_matrix_costs)
    return "NumPy, the whole matrix", reference.compute_matrix_costs


OPENERS = {"gpu": _open_gpu, "cpu": _open_cpu, "numpy": _open_numpy}
