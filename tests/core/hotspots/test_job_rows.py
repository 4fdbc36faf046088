"""Rows of a Flink job: whatever is read twice, or is not a row, changes nothing."""

from __future__ import annotations

import random

import msgspec
from msgspec.structs import replace

from agents.core.hotspots.job_rows import JobRows, decode_row
from agents.core.hotspots.lifecycle import Lifecycle
from agents.core.model.hotspots import Rise

CELL = "852a1073fffffff"
RISES = [Rise(t, CELL, 2.5, t - 10, 50, 5, 600) for t in range(1000, 4000, 70)]
ROWS = sorted(
    [*RISES, *(Rise(t, "", 0.0, 0, 7, 0, 1) for t in range(999, 9000, 10))],
    key=lambda row: (row.at_s, not row.cell),
)


def test_hotspots_are_those_of_the_rises() -> None:
    rows = JobRows()
    assert list(rows.take(ROWS)) == list(Lifecycle().advance(RISES, 8999))
    assert (rows.told_s, rows.recent, rows.events) == (8999, [], 7 * 801)


def test_a_job_that_begins_again_from_anywhere_changes_nothing() -> None:
    rng, once = random.Random(1), list(JobRows().take(ROWS))
    for _ in range(50):
        stop = rng.randrange(len(ROWS))
        again = rng.randrange(stop + 1)
        rows = JobRows()
        first = list(rows.take(ROWS[:stop]))
        # as after a restart of ours, too
        rows = JobRows(rows.lifecycle, rows.told_s, list(rows.recent))
        assert first + list(rows.take(ROWS[again:])) == once


def test_what_no_job_can_have_written_is_left_out() -> None:
    good = msgspec.json.encode(RISES[0])
    assert decode_row(good, 2_000_000) == RISES[0]
    assert decode_row(good, 900_000) is None, "of the future"
    for bad in (None, b"", b"{}", b"[" * 10_000, b"\xff", good.replace(b"600", b"0")):
        assert decode_row(bad, 2_000_000) is None
    for rise in (replace(RISES[0], usual=0), replace(RISES[0], events=0)):
        assert decode_row(msgspec.json.encode(rise), 2_000_000) == rise
    for rise in (replace(RISES[0], usual=-1), replace(RISES[0], events=-1)):
        assert decode_row(msgspec.json.encode(rise), 2_000_000) is None
    for bad in (b'"at_s":-1', b'"at_s":989'):
        assert decode_row(good.replace(b'"at_s":1000', bad), 2_000_000) is None


def test_a_row_that_comes_again_with_another_name_is_the_same_row() -> None:
    rows = JobRows()
    (opened,) = rows.take([replace(RISES[0], name="Dallas", named_by="offline")])
    assert opened.name == "Dallas"
    assert list(rows.take([RISES[0], replace(RISES[0], name="Irving")])) == []
    assert decode_row(msgspec.json.encode(replace(RISES[0], name="x" * 121)), 2_000_000) is None
