"""The whole of docs/hotspots.md in process, from events to rises, for any number of cells. Its
state can be saved and restored between any two calls."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.hotspots.rises import KEEP_S, Cells, Rises, Rule, find_rises
from kernels.hotspots.slots import Counts, SlotCounter
from kernels.tables import Marks

SINCE_UNKNOWN = -1
MOST_CELLS = 1 << 20
"""Cells and areas that are known at once, about 300 MB. Events of others are dropped."""
_FORGET_EVERY_S = 3600
Saved = dict[str, npt.NDArray[Any]]


@dataclass(slots=True)
class Detector:
    """`keys`: the cells that are known, in ascending order, int64[C]; `rows`: where each is in
    `cells`, int64[C]. The stream begins with the first slot that is closed."""

    slots: SlotCounter
    floor: int
    threshold: int
    since_s: int = SINCE_UNKNOWN
    keys: Marks = field(default_factory=lambda: np.empty(0, np.int64))
    rows: Marks = field(default_factory=lambda: np.empty(0, np.int64))
    cells: Cells = field(default_factory=lambda: Cells.empty(0))
    forgotten_s: int = 0

    def find_rises(self, waited_for: Collection[int]) -> tuple[Counts, Rises]:
        """The counts of the slots that are closed now, and the rises among them. `waited_for`: the
        partitions that are not idle."""
        closed = self.slots.close_slots(waited_for)
        if len(closed.slot_s) and self.since_s == SINCE_UNKNOWN:
            self.since_s = int(closed.slot_s[0])
        rule = Rule(self.since_s, self.floor, self.threshold)
        rows = self._rows_of(closed.cell)
        if (strange := rows < 0).any():
            self.slots.dropped += int(closed.events[strange].sum())
            closed, rows = Counts(*(x[~strange] for x in closed)), rows[~strange]
        rises = find_rises(closed.slot_s, rows, closed.events, self.cells, rule)
        self._forget_old_cells()
        return closed, rises

    def _rows_of(self, cell: Marks) -> Marks:
        """Where these cells are in `cells`; new ones are added while there is room, else -1."""
        wanted, inverse = np.unique(cell, return_inverse=True)
        at = np.searchsorted(self.keys, wanted)
        known = np.zeros(len(wanted), bool)
        inside = at < len(self.keys)
        known[inside] = self.keys[at[inside]] == wanted[inside]
        first = len(self.keys)
        new = np.flatnonzero(~known)[: MOST_CELLS - first]
        if len(new):
            self._make_room(first + len(new))
            added = np.arange(first, first + len(new))
            self.keys = np.insert(self.keys, at[new], wanted[new])
            self.rows = np.insert(self.rows, at[new], added)
            at = np.searchsorted(self.keys, wanted)
            known[new] = True
        found = np.full(len(wanted), -1, np.int64)
        found[known] = self.rows[at[known]]
        rows: Marks = found[inverse.ravel()]
        return rows

    def _make_room(self, count: int) -> None:
        have = len(self.cells.last_s)
        if count > have:
            more = Cells.empty(min(max(count, 2 * have, 256), MOST_CELLS) - have)
            both = ((getattr(self.cells, name), getattr(more, name)) for name in Cells._fields)
            self.cells = Cells._make(map(np.concatenate, both))

    def _forget_old_cells(self) -> None:
        """Drop the cells of which nothing counts any more."""
        now_s = self.slots.closed_s
        if now_s - self.forgotten_s < _FORGET_EVERY_S:
            return
        self.forgotten_s = now_s
        last_s = self.cells.last_s[self.rows]
        kept = last_s > now_s - KEEP_S - 60
        if not kept.all():
            self._keep(kept)

    def _keep(self, kept: npt.NDArray[np.bool_]) -> None:
        self.keys, old = self.keys[kept], self.rows[kept]
        self.rows = np.arange(len(old))
        self.cells = Cells._make(column[old] for column in self.cells)

    # Saving

    def save(self) -> Saved:
        """A copy of the state, as named arrays."""
        slots = self.slots
        high = np.array(sorted(slots.high_ms.items()), np.int64).reshape(-1, 2)
        alone = [slots.watermark_ms, slots.late, self.since_s, self.forgotten_s]
        saved: Saved = {"alone": np.array(alone, np.int64), "high_ms": high, "keys": self.keys}
        saved |= {f"pending.{k}": v for k, v in slots.pending._asdict().items()}
        return saved | {f"cells.{k}": v[self.rows] for k, v in self.cells._asdict().items()}

    def restore(self, saved: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a saved state. Raises KeyError or ValueError if it is not one."""
        slots = self.slots
        keys, high, alone = saved["keys"], saved["high_ms"], saved["alone"]
        pending = Counts._make(saved[f"pending.{k}"] for k in Counts._fields)
        cells = Cells._make(saved[f"cells.{k}"].copy() for k in Cells._fields)
        blank = Cells.empty(len(keys))
        shapes, expected = ([(c.shape, c.dtype) for c in some] for some in (cells, blank))
        if alone.shape != (4,) or shapes != expected:
            raise ValueError("not the state of this version's detector")
        slots.watermark_ms, slots.late, self.since_s, self.forgotten_s = map(int, alone)
        slots.high_ms = {int(p): int(ms) for p, ms in high}
        slots.pending = pending
        self.keys, self.rows, self.cells = keys, np.arange(len(keys)), cells
