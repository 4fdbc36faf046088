"""A pipeline that needs 1 / CAPACITY_EPS seconds for each record, as one that waits for a database
does: a node that runs it has that capacity, and several nodes fit on one machine."""

from __future__ import annotations

import time

from agents.core.lanes.records import Record

CAPACITY_EPS = 400.0


def pipeline(batch: list[Record]) -> list[Record]:
    time.sleep(len(batch) / CAPACITY_EPS)
    return batch
