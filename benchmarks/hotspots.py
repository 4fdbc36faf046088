"""How many bursts does the detector of hotspots find, how soon, and how often is it wrong, compared
with other tests that are all calibrated to one false alarm a day? Writes
docs/hotspots-benchmark.md.

    python -m benchmarks.hotspots [--days N] [--processes N] [--no-write]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from agents.core.hotspots.areas import areas_around
from agents.core.hotspots.lifecycle import Lifecycle
from agents.core.model.hotspots import HotspotState, Rise
from benchmarks.hotspot_map import (
    DAY_RATIO,
    DAY_S,
    DURATIONS_S,
    LATE_S,
    LEAST_EPS,
    LIMIT_Z,
    MOST_EPS,
    WARM_S,
    Area,
    Burst,
    draw_area,
    draw_bursts,
    make_map,
    usual_by_minute,
)
from benchmarks.hotspot_map import FACTORS as BURST_FACTORS
from benchmarks.hotspot_methods import METHODS, Alarms, Row, row_of
from benchmarks.hotspot_speed import measure_size, measure_speed, speed_tables
from benchmarks.tables import ROOT, machine, now
from kernels.hotspots.rises import FACTORS, Cells, Rule, find_rises
from kernels.tables import Marks

PAGE = ROOT / "docs" / "hotspots-benchmark.md"
SPEED_SIZES = ((100_000, 600), (1_000_000, 200))  # cells, seconds
SPEED_EACH = 2_000
SEED = 12
CITIES = 40
BURSTS_A_DAY = 120
START_S = 978_912_000  # 8 January 2001, 00:00 UTC
DEFAULT_NATS, FLOOR = 17.0, 12
LADDER_NATS = (11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 20.0)
SETTLE_S = 600  # a hotspot that opens so soon after a burst is not a false alarm
OURS, OURS_CALIBRATED = "geolane, as it is", "geolane, calibrated"


class Sizes(NamedTuple):
    cities: int = CITIES
    bursts: int = BURSTS_A_DAY
    calm_days: int = 30
    days: int = 20


class Trial(NamedTuple):
    """`delay_s`: from the burst's start to the end of the second of its first alarm, 0 if there was
    none."""

    burst: Burst
    delay_s: int


class Day(NamedTuple):
    """`false`: hotspots that opened without a burst."""

    trials: list[Trial]
    false: int


# A day


def rows_of(area: Area, bursts: list[Burst], seed: int) -> Iterator[tuple[str, Row]]:
    """The day of each cell of an area, and of the area unless it is the same as its only cell."""
    events, usual = draw_area(area, bursts, seed), usual_by_minute(area)
    for cell, counts, eps in zip(area.cells, events, usual, strict=True):
        yield cell, row_of(counts, eps)
    if len(area.cells) > 1:
        yield area.name, row_of(events.sum(axis=0, dtype=np.int32), usual.sum(axis=0))


def find_ours(cell: str, row: Row, threshold_nats: float) -> Iterator[Rise]:
    at = np.flatnonzero(row.events)
    rule = Rule(START_S, FLOOR, round(threshold_nats * 1e6))
    counts = row.events[at].astype(np.int64)
    found = find_rises(START_S + at, np.zeros(len(at), np.int64), counts, Cells.empty(1), rule)
    for i, factor, *figures in zip(*(column.tolist() for column in found), strict=True):
        if at[i] >= WARM_S:
            yield Rise(START_S + int(at[i]), cell, FACTORS[factor], *figures)


def as_rises(cell: str, alarms: Alarms) -> Iterator[Rise]:
    """So that the alarms of every method become hotspots in the same way."""
    for t in alarms.at.tolist():
        yield Rise(START_S + t, cell, FACTORS[0], START_S + t, 1, 0, DAY_S)


def opened(rises: Iterable[Rise]) -> list[tuple[int, str]]:
    """(second of the day's stream, area) of each hotspot that opens."""
    changes = Lifecycle().advance(rises, START_S + WARM_S + DAY_S)
    return [(h.opened_s - START_S, h.areas[0]) for h in changes if h.state == HotspotState.OPEN]


def score_day(areas: list[Area], bursts: list[Burst], rises: dict[str, list[Rise]]) -> Day:
    """`rises`: by the name of their area."""
    trials = []
    for burst in bursts:
        start_s = START_S + burst.start_s
        until_s = start_s + burst.duration_s + LATE_S
        hits = [r.at_s for r in rises[areas[burst.area].name] if start_s <= r.at_s < until_s]
        trials.append(Trial(burst, min(hits) - start_s + 1 if hits else 0))
    near = [areas_around(areas[burst.area].name) for burst in bursts]
    false = sum(
        not any(
            area in around and b.start_s <= at < b.end_s + SETTLE_S
            for b, around in zip(bursts, near, strict=True)
        )
        for at, area in opened(r for some in rises.values() for r in some)
    )
    return Day(trials, false)


class Calm(NamedTuple):
    """A day without bursts. `alarms`: by method, with the row of the area; `opened`: how many
    hotspots of ours open at each threshold of the ladder."""

    alarms: dict[str, tuple[Marks, Alarms]]
    opened: list[int]


def run_calm_day(sizes: Sizes, day: int) -> Calm:
    kept: dict[str, list[tuple[int, Alarms]]] = {method.name: [] for method in METHODS}
    ours: list[list[Rise]] = [[] for _ in LADDER_NATS]
    for n, area in enumerate(make_map(SEED, sizes.cities)):
        for cell, row in rows_of(area, [], seed_of(day, n)):
            for method in METHODS:
                kept[method.name].append((n, method.run(row, method.lowest, True)))
            for nats, rises in zip(LADDER_NATS, ours, strict=True):
                found = list(find_ours(cell, row, nats))
                if not found:  # nor at a higher threshold
                    break
                rises.extend(found)
    alarms = {
        name: (
            np.concatenate([np.full(len(a.at), n, np.int64) for n, a in found]),
            Alarms(
                *(np.concatenate(column) for column in zip(*(a for _, a in found), strict=True))
            ),
        )
        for name, found in kept.items()
    }
    return Calm(alarms, [len(opened(rises)) for rises in ours])


def run_burst_day(sizes: Sizes, thresholds: dict[str, float], day: int) -> dict[str, Day]:
    areas = make_map(SEED, sizes.cities)
    bursts = draw_bursts(np.random.default_rng((SEED, day)), areas, sizes.bursts)
    rises: dict[str, dict[str, list[Rise]]] = {name: {} for name in thresholds}
    for n, area in enumerate(areas):
        for name in thresholds:
            rises[name][area.name] = []
        for cell, row in rows_of(area, [b for b in bursts if b.area == n], seed_of(day, n)):
            for method in METHODS:
                found = method.run(row, thresholds[method.name], False)
                rises[method.name][area.name].extend(as_rises(cell, found))
            for name in (OURS, OURS_CALIBRATED):
                rises[name][area.name].extend(find_ours(cell, row, thresholds[name]))
    return {name: score_day(areas, bursts, of_areas) for name, of_areas in rises.items()}


def seed_of(day: int, area: int) -> int:
    return int(np.random.default_rng((SEED, day, area)).integers(1 << 31))


# Thresholds


def count_false(days: Sequence[tuple[Marks, Alarms]], above: float) -> int:
    """Alarms above a threshold; those of one area within two minutes of each other are one."""
    total = 0
    for area, alarms in days:
        high = alarms.score > above
        if high.any():
            order = np.lexsort((alarms.at[high], area[high]))
            at, where = alarms.at[high][order], area[high][order]
            total += 1 + int(((np.diff(at) > 120) | (np.diff(where) != 0)).sum())
    return total


def find_threshold(days: Sequence[tuple[Marks, Alarms]], lowest: float) -> float:
    """The lowest with at most one false alarm a day."""
    low, high = lowest, max((float(a.score.max(initial=lowest)) for _, a in days), default=lowest)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if count_false(days, middle) <= len(days) else (middle, high)
    return high


def interpolate_threshold(false_a_day: Sequence[float]) -> float:
    """Where the ladder has one a day; its end if it has fewer or more everywhere."""
    falling = np.log(np.maximum(np.array(false_a_day), 1e-3))[::-1]
    return float(np.interp(0.0, falling, LADDER_NATS[::-1]))


# All days


class Result(NamedTuple):
    """`thresholds`, `days`: by name. `ladder`: ours' false alarms a day without bursts, at
    LADDER_NATS."""

    thresholds: dict[str, float]
    days: dict[str, list[Day]]
    ladder: list[float]


def measure(sizes: Sizes, processes: int) -> Result:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        calm = list(pool.map(partial(run_calm_day, sizes), range(sizes.calm_days)))
        thresholds = {
            m.name: find_threshold([day.alarms[m.name] for day in calm], m.lowest) for m in METHODS
        }
        ladder = [float(np.mean([day.opened[i] for day in calm])) for i in range(len(LADDER_NATS))]
        thresholds |= {OURS: DEFAULT_NATS, OURS_CALIBRATED: interpolate_threshold(ladder)}
        print(f"calibrated: {thresholds}", file=sys.stderr)
        run = partial(run_burst_day, sizes, thresholds)
        burst_days = list(pool.map(run, range(sizes.calm_days, sizes.calm_days + sizes.days)))
    return Result(thresholds, {name: [d[name] for d in burst_days] for name in thresholds}, ladder)


# The page


class Figures(NamedTuple):
    """`above`: how many bursts are above the limit; `recall`, the medians, and `in_time`, the share
    found within 1.5 x the limit + 1 s, are of these."""

    above: int
    recall: float
    precision: float
    delay_s: float
    of_limit: float
    in_time: float
    false_a_day: float


def figures_of(days: Sequence[Day], counts: Callable[[Burst], bool] = lambda _: True) -> Figures:
    """Of the bursts for which `counts` is true."""
    trials = [t for day in days for t in day.trials if counts(t.burst)]
    above = [t for t in trials if t.burst.limit_s]
    hits = [t for t in above if t.delay_s]
    found, false = sum(t.delay_s > 0 for t in trials), sum(day.false for day in days)
    return Figures(
        len(above),
        len(hits) / max(len(above), 1),
        found / max(found + false, 1),
        float(np.median([t.delay_s for t in hits])) if hits else np.nan,
        float(np.median([t.delay_s / t.burst.limit_s for t in hits])) if hits else np.nan,
        sum(t.delay_s <= 1.5 * t.burst.limit_s + 1 for t in hits) / max(len(above), 1),
        false / len(days),
    )


def recall_lead(ours: Sequence[Day], other: Sequence[Day]) -> tuple[float, float, float]:
    """How much higher the recall of `ours` is, with its 95 % interval by resampling bursts."""
    pairs = [
        (t.delay_s > 0, u.delay_s > 0)
        for day, same in zip(ours, other, strict=True)
        for t, u in zip(day.trials, same.trials, strict=True)
        if t.burst.limit_s
    ]
    lead = np.array([float(a) - float(b) for a, b in pairs])
    picks = np.random.default_rng(0).integers(0, len(lead), (2000, len(lead)))
    low, high = np.percentile(lead[picks].mean(axis=1), [2.5, 97.5])
    return float(lead.mean()), float(low), float(high)


def main_table(result: Result) -> str:
    lines = [
        "| | precision | recall | median delay | delay by limit | found within 1.5 x limit + 1 s | false alarms a day | lead in recall |",
        "|" + "---|" * 8,
    ]
    figures = {name: figures_of(days) for name, days in result.days.items()}
    for name, f in sorted(figures.items(), key=lambda item: -item[1].recall):
        lead, low, high = recall_lead(result.days[OURS_CALIBRATED], result.days[name])
        bold = "**" if name == OURS else ""
        lines.append(
            f"| {bold}{name}{bold} | {f.precision:.3f} | {f.recall:.3f} | {f.delay_s:.0f} s | {f.of_limit:.2f} | {f.in_time:.2f} | {f.false_a_day:.2f} | {lead:+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    return "\n".join(lines)


def grid_table(days: Sequence[Day]) -> str:
    lines = [
        "| | " + " | ".join(f"x{factor:.0f}" for factor in BURST_FACTORS) + " |",
        "|---|" + "---|" * len(BURST_FACTORS),
    ]
    for duration_s in DURATIONS_S:
        cells = []
        for factor in BURST_FACTORS:
            f = figures_of(days, partial(_is_of, duration_s, factor))
            few = "none above the limit"
            cells.append(f"{f.recall:.2f} of {f.above}, {f.of_limit:.2f}" if f.above else few)
        lines.append(f"| {duration_s} s | {' | '.join(cells)} |")
    return "\n".join(lines)


def _is_of(duration_s: int, factor: float, burst: Burst) -> bool:
    return (burst.duration_s, burst.factor) == (duration_s, factor)


def kind_table(days: Sequence[Day], areas: list[Area]) -> str:
    def eps(burst: Burst) -> float:
        return float(areas[burst.area].eps[list(burst.cells)].mean())

    kinds: dict[str, Callable[[Burst], bool]] = {
        "one cell": lambda b: b.extent == "cell",
        "a city of 7 cells": lambda b: b.extent == "city",
        "moving over up to 3 cells": lambda b: b.extent == "moving",
        "step": lambda b: b.shape == "step",
        "ramp": lambda b: b.shape == "ramp",
        "usually below 0.1 events/s": lambda b: eps(b) < 0.1,
        "0.1 to 1 events/s": lambda b: 0.1 <= eps(b) < 1,
        "above 1 event/s": lambda b: eps(b) >= 1,
    }
    lines = ["| bursts | above the limit | recall | delay by limit |", "|---|---|---|---|"]
    for kind, counts in kinds.items():
        f = figures_of(days, counts)
        lines.append(f"| {kind} | {f.above} | {f.recall:.3f} | {f.of_limit:.2f} |")
    return "\n".join(lines)


def page(result: Result, speeds: str, sizes: Sizes, took_s: float, cpu_s: float) -> str:
    ours = result.days[OURS]
    trials = sum(len(day.trials) for day in ours)
    above = figures_of(ours).above
    areas = make_map(SEED, sizes.cities)
    recorded = sum(len(a.cells) for a in areas if a.recorded)
    made_up = sum(len(a.cells) for a in areas) - recorded
    ladder = ", ".join(
        f"{false:.2f} at {nats:.0f}" for nats, false in zip(LADDER_NATS, result.ladder, strict=True)
    )
    own = ", ".join(
        f"{name}: {value:.2f}" for name, value in result.thresholds.items() if name != OURS
    )
    return f"""# Hotspots: how good they are

How many bursts does the test of [hotspots.md](hotspots.md) find, how soon, and how often is it wrong, compared with other tests that
are all calibrated to one false alarm a day on the whole map? `python -m benchmarks.hotspots` measures it again and writes this page.

{main_table(result)}

{now()}; {machine()}; {took_s:.0f} s in all ({cpu_s:.0f} s of CPU). {trials:,} bursts in {sizes.days} days, {above:,} of them above the limit; recall and delay are of
these, precision is of all. A recall near 0.96 is certain to {1.96 * (0.96 * 0.04 / above) ** 0.5:.3f} (95 %). The
last column is the recall of *{OURS_CALIBRATED}* less that of the row, with its 95 % interval by resampling bursts.

*{OURS}* by factor and duration: recall, number of bursts above the limit, median delay by limit:

{grid_table(ours)}

{kind_table(ours, areas)}

False alarms a day of geolane by threshold, in {sizes.calm_days} days without bursts: {ladder} nats.

## Speed and memory

{speeds}

Median of 3 rounds (lowest to highest), all by turns in one run. In every second, {SPEED_EACH:,} random cells have events. The
NumPy row knows its baseline, `find_rises` computes it; the ratio is of their speeds, or of the time with and without detection.

## How it is measured

- **Map.** {recorded} cells with the rates of the 229 airports of the embedded week of flights, by hour of the day and smoothed over three hours
  (at most 0.02 events/s); {made_up} cells of {sizes.cities} large cities, 7 in each area, with usual rates of {LEAST_EPS:g} to {MOST_EPS:g} events/s that
  follow the sun, with a ratio of {DAY_RATIO:g} between the busiest and the quietest time. All cells and the areas are tested.
- **Events** are drawn at random (Poisson) from these rates, not taken from the record: whether a rise in a record is a burst, nobody
  knows, so it could not be counted as a false alarm or as none. Real streams are burstier; every test gives more alarms on them.
- **Bursts**: x2, x3, x5, x10; 30 s to 30 min; steps, and ramps that take half of the duration; one cell, a whole city, or moving over up to three
  neighbouring cells; {sizes.bursts} a day, one in eight at an airport. Seed {SEED}; the days are numbered from 0, first those without bursts.
- **Limit.** A burst is above it if the events expected beyond the usual ones come to {LIMIT_Z:g} standard deviations of all events that are expected, in the
  cells where it is at the time, before it ends. For a step in one cell, that takes z^2 F / (b (F - 1)^2) s.
- **Alarm.** The alarms of every test become hotspots by the same rules (`agents/core/hotspots/lifecycle.py`). A burst is found if an alarm comes in
  its area until {LATE_S} s after its end; its delay runs from its start to the end of the second of that alarm. Lateness comes on top. A hotspot that opens
  without a burst near it, from its start until {SETTLE_S // 60} min after its end, is a false alarm. Precision depends on how many bursts there are: with few, one
  false alarm a day weighs more.
- **Flink.** The job in SQL gives the same rows as geolane in process, to the last one (`tests/analytics/test_equal_rows.py`), so it has no line of its own.
- **Calibration.** On {sizes.calm_days} days without bursts, the threshold of each is set to one false alarm a day on the whole map; with bursts, there
  are other days. Thresholds: {own}.
- **The others** get every help: both CUSUMs use geolane's two factors; the fixed threshold knows each cell's busiest hour; the usual rate of
  EWMA and STA/LTA has geolane's length and floor; Kleinberg's automaton (states x1 and x2, as CUSUM with its cost as threshold) gets the last hour's mean, since the mean of
  the day would make every busy hour a burst; the scan takes the best of seven windows. Windows only count rises of at least x1.5. The oracle
  knows the true rate, which nobody does.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Sizes()
    parser.add_argument("--days", type=int, default=usual.days, help="with bursts")
    parser.add_argument("--calm-days", type=int, default=usual.calm_days, help="to calibrate on")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    begun = time.perf_counter()
    sizes = Sizes(calm_days=options.calm_days, days=options.days)
    result = measure(sizes, options.processes)
    speeds = [measure_speed(cells, slots, SPEED_EACH, 3) for cells, slots in SPEED_SIZES]
    tables = speed_tables(speeds, [measure_size(cells, 3) for cells, _ in SPEED_SIZES])
    text = page(result, tables, sizes, time.perf_counter() - begun, cpu_seconds())
    print(text)
    if not options.no_write:
        PAGE.write_text(text, "utf-8")


def cpu_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
