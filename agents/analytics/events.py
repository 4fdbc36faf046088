"""From records of `events.lanes` to columns: event time and cell (docs/hotspots.md, "Time")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.core.lanes.records import CELL, TS
from kernels.tables import Marks

_MOST_CACHED = 200_000
_NO_CELL = 0
_CELL = re.compile(rb"8[0-9a-f]{14}")
_TS = re.compile(rb"[0-9]{1,15}")


class EventReader:
    """Reads records, and remembers the cells that it has seen. `skipped`: records that are not
    events of a cell."""

    def __init__(self) -> None:
        self.skipped = 0
        self._cells: dict[bytes | None, int] = {}

    def read_columns(self, records: Sequence[Any]) -> tuple[Marks, Marks]:
        """(event time in epoch ms, H3 cell) of the valid ones, in their order, int64 each.
        `records`: aiokafka's, which have no types."""
        ts_ms, cells = list[int](), list[int]()
        for r in records:
            cell, ts = _NO_CELL, b""
            for name, content in r.headers:  # of a name that is there twice, the last one counts
                if name == CELL:
                    cell = self._parse_cell(content)
                elif name == TS:
                    ts = content or b""
            if cell == _NO_CELL or r.value is None or not _TS.fullmatch(ts):
                self.skipped += 1
                continue
            ts_ms.append(min(int(ts), r.timestamp))
            cells.append(cell)
        return np.array(ts_ms, np.int64), np.array(cells, np.int64)

    def _parse_cell(self, content: bytes | None) -> int:
        cell = self._cells.get(content)
        if cell is None:
            if len(self._cells) >= _MOST_CACHED:
                self._cells.clear()
            cell = self._cells[content] = parse_cell(content)
        return cell


def parse_cell(content: bytes | None) -> int:
    """The H3 index that a header holds as 15 lower-case hex digits; 0 if it holds none. Whether
    there is such a cell is not checked."""
    return int(content, 16) if content is not None and _CELL.fullmatch(content) else _NO_CELL
