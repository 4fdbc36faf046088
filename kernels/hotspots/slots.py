"""Event time for the test of docs/hotspots.md: what is late, how far the watermark is, and the
counts of each cell and slot that it has closed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kernels.tables import Marks

_RESOLUTION_BIT = 52
_DIGITS_BIT = 45  # of resolution 0; each finer resolution has three bits below
MOST_PENDING = 4_000_000
"""Counts of slots that are not closed. Beyond, events are dropped: only a clock that stands still,
with events in ever new cells, brings so many."""
_NONE = np.empty(0, np.int64)


def area_of_cells(cells: Marks, resolution: int) -> Marks:
    """The H3 ancestors of these cells (as integers) at this resolution; a cell that is as coarse is
    its own. Source: h3geo.org, "Index bit layout"."""
    finer = (cells >> _RESOLUTION_BIT) & 15 > resolution
    unused = (1 << (_DIGITS_BIT - 3 * resolution)) - 1
    coarse = cells & ~(15 << _RESOLUTION_BIT) | resolution << _RESOLUTION_BIT | unused
    return np.where(finer, coarse, cells)


class Counts(NamedTuple):
    """R rows by slot, then cell: `events` of H3 cell `cell` in second `slot_s`, int64[R] each."""

    slot_s: Marks
    cell: Marks
    events: Marks

    @classmethod
    def none(cls) -> Counts:
        return cls(_NONE, _NONE, _NONE)

    def plus(self, slot_s: Marks, cell: Marks, count: Marks) -> Counts:
        """These rows and more; rows of one slot and cell become one."""
        slots = np.concatenate((self.slot_s, slot_s))
        cells = np.concatenate((self.cell, cell))
        counts = np.concatenate((self.events, count))
        if not len(slots):
            return Counts.none()
        order = np.lexsort((cells, slots))
        slots, cells, counts = slots[order], cells[order], counts[order]
        new = np.empty(len(slots), bool)
        new[0] = True
        np.not_equal(slots[1:], slots[:-1], out=new[1:])
        new[1:] |= cells[1:] != cells[:-1]
        firsts = np.flatnonzero(new)
        return Counts(slots[firsts], cells[firsts], np.add.reduceat(counts, firsts))

    def split_at_slot(self, slot_s: int) -> tuple[Counts, Counts]:
        """The rows up to this slot, and those after it."""
        n = int(np.searchsorted(self.slot_s, slot_s, side="right"))
        return Counts(*(x[:n] for x in self)), Counts(*(x[n:] for x in self))


@dataclass(slots=True)
class SlotCounter:
    """Counts the events of a stream of several partitions. `high_ms`: each partition's high mark.
    `watermark_ms`: -1 until there is one. `pending`: the counts of slots that are not closed.
    `late`: how many events were late. `dropped`: how many were not counted for want of room."""

    lateness_ms: int
    area_resolution: int
    high_ms: dict[int, int] = field(default_factory=dict)
    watermark_ms: int = -1
    pending: Counts = field(default_factory=Counts.none)
    late: int = 0
    dropped: int = 0

    def count_events(self, partition: int, ts_ms: Marks, cell: Marks) -> None:
        """Count N events of a partition in the order of its log. `ts_ms`: event time, from 0;
        `cell`: H3 index, int64[N] each."""
        if not len(ts_ms):
            return
        high = np.maximum.accumulate(ts_ms)
        np.maximum(high, self.high_ms.get(partition, -1), out=high)
        in_time = ts_ms > np.maximum(high - self.lateness_ms, self.watermark_ms)
        self.high_ms[partition] = int(high[-1])
        kept = ts_ms[in_time]
        self.late += len(ts_ms) - len(kept)
        if len(self.pending.slot_s) >= MOST_PENDING:
            self.dropped += len(kept)
            return
        self.pending = self.pending.plus(kept // 1000, cell[in_time], np.ones(len(kept), np.int64))

    def close_slots(self, waited_for: Collection[int]) -> Counts:
        """Advance the watermark, and return the counts that it closes, with those of areas.
        `waited_for`: the partitions that are not idle."""
        marks = [self.high_ms.get(p, -1) for p in waited_for]
        mark = min(marks) if marks else max(self.high_ms.values(), default=-1)
        self.watermark_ms = max(self.watermark_ms, mark - self.lateness_ms)
        closed, self.pending = self.pending.split_at_slot(self.closed_s)
        area = area_of_cells(closed.cell, self.area_resolution)
        coarser = area != closed.cell
        return closed.plus(closed.slot_s[coarser], area[coarser], closed.events[coarser])

    @property
    def closed_s(self) -> int:
        """The last slot that the watermark has closed; -1 if there is none."""
        return (self.watermark_ms + 1) // 1000 - 1
