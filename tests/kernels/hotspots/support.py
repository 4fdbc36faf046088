"""The definition of docs/hotspots.md read literally, for tests: every row begins a run, and the
first run to exceed the threshold is the row of the result, as in Flink's MATCH_RECOGNIZE."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kernels.hotspots.rises import FACTORS, MOST_COUNT, MOST_USUAL, Rule

Tested = tuple[int, int, int, int, int, int]  # slot, events, usual, expected, gap, span


@dataclass(frozen=True, order=True)
class Found:
    at_s: int
    cell: int
    factor: int
    started_s: int
    events: int
    usual: int
    usual_s: int


def slow_rises(rows: Iterable[tuple[int, int, int]], rule: Rule) -> set[Found]:
    """`rows`: (slot in s, cell, events), in any order, each slot and cell once."""
    by_cell = defaultdict[int, dict[int, int]](dict)
    for slot, cell, n in rows:
        by_cell[cell][slot] = min(n, MOST_COUNT)
    return {f for cell, slots in by_cell.items() for f in _of_cell(cell, slots, rule)}


def _of_cell(cell: int, slots: dict[int, int], rule: Rule) -> Iterator[Found]:
    minutes = defaultdict[int, int](int)
    for slot, n in slots.items():
        minutes[slot // 60] += n
    ordered = sorted(slots)
    tested = []
    for before, slot in zip([None, *ordered], ordered, strict=False):
        closed = [m for m in minutes if (m + 1) * 60 <= slot + 1]
        version = max((m for m in closed if slot - (m + 1) * 60 <= 86_400), default=None)
        near, far = (
            0 if version is None else sum(minutes.get(version - k, 0) for k in range(*ago))
            for ago in ((5, 45), (25, 65))
        )
        age = slot // 60 - rule.since_s // 60
        if age < 15:
            continue
        use_far = near < 160 and age >= 65
        usual, known = (far, 40) if use_far else (near, min(40, age - 5))
        gap = 1 if before is None else min(slot - before, 3600)
        tested.append(
            (
                slot,
                slots[slot],
                usual,
                min(usual, MOST_USUAL) + math.isqrt(min(usual, MOST_USUAL)) + rule.floor,
                gap,
                known * 60,
            )
        )
    for f, factor in enumerate(FACTORS):
        gain, cost = round(math.log(factor) * 1e6), round((factor - 1) * 1e6)
        begin = 0
        while True:
            ends = [
                e for s in range(begin, len(tested)) if (e := _end(tested, s, gain, cost, rule))
            ]
            if not ends:
                break
            last, first = min(ends)
            run = tested[first : last + 1]
            yield Found(
                run[-1][0], cell, f, run[0][0], sum(r[1] for r in run), run[-1][2], run[-1][5]
            )
            begin = last + 1


def _end(
    tested: list[Tested], start: int, gain: int, cost: int, rule: Rule
) -> tuple[int, int] | None:
    """(its last row, its first) of the run that begins at `start`, if it exceeds the threshold."""
    total = 0
    for i in range(start, len(tested)):
        _, n, _, expected, gap, span = tested[i]
        if i > start:
            total -= expected * cost * (gap - 1) // span
            if total <= 0 or gap >= 3600:
                return None
        total += n * gain - expected * cost // span
        bits = len(f"{expected * 3600 // span:b}")
        if total > rule.threshold + 500_000 * (bits - 12):
            return i, start
        if total <= 0:
            return None
    return None
