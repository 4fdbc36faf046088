"""From records of `events.lanes` to columns: event time and cell (docs/hotspots.md, "Time")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from h3.api import basic_int

from agents.core.lanes.records import CELL, TS, parse_number
from kernels.tables import Marks

_MOST_CACHED = 200_000
_NO_CELL = 0


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
            cell, ms = self._read_headers(r.headers)
            if cell == _NO_CELL or ms < 0:
                self.skipped += 1
                continue
            ts_ms.append(min(ms, r.timestamp))
            cells.append(cell)
        return np.array(ts_ms, np.int64), np.array(cells, np.int64)

    def _read_headers(self, headers: Sequence[tuple[str, bytes | None]]) -> tuple[int, int]:
        """The cell and the time; of a header that is there twice, the first counts."""
        cell, ms = _NO_CELL, -1
        found = 0
        for name, content in headers:
            if name == CELL and not found & 1:
                cell, found = self._parse_cell(content), found | 1
            elif name == TS and not found & 2:
                ms, found = parse_number(content, -1), found | 2
            if found == 3:
                break
        return cell, ms

    def _parse_cell(self, content: bytes | None) -> int:
        cell = self._cells.get(content)
        if cell is None:
            if len(self._cells) >= _MOST_CACHED:
                self._cells.clear()
            cell = self._cells[content] = parse_cell(content)
        return cell


def parse_cell(content: bytes | None) -> int:
    """The H3 cell that a header holds as 15 lower-case hex digits; 0 if it holds none."""
    if content is None or len(content) != 15 or content.strip(b"0123456789abcdef"):
        return _NO_CELL
    cell = int(content, 16)
    return cell if basic_int.is_valid_cell(cell) else _NO_CELL
