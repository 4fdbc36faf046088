"""How many pairs of lane and node are scored per second, compared with libraries for nearest
neighbours?

Each contestant finds the k cheapest nodes of every lane, at four sizes, by turns in one run. Writes
docs/scoring.md and rows of benchmarks/results.csv.

    python -m benchmarks.scoring [--quick] [--rounds N] [--no-write]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import faiss
import numpy as np
from scipy.spatial import cKDTree
from sklearn.neighbors import BallTree

from benchmarks.instances import CITY_LAT, instance
from benchmarks.tables import ROOT, append, machine, now, spread
from kernels.geo import unit_vectors
from kernels.scoring import gpu, nearest_nodes
from kernels.scoring.cpu import CpuCosts, count_cores
from kernels.tables import (
    Bools,
    Costs,
    Floats,
    Ints,
    Problem,
    Weights,
    lane_table,
    make_problem,
    no_rtt_table,
    node_table,
)

PAGE = ROOT / "docs" / "scoring.md"
SIZES = ((256, 6, 4), (10_000, 100, 8), (100_000, 1_000, 8), (1_000_000, 10_000, 8))
MOST_S = 60.0  # a peer that would take longer is measured on a part of the lanes
PART_S = 4.0  # a part that makes a round take about this long
LEAST_S = 0.05  # a shorter run is repeated within a round
BLOCK_PAIRS = 1 << 24  # NumPy's matrix, a block of lanes at a time: 64 MB
SAME = 1e-6  # how far the cosines of equally near nodes may differ
B_MS_PER_KM = 0.015

FLOPS_A_PAIR = 9  # three fused multiply-adds, a difference, a square, a comparison
BYTES_A_LANE = 44  # its columns
DEVICES = (
    ("NVIDIA H100 SXM", 67e12, 3.35e12),
    ("AMD MI300X", 163e12, 5.3e12),
)  # float32 FLOP/s, bytes/s, according to their makers

Ask: TypeAlias = Callable[[Ints], Ints]
"""Answers for the lanes in the given rows: the rows of the k cheapest nodes, int32[R, k]."""

OURS = "geolane, distance alone"
PEERS = (
    "NumPy, matrix and argpartition",
    "SciPy cKDTree",
    "scikit-learn BallTree, haversine",
    "faiss-cpu IndexFlatIP",
)


class Lap(NamedTuple):
    """One round: seconds and CPU seconds for all lanes, and on how many lanes they were
    measured."""

    seconds: float
    cpu_s: float
    lanes: int


Laps: TypeAlias = dict[str, list[Lap]]


def geometry(whole: Problem) -> Problem:
    """The same places and nothing else: only distance counts, as for the peers."""
    return make_problem(
        lane_table(whole.lanes.lat, whole.lanes.lon),
        node_table(whole.nodes.lat, whole.nodes.lon),
        no_rtt_table(0.0, B_MS_PER_KM),
        Weights(0.0, 0.0),
    )


def everything(whole: Problem, seed: int) -> Problem:
    """Every term and filter: owners, warm caches, traffic, three rules, nodes that take nothing."""
    rng = np.random.default_rng(seed)
    lanes, nodes = len(whole.lanes.lat), len(whole.nodes.lat)
    near = CpuCosts(geometry(whole)).find_candidates(min(3, nodes)).node
    allowed: Bools = rng.random((3, nodes)) < 0.8
    return make_problem(
        whole.lanes._replace(
            owner=near[np.arange(lanes), rng.integers(0, near.shape[1], lanes)],
            warm=np.where(rng.random(lanes) < 0.05, near[:, 0], -1).astype(np.int32),
            traffic=rng.choice([1.0, 1.0, 1.0, 1.25, 1.5, 2.0], lanes),
            rule=np.where(rng.random(lanes) < 0.1, rng.integers(0, 3, lanes), -1).astype(np.int32),
        ),
        whole.nodes._replace(takes=rng.random(nodes) < 0.95),
        whole.rtt,
        Weights(2.0, 5.0),
        allowed,
    )


def of_numpy(p: Problem, k: int) -> Ask:
    """The whole matrix of cosines, a block of lanes at a time, and argpartition."""

    def ask(rows: Ints) -> Ints:
        lanes = unit_vectors(p.lanes.lat[rows], p.lanes.lon[rows]).astype(np.float32)
        nodes = unit_vectors(p.nodes.lat, p.nodes.lon).astype(np.float32)
        out = np.empty((len(rows), k), dtype=np.int32)
        step = max(1, BLOCK_PAIRS // len(nodes))
        for start in range(0, len(rows), step):
            away = -(lanes[start : start + step] @ nodes.T)
            best = np.argpartition(away, k - 1, axis=1)[:, :k]
            order = np.take_along_axis(away, best, axis=1).argsort(axis=1)
            out[start : start + step] = np.take_along_axis(best, order, axis=1)
        return out

    return ask


def of_ckdtree(p: Problem, k: int) -> Ask:
    def ask(rows: Ints) -> Ints:
        tree = cKDTree(unit_vectors(p.nodes.lat, p.nodes.lon))
        found = tree.query(
            unit_vectors(p.lanes.lat[rows], p.lanes.lon[rows]),
            k=list(range(1, k + 1)),
            workers=count_cores(),
        )[1]
        return np.asarray(found, dtype=np.int32)

    return ask


def of_balltree(p: Problem, k: int) -> Ask:
    def ask(rows: Ints) -> Ints:
        tree = BallTree(np.radians(np.column_stack((p.nodes.lat, p.nodes.lon))), metric="haversine")
        lanes = np.radians(np.column_stack((p.lanes.lat[rows], p.lanes.lon[rows])))
        return np.asarray(tree.query(lanes, k=k)[1], dtype=np.int32)

    return ask


def of_faiss(p: Problem, k: int) -> Ask:
    def ask(rows: Ints) -> Ints:
        index: Any = faiss.IndexFlatIP(3)
        index.add(unit_vectors(p.nodes.lat, p.nodes.lon).astype(np.float32))
        return np.asarray(
            index.search(unit_vectors(p.lanes.lat[rows], p.lanes.lon[rows]).astype(np.float32), k)[
                1
            ],
            dtype=np.int32,
        )

    faiss.omp_set_num_threads(count_cores())
    return ask


def of_kernel(
    make: Callable[[Problem], Costs], p: Problem, k: int, price_ms: Floats | None = None
) -> Ask:
    """A tick, always of all lanes: checks, tables, kernel. The positions of lanes and nodes are
    known from the previous tick."""

    def ask(_: Ints) -> Ints:
        return make(p).find_candidates(k, price_ms).node

    return ask


def of_first_tick(p: Problem, k: int) -> Ask:
    """The same for a fleet never seen before: lanes and nodes are sorted, too."""

    def ask(_: Ints) -> Ints:
        kept = nearest_nodes._kept.copy()
        nearest_nodes._kept.clear()
        node = CpuCosts(p).find_candidates(k).node
        nearest_nodes._kept[:] = kept
        return node

    return ask


def contestants(lanes: int, nodes: int, k: int) -> tuple[Problem, dict[str, Ask]]:
    """The problem of distance alone, which most contestants solve, and the contestants."""
    whole = instance(lanes, nodes, 0.8, 1).problem
    near, full = geometry(whole), everything(whole, 2)
    price_ms = np.random.default_rng(3).choice([0.0, 0.0, 5.0, 30.0], nodes)
    asks = {
        OURS: of_kernel(CpuCosts, near, k),
        "geolane, distance alone, first tick": of_first_tick(near, k),
        "geolane, every term and filter": of_kernel(CpuCosts, full, k),
        "geolane, every term and filter, with prices": of_kernel(CpuCosts, full, k, price_ms),
    }
    if gpu.probe_gpu()[0]:
        asks["geolane on the GPU, distance alone"] = of_kernel(gpu.make_gpu_costs, near, k)
        asks["geolane on the GPU, every term and filter"] = of_kernel(gpu.make_gpu_costs, full, k)
    peers = (of_numpy, of_ckdtree, of_balltree, of_faiss)
    return near, asks | {name: make(near, k) for name, make in zip(PEERS, peers, strict=True)}


def lap(ask: Ask, lanes: int, part: int) -> Lap:
    """Asks for `part` of the lanes, evenly spread, for at least LEAST_S. Returns the mean, scaled
    to all lanes."""
    rows = np.arange(part, dtype=np.int64) * lanes // part
    times, began, cpu = 0, time.perf_counter(), time.process_time()
    while not times or time.perf_counter() - began < LEAST_S:
        ask(rows.astype(np.int32))
        times += 1
    scale = lanes / part / times
    return Lap((time.perf_counter() - began) * scale, (time.process_time() - cpu) * scale, part)


def right(p: Problem, mine: Ints, other: Ints, rows: Ints) -> bool:
    """Whether both found nodes that are equally near: their cosines differ by at most float32's
    rounding."""
    lanes, nodes = (
        unit_vectors(p.lanes.lat[rows], p.lanes.lon[rows]),
        unit_vectors(p.nodes.lat, p.nodes.lon),
    )
    cosines = [np.einsum("rx,rkx->rk", lanes, nodes[found]) for found in (mine, other)]
    return bool(np.abs(cosines[0] - cosines[1]).max() < SAME)


def measure(size: tuple[int, int, int], rounds: int) -> Laps:
    lanes, nodes, _ = size
    near, asks = contestants(*size)
    part: dict[str, int] = {}
    found: Laps = {name: [] for name in asks}
    sample = (np.arange(min(lanes, 2000), dtype=np.int64) * lanes // min(lanes, 2000)).astype(
        np.int32
    )
    mine = asks[OURS](sample)[sample]  # compiles and sorts, before anything is measured
    for name, ask in asks.items():
        part[name] = lanes
        if name in PEERS:
            began = time.perf_counter()
            if not right(near, mine, ask(sample), sample):
                raise AssertionError(f"{name} finds other nodes than geolane at {lanes} x {nodes}")
            all_s = (time.perf_counter() - began) * lanes / len(sample)
            if all_s > MOST_S:
                part[name] = max(len(sample), int(lanes * PART_S / all_s))
        else:
            ask(sample)
    for _ in range(rounds):
        for name, ask in asks.items():
            found[name].append(lap(ask, lanes, part[name]))
            print(
                f"{label(size)}: {name}: {found[name][-1].seconds * 1e3:,.2f} ms",
                file=sys.stderr,
                flush=True,
            )
    return found


def label(size: tuple[int, int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}, k = {size[2]}"


def table(title: str, names: list[str], cells: list[list[str]], sizes: list[str]) -> str:
    head = [f"| {title} | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    return "\n".join(
        head + [f"| {name} | {' | '.join(row)} |" for name, row in zip(names, cells, strict=True)]
    )


def tables(found: dict[tuple[int, int, int], Laps]) -> str:
    sizes, laps = [label(size) for size in found], list(found.values())
    names = list(laps[0])
    part = [
        [
            f" on {runs[n][0].lanes:,} lanes" if runs[n][0].lanes < s[0] else ""
            for s, runs in found.items()
        ]
        for n in names
    ]
    ms = [[spread(one.seconds * 1e3 for one in runs[name]) for runs in laps] for name in names]
    rate = [
        [
            f"{s[0] * s[1] / sorted(one.seconds for one in runs[name])[len(runs[name]) // 2] / 1e6:,.0f}"
            for s, runs in found.items()
        ]
        for name in names
    ]
    ratio = [
        [
            spread(b.seconds / a.seconds for a, b in zip(runs[OURS], runs[name], strict=True))
            for runs in laps
        ]
        for name in PEERS
    ]
    return "\n\n".join(
        (
            table(
                "ms for all lanes",
                names,
                [[a + b for a, b in zip(*row, strict=True)] for row in zip(ms, part, strict=True)],
                sizes,
            ),
            table("million pairs/s", names, rate, sizes),
            table("times as fast as", list(PEERS), ratio, sizes),
        )
    )


def roofline(sizes: list[tuple[int, int, int]]) -> str:
    """The best that a GPU could do if it looked at every pair."""
    rows = []
    for _, flops, bandwidth in DEVICES:
        best = [
            max(n * m * FLOPS_A_PAIR / flops, n * (BYTES_A_LANE + 8 * k) / bandwidth)
            for n, m, k in sizes
        ]
        rows.append([f"{s * 1e3:,.3f}" if s >= 1e-6 else "below 0.001" for s in best])
    works, why = gpu.probe_gpu()
    rows.append([f"see above ({why})" if works else "not run: no GPU here"] * len(sizes))
    names = [f"{name}, at best (estimate)" for name, _, _ in DEVICES] + ["measured"]
    return table("GPU, ms for all lanes", names, rows, [label(size) for size in sizes])


def write(found: dict[tuple[int, int, int], Laps]) -> None:
    rounds = len(next(iter(found.values()))[OURS])
    PAGE.write_text(
        f"""# Scoring

