"""How much of real round-trip time does placement by our RTT model save, compared with nearest by
km, one hub and the true best? Uses measured RTTs between 242 cities; the model learns from one part
of the pairs and is judged on the rest. Writes docs/real-rtt.md.

    python -m benchmarks.real_rtt [--quick] [--no-write]
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from benchmarks.recorded import CITIES, PINGS, ROOT, Floats, Pings, need, pings
from benchmarks.tables import machine
from kernels import RttModel, Weights, compute_terms, lane_table, make_problem, node_table
from kernels.geo import haversine_km_matrix
from kernels.paths import complete_rtts

PAGE = ROOT / "docs" / "real-rtt.md"
NODES = (6, 16, 60)
SEEDS = 40
FEW = ((60, 8), (60, 3), (10, 3))  # sites, and RTTs measured for each
NEAREST, HUB, MEASURED, COMPLETED, ORACLE = "nearest", "hub", "measured", "completed", "oracle"
WHAT = {
    MEASURED: "geolane, table as measured",
    COMPLETED: "geolane, table completed",
    NEAREST: "nearest by km",
    HUB: "one hub",
    ORACLE: "true best",
}
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


def fitted(rtt_ms: Floats, km: Floats) -> tuple[float, float]:
    """`a_ms`, `b_ms_per_km` fitted to the known pairs."""
    known = np.isfinite(rtt_ms)
    b, a = np.polyfit(km[known], rtt_ms[known], 1)
    return max(0.0, float(a)), float(b)


def model(places: Pings, rtt_ms: Floats, rows: Indices) -> RttModel:
    """A table of the cities in `rows`, as the product reads one: pairs that were not measured use
    the line."""
    km = haversine_km_matrix(places.lat, places.lon, places.lat, places.lon)
    a, b = fitted(rtt_ms, km)
    part, lat, lon = rtt_ms[np.ix_(rows, rows)].copy(), places.lat[rows], places.lon[rows]
    np.fill_diagonal(part, 1.0)
    known = np.isfinite(part)
    filled = np.where(known, part, a + b * haversine_km_matrix(lat, lon, lat, lon))
    return RttModel(tuple(places.cities[i] for i in rows), lat, lon, filled, known, a, b)


@dataclass(frozen=True)
class Trial:
    """Nodes at some cities, lanes at others. `taught`: the RTTs that may be learned from, NaN
    elsewhere, float64[C, C]. `open`: which nodes a lane may have, only those it has never measured,
    bool[L, N]."""

    nodes: Indices
    lanes: Indices
    taught: Floats
    open: Bools


def by_cities(places: Pings, count: int, rng: np.random.Generator) -> Trial:
    """The lanes are at cities of which nothing is known: half of those without a node. Every pair
    with one of them is held back."""
    order = rng.permutation(len(places.cities))
    nodes, others = order[:count], order[count:]
    lanes = others[: len(others) // 2]
    taught = places.rtt_ms.copy()
    taught[lanes, :] = taught[:, lanes] = np.nan
    return Trial(nodes, lanes, taught, np.isfinite(places.rtt_ms[np.ix_(lanes, nodes)]))


def by_pairs(places: Pings, count: int, rng: np.random.Generator) -> Trial:
    """Half of all pairs, chosen at random, are held back. A lane chooses among the nodes of its
    held-back pairs."""
    order = rng.permutation(len(places.cities))
    held = np.triu(rng.random(places.rtt_ms.shape) < 0.5, 1)
    held |= held.T
    nodes, lanes = order[:count], order[count:]
    pairs = np.ix_(lanes, nodes)
    choice = held[pairs] & np.isfinite(places.rtt_ms[pairs])
    some = choice.sum(axis=1) >= 2
    return Trial(nodes, lanes[some], np.where(held, np.nan, places.rtt_ms), choice[some])


def modelled(places: Pings, trial: Trial, rtt: RttModel, rows: Indices) -> Floats:
    """RTTs as the kernels compute them, float64[L, N]."""
    row_of = {int(city): i for i, city in enumerate(rows)}
    lanes = lane_table(places.lat[trial.lanes], places.lon[trial.lanes])
    site = [row_of[int(city)] for city in trial.nodes]
    nodes = node_table(places.lat[trial.nodes], places.lon[trial.nodes], site=site)
    return compute_terms(make_problem(lanes, nodes, rtt, Weights(move_ms=0.0))).rtt_ms


def judge(places: Pings, trial: Trial) -> dict[str, Floats]:
    """The true RTT of each lane to the node that it is given, by contestant; NaN where the lane's
    pair with the hub is not held back (the hub has no choice)."""
    km = haversine_km_matrix(places.lat, places.lon, places.lat, places.lon)
    pairs = np.ix_(trial.lanes, trial.nodes)
    truth = places.rtt_ms[pairs]
    rows = np.flatnonzero(np.isfinite(trial.taught).any(axis=1))
    every = np.arange(len(places.cities))
    cost = {
        MEASURED: modelled(places, trial, model(places, trial.taught, rows), rows),
        COMPLETED: modelled(
            places, trial, model(places, complete_rtts(trial.taught, km), every), every
        ),
        NEAREST: km[pairs],
        ORACLE: truth,
    }
    at = np.arange(len(trial.lanes))
    found = {}
    for name, ms in cost.items():
        chosen = np.where(trial.open, ms, np.inf).argmin(axis=1)
        found[name] = truth[at, chosen]
    hub = int(np.nanmean(trial.taught[:, trial.nodes], axis=0).argmin())
    found[HUB] = np.where(trial.open[:, hub], truth[:, hub], np.nan)
    return found


def few_probes(
    places: Pings, sites: int, probes: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Sites at random cities, for each of which the RTT to a few others is known. By way to guess
    the rest: the median error, as a share; the regret of choosing the nearest of all others by it;
    and the regret once its three best were probed."""
    rng = np.random.default_rng([seed, sites, probes])
    rows = rng.permutation(len(places.cities))[:sites]
    truth, lat, lon = places.rtt_ms[np.ix_(rows, rows)], places.lat[rows], places.lon[rows]
    km = haversine_km_matrix(lat, lon, lat, lon)
    known = np.zeros(truth.shape, dtype=bool)
    for i in range(sites):
        known[i, rng.permutation(np.delete(np.arange(sites), i))[:probes]] = True
    known |= known.T
    taught = np.where(known, truth, np.nan)
    a, b = fitted(taught, km)
    guesses = {
        NEAREST: np.where(np.isfinite(taught), taught, a + b * km),
        COMPLETED: complete_rtts(taught, km),
    }
    other = np.isfinite(truth) & ~np.eye(sites, dtype=bool)
    found = {}
    for name, ms in guesses.items():
        error = (np.abs(ms - truth) / truth)[other & ~known]
        order = np.where(other, ms, np.inf).argsort(axis=1)
        three = np.take_along_axis(np.where(other, truth, np.inf), order[:, :3], axis=1)
        regret = three - np.where(other, truth, np.inf).min(axis=1, keepdims=True)
        found[name] = (
            float(np.median(error)),
            float(regret[:, 0].mean()),
            float(regret.min(axis=1).mean()),
        )
    return found


