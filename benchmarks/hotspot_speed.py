"""How fast the detector of hotspots is, and how much memory its cells take: a part of
`python -m benchmarks.hotspots`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from agents.core.hotspots.areas import AREA_RESOLUTION
from benchmarks.tables import spread
from kernels.hotspots.detector import Detector
from kernels.hotspots.rises import COST, GAIN, Cells, Rule, find_rises
from kernels.hotspots.slots import SlotCounter
from kernels.tables import Marks

START_S = 978_912_000
LATENESS_MS = 5_000
RULE = Rule(START_S - 3_600, 12, 17_000_000)
BATCH = 5_000  # events, as they come from Kafka
PARTITIONS = 4
RESOLUTION_5 = 0x85 << 52 | 0x3FFF_FFFF  # an H3 index of resolution 5 without its cell


class Speed(NamedTuple):
    """`cells`: of the map. Seconds by round: `rows`, `numpy`: of `row_count` rows in find_rises, and in a plain CUSUM
    with NumPy over all cells. `counted`, `detected`: of `event_count` events in SlotCounter alone,
    and in SlotCounter and Detector."""

    cells: int
    row_count: int
    event_count: int
    rows: list[float]
    numpy: list[float]
    counted: list[float]
    detected: list[float]


class Size(NamedTuple):
    """`state_mb`: of the live state; `saved_mb`: of a saved one; `save_s`: to save, by round."""

    cells: int
    state_mb: float
    saved_mb: float
    save_s: list[float]


def cells_of(numbers: Marks) -> Marks:
    """Different integers of the form of an H3 index of resolution 5, not all on earth."""
    return RESOLUTION_5 | numbers << 30


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def make_rows(cells: int, slots: int, each: int) -> tuple[Marks, Marks, Marks]:
    """Rows of `slots` seconds, of `each` random cells in every one."""
    rng = np.random.default_rng(1)
    cell = np.concatenate([np.sort(rng.permutation(cells)[:each]) for _ in range(slots)])
    slot = np.repeat(START_S + np.arange(slots), each)
    return slot, cell, rng.poisson(0.5, len(cell)) + np.int64(1)


def numpy_cusum(slot: Marks, cell: Marks, count: Marks, cells: int, each: int) -> int:
    """A plain CUSUM against a constant rate: every second, all cells."""
    sums = np.zeros((len(GAIN), cells))
    found = 0
    for i in range(0, len(slot), each):
        events = np.zeros(cells)
        events[cell[i : i + each]] = count[i : i + each]
        sums = np.maximum(sums + events * GAIN[:, None] - 0.01 * COST[:, None], 0)
        above = sums > RULE.threshold
        found += int(above.sum())
        sums[above] = 0
    return found


def _feed(detector: Detector, ts_ms: Marks, cell: Marks, detects: bool) -> None:
    for i in range(0, len(ts_ms), BATCH):
        partition = i // BATCH % PARTITIONS
        detector.slots.count_events(partition, ts_ms[i : i + BATCH], cell[i : i + BATCH])
        if detects:
            detector.find_rises(range(PARTITIONS))
        else:
            detector.slots.close_slots(range(PARTITIONS))


def make_detector() -> Detector:
    return Detector(SlotCounter(LATENESS_MS, AREA_RESOLUTION), RULE.floor, RULE.threshold)


def measure_speed(cells: int, slots: int, each: int, rounds: int) -> Speed:
    slot, cell, count = make_rows(cells, slots, each)
    events = slots * each
    ts_ms = START_S * 1000 + np.sort(np.random.default_rng(2).integers(0, slots * 1000, events))
    of_event = cells_of(np.random.default_rng(3).integers(0, cells, events))
    find_rises(slot[:each], cell[:each], count[:each], Cells.empty(cells), RULE)  # compiles
    found = Speed(cells, len(slot), events, [], [], [], [])
    for _ in range(rounds):
        state = Cells.empty(cells)
        found.rows.append(_timed(lambda s=state: find_rises(slot, cell, count, s, RULE)))  # type: ignore[misc]
        found.numpy.append(_timed(lambda: numpy_cusum(slot, cell, count, cells, each)))
        for detects, seconds in ((False, found.counted), (True, found.detected)):
            fresh = make_detector()
            seconds.append(_timed(lambda d=fresh, w=detects: _feed(d, ts_ms, of_event, w)))  # type: ignore[misc]
    return found


def measure_size(cells: int, rounds: int) -> Size:
    """Of a detector that has seen one event of each of so many cells (and so of their areas)."""
    detector = make_detector()
    each = cells_of(np.arange(cells))
    for second, cell in ((0, each), (60, each[:1])):
        ts_ms = np.full(len(cell), (START_S + second) * 1000)
        detector.slots.count_events(0, ts_ms, cell)
        detector.find_rises([0])
    state = (detector.keys, detector.rows, *detector.cells)
    saved = detector.save()
    return Size(
        len(detector.keys),
        sum(column.nbytes for column in state) / 1e6,
        sum(column.nbytes for column in saved.values()) / 1e6,
        [_timed(detector.save) for _ in range(rounds)],
    )


def speed_tables(speeds: list[Speed], sizes: list[Size]) -> str:
    def rates(count: Callable[[Speed], int], seconds: Callable[[Speed], list[float]]) -> str:
        return " | ".join(spread((count(s) / t / 1e6 for t in seconds(s)), ".2f") for s in speeds)

    def ratios(slow: Callable[[Speed], list[float]], fast: Callable[[Speed], list[float]]) -> str:
        return " | ".join(
            spread((a / b for a, b in zip(slow(s), fast(s), strict=True)), ".2f") for s in speeds
        )

    head = " | ".join(f"{s.cells:,} cells" for s in speeds)
    lines = [
        f"| one core | {head} |",
        "|---|" + "---|" * len(speeds),
        f"| million rows/s (second and cell) through `find_rises` | {rates(lambda s: s.row_count, lambda s: s.rows)} |",
        f"| the same through a plain CUSUM in NumPy, which computes all cells each second | {rates(lambda s: s.row_count, lambda s: s.numpy)} |",
        f"| ratio | {ratios(lambda s: s.numpy, lambda s: s.rows)} |",
        f"| million events/s through `SlotCounter` alone | {rates(lambda s: s.event_count, lambda s: s.counted)} |",
        f"| million events/s through `SlotCounter` and `Detector` | {rates(lambda s: s.event_count, lambda s: s.detected)} |",
        f"| ratio | {ratios(lambda s: s.counted, lambda s: s.detected)} |",
        "",
        "| cells and areas | state in memory, MB | saved, MB | `save()`, s |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {size.cells:,} | {size.state_mb:,.0f} | {size.saved_mb:,.0f} | {spread(size.save_s, '.3f')} |"
        for size in sizes
    ]
    return "\n".join(lines)