How many pairs of lane and node can `kernels/` score in a second, compared with libraries for nearest neighbours? Each finds the k
cheapest nodes of every lane. `make bench` measures it again and writes this page; every run adds rows to `benchmarks/results.csv`.

{tables(found)}

{roofline(list(found))}

{now()}; {machine()}. Median of {rounds} rounds (lowest to highest), contestants take turns in one process and use all cores if they
can (BallTree and argpartition use one); ratios are computed per round.

- **Distance alone** is the problem that all of them solve: no table of round trips, no owners, no prices; the cost is the distance. A check
  makes sure that all find the same nodes. **Every term and filter** adds owners, warm caches, four values of traffic, a table of 32 regions
  with 15 % of the pairs measured, egress, health, three residency rules, and nodes that take no lanes. No peer can do that in one pass.
- A **tick** is the whole work each time: check every number, build tables, run the kernel, return results in the caller's order. The order of
  lanes and nodes in memory is kept from the previous tick; **first tick** includes making it. A peer's time includes building its tree or
  index over the nodes, which is a small part.
- Lanes and nodes lie around {len(CITY_LAT)} large cities, more of both where more people live; 15 % of the lanes lie anywhere.
- "On n lanes": a peer would have taken more than {MOST_S:g} s, so it was measured on n lanes, evenly spread, and the time was scaled.
- geolane computes few pairs: whole blocks of nodes are out of reach for whole groups of neighbouring lanes, and the bound is tight
  from the start. Pairs/s counts all pairs, as it does for the peers' trees. The result is still exact, and equal bit for bit to that of the
  GPU kernel.
- The estimate for GPUs, which compute more of the pairs, is the larger of {FLOPS_A_PAIR} FLOPs for each pair, and {BYTES_A_LANE} bytes in and 8 k bytes out
  for each lane; nodes stay in the cache. Launches and copies are not included.
""",
        "utf-8",
    )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    append(
        (
            f"scoring {size[0]}x{size[1]}: {name.replace(',', '')}",
            size[0] * size[1],
            *sorted(laps)[len(laps) // 2][:2],
            peak_mb,
        )
        for size, runs in found.items()
        for name, laps in runs.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="the two small sizes, two rounds, nothing written"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    sizes, rounds = (SIZES[:2], 2) if options.quick else (SIZES, options.rounds)
    found = {size: measure(size, rounds) for size in sizes}
    print(tables(found))
    if not options.quick and not options.no_write:
        write(found)


if __name__ == "__main__":
    main()