def few_table(places: Pings, seeds: int) -> list[str]:
    lines = [
        "| sites | RTTs known for each | | median error | regret, ms | regret once its three best "
        "are probed, ms |",
        "|---|---|---|---|---|---|",
    ]
    what = {NEAREST: "a line over km", COMPLETED: WHAT[COMPLETED]}
    for sites, probes in FEW:
        runs = [few_probes(places, sites, probes, seed) for seed in range(seeds)]
        for name, text in what.items():
            error, regret, probed = np.mean([run[name] for run in runs], axis=0)
            lines.append(
                f"| {sites} | {probes} | {text} | {error:.2f} | {regret:.1f} | {probed:.1f} |"
            )
    return lines


def spread(values: list[float]) -> str:
    """Median (tenth to ninetieth percentile)."""
    low, high = np.percentile(values, [10, 90])
    return f"{statistics.median(values):.2f} ({low:.2f} to {high:.2f})"


def table(trials: dict[int, list[dict[str, Floats]]]) -> list[str]:
    lines = [
        "| nodes | | mean RTT, ms | p99, ms | regret, ms | truly best | mean, of nearest by km | "
        "p99, of nearest by km |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count, runs in trials.items():
        for name, what in WHAT.items():
            mean = [float(np.nanmean(r[name])) for r in runs]
            p99 = [float(np.nanpercentile(r[name], 99)) for r in runs]
            regret = [float(np.nanmean(r[name] - r[ORACLE])) for r in runs]
            best = [float(np.mean((r[name] <= r[ORACLE])[np.isfinite(r[name])])) for r in runs]
            to_mean = [m / float(r[NEAREST].mean()) for m, r in zip(mean, runs, strict=True)]
            to_p99 = [
                p / float(np.percentile(r[NEAREST], 99)) for p, r in zip(p99, runs, strict=True)
            ]
            lines.append(
                f"| {count} | {what} | {statistics.mean(mean):.1f} | {statistics.mean(p99):.0f} | "
                f"{statistics.mean(regret):.1f} "
                f"| {statistics.mean(best):.0%} | {spread(to_mean)} | {spread(to_p99)} |"
            )
    return lines


def no_worse(trials: dict[int, list[dict[str, Floats]]], name: str) -> str:
    """In how many draws nearest by km came within 2 % of the mean, or below it."""
    counts = [
        f"{sum(r[NEAREST].mean() <= 1.02 * r[name].mean() for r in runs)} of {len(runs)} draws "
        f"with {count} nodes"
        for count, runs in trials.items()
    ]
    return ", ".join(counts)


def page(
    places: Pings,
    cities: dict[int, list[dict[str, Floats]]],
    pairs: dict[int, list[dict[str, Floats]]],
    few: list[str],
) -> str:
    seeds = len(next(iter(cities.values())))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""# Placement on real round-trip times

How much real round-trip time does our RTT model save, compared with nearest by km, one hub and the true best? (The model is in
`kernels/tables.py`: a table of measured pairs, and a fitted line from the lane to the nearest place in the table.)
`python -m benchmarks.real_rtt` measures it again and writes this page.

**Lanes where nothing was ever measured.** Nodes are at random cities, lanes at half of the others. Every RTT of those lanes is held
back; the table has the rest. The product is used like this: nodes can be measured, sources of data seldom.

{chr(10).join(table(cities))}

**Any half of the pairs.** Half of all pairs are held back at random; a lane (at any city without a node) chooses among the nodes of its
held-back pairs only. The table as measured then has no value for these choices, and the line alone decides, which equals nearest
by km by construction. The completed table has values for them.

{chr(10).join(table(pairs))}

**A few measured RTTs.** Sites at random cities, and for each the RTT to a few of the others, as workers measure it to the brokers that
they talk to. Each site then chooses the nearest of all the others, measured or not.

{chr(10).join(few)}

{now}; {machine()}. RTTs of 10 November 2018 between {len(places.cities)} cities
(WonderNetwork), both directions averaged; {seeds} seeds for each number of nodes, each with its own cities, split, table and line. There are
no limits of capacity: each lane takes its best node. Regret is the excess over the true best of the same choice. Brackets: from the tenth
to the ninetieth percentile of the seeds. "One hub" is the node with the lowest mean RTT in the learned half; in the second table, over
the lanes whose pair with it is held back.

- **As measured** is the product's own formula in its own kernel: a lane uses the nearest city that was measured.
- **Completed** first fills the gaps of the table from the measured pairs around them (`complete_rtts` in `kernels/paths.py`, as the
  coordinator completes the RTTs that its workers measured: docs/planning.md), and so gives each lane's city a row. The same formula then
  uses this table.
- **Nearest by km is as good** (within 2 % of the mean, or better) as the table as measured in {no_worse(cities, MEASURED)} of the first
  kind; and as the completed table in {no_worse(cities, COMPLETED)}.
- The distance of both from the true best shows what no table of other places can know: the routes of single networks.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="five seeds; writes nothing")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    need(PINGS, CITIES)
    places = pings()
    found = []
    for make in (by_cities, by_pairs):
        trials = {}
        for count in NODES:
            rngs = [
                np.random.default_rng([seed, count])
                for seed in range(5 if options.quick else SEEDS)
            ]
            trials[count] = [judge(places, make(places, count, rng)) for rng in rngs]
        found.append(trials)
    few = few_table(places, 5 if options.quick else SEEDS)
    text = page(places, found[0], found[1], few)
    print(text)
    if not (options.quick or options.no_write):
        PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
