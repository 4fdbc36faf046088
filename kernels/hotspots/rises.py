"""The test of docs/hotspots.md over the rows of closed slots: a sum of log-likelihood ratios
(CUSUM) per cell and factor, against the cell's own baseline.

All arithmetic is in integers, so that Flink's SQL gives the same rows to the last one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.jit import njit
from kernels.tables import Ints, Marks

FACTORS = (2.2, 5.5)
"""A sum is kept for each: how likely the counts are at this many times the usual rate, against the
usual rate. Between them they lose up to a fifth of the best delay for any rise from 2 to 11."""
GAIN: Marks = np.round(np.log(np.array(FACTORS)) * 1e6).astype(np.int64)  # micro-nats per event
COST: Marks = np.round((np.array(FACTORS) - 1) * 1e6).astype(np.int64)  # per expected event
MINUTE_S = 60
USUAL_MIN = 40  # length of a baseline
NEAR_MIN, FAR_MIN = 5, 25  # how long ago the near and the far baseline end
"""Where there are few events, it takes long until a rise shows, and that time must not be part of
the baseline."""
FEW = 160  # events in the near baseline; with fewer, the far one counts
LEAST_MIN = 10  # nothing is tested against a shorter near baseline
RING_MIN = 66
KEEP_S = 24 * 3600  # an older usual figure is forgotten
GAP_S = 3600  # a longer silence counts as this long, and ends every run
STEP = 500_000  # micro-nats by which the threshold rises each time that the expected rate doubles
MIDDLE_BITS = 12  # of the events expected in an hour at which it is as it was set
MOST_COUNT = 10_000_000
"""Of events of a cell in a slot; more count as this many, so that a minute fits into an int32."""
MOST_USUAL = 400_000_000
"""Of events that are expected; more count as this many, which keeps products below 2**63."""


class Rule(NamedTuple):
    """`since_s`: when the stream begins (epoch s). `floor`: events that every baseline has in
    addition to those that were counted. `threshold`: micro-nats that a sum must exceed where 2,048
    to 4,095 events are expected in an hour."""

    since_s: int
    floor: int
    threshold: int


class Cells(NamedTuple):
    """What is kept of C cells. `last_s`: slot of the last row, -1 for none, int64[C].
    `active_min`: minute of the last row, -1 for none, int64[C]. `minutes`: events of the 66 minutes
    up to `active_min`, by minute modulo 66, int32[C, 66]. `version_min`: the closed minute for
    which `near` and `far` hold, int64[C]. `near`: events of the 40 minutes that end 5 minutes
    before it, `far`: of those that end 25 minutes before it, int64[C]. Of the present run, per
    factor: `sums` (micro-nats; 0 means that there is none), `started_s`, `events`, int64[C, 2]."""

    last_s: Marks
    active_min: Marks
    minutes: Ints
    version_min: Marks
    near: Marks
    far: Marks
    sums: Marks
    started_s: Marks
    events: Marks

    @classmethod
    def empty(cls, count: int) -> Cells:
        def of(value: int, *shape: int) -> Marks:
            return np.full((count, *shape), value, np.int64)

        many = len(FACTORS)
        return cls(
            of(-1),
            of(-1),
            np.zeros((count, RING_MIN), np.int32),
            of(-1),
            of(0),
            of(0),
            of(0, many),
            of(0, many),
            of(0, many),
        )


class Rises(NamedTuple):
    """R rows: the sum of `row`'s cell for FACTORS[`factor`] exceeded the threshold. `started_s`:
    slot at which the run began; `events`: of the run; `usual`: events of the baseline, which lasts
    `usual_s`. int64[R] each."""

    row: Marks
    factor: Marks
    started_s: Marks
    events: Marks
    usual: Marks
    usual_s: Marks


def find_rises(slot_s: Marks, cell: Marks, count: Marks, cells: Cells, rule: Rule) -> Rises:
    """Test R rows, by slot in ascending order, each cell at most once in a slot. `cell`: row in
    `cells`, which is updated in place. The rows may come in several calls."""
    out = np.empty((len(slot_s) * len(FACTORS), 6), np.int64)
    found = _scan(slot_s, cell, count, *cells, GAIN, COST, *rule, out)
    return Rises(*out[:found].T)


@njit()
def _count(minutes: npt.NDArray[np.int32], minute: int, ago: int) -> int:
    total = 0
    for back in range(ago, ago + USUAL_MIN):
        total += minutes[(minute - back) % RING_MIN]
    return total


@njit()
def _scan(
    slot_s: Marks,
    cell: Marks,
    count: Marks,
    last_s: Marks,
    active_min: Marks,
    minutes: Ints,
    version_min: Marks,
    near: Marks,
    far: Marks,
    sums: Marks,
    started_s: Marks,
    events: Marks,
    gain: Marks,
    cost: Marks,
    since_s: int,
    floor: int,
    threshold: int,
    out: Marks,
) -> int:
    found = 0
    for i in range(len(slot_s)):
        t, c, n = slot_s[i], cell[i], min(count[i], MOST_COUNT)
        minute, active = t // MINUTE_S, active_min[c]
        # The baseline changes when a minute closes, so that of the cell's last active minute holds.
        if active >= 0 and active < minute and version_min[c] != active:
            near[c] = _count(minutes[c], active, NEAR_MIN)
            far[c] = _count(minutes[c], active, FAR_MIN)
            version_min[c] = active
        for m in range(max(active, minute - RING_MIN) + 1, minute + 1):
            minutes[c, m % RING_MIN] = 0
        active_min[c] = minute
        minutes[c, minute % RING_MIN] += n
        if (t + 1) // MINUTE_S > minute:
            near[c] = _count(minutes[c], minute, NEAR_MIN)
            far[c] = _count(minutes[c], minute, FAR_MIN)
            version_min[c] = minute
        gap_s = min(t - last_s[c], GAP_S) if last_s[c] >= 0 else 1
        last_s[c] = t
        age_min = minute - since_s // MINUTE_S
        if age_min - NEAR_MIN < LEAST_MIN:
            continue
        if t - (version_min[c] + 1) * MINUTE_S > KEEP_S:
            near[c], far[c] = 0, 0
        if near[c] < FEW and age_min - FAR_MIN >= USUAL_MIN:
            usual, span_s = far[c], USUAL_MIN * MINUTE_S
        else:
            usual, span_s = near[c], min(USUAL_MIN, age_min - NEAR_MIN) * MINUTE_S
        counted = min(usual, MOST_USUAL)
        expected = counted + int(np.sqrt(counted)) + floor
        limit = threshold + STEP * (_bits(expected * 3600 // span_s) - MIDDLE_BITS)
        for f in range(len(gain)):
            before = sums[c, f] - expected * cost[f] * (gap_s - 1) // span_s
            if sums[c, f] <= 0 or before <= 0 or gap_s >= GAP_S:
                before = 0
                started_s[c, f] = t
                events[c, f] = 0
            events[c, f] += n
            total = before + n * gain[f] - expected * cost[f] // span_s
            if total > limit:
                out[found, 0], out[found, 1] = i, f
                out[found, 2], out[found, 3] = started_s[c, f], events[c, f]
                out[found, 4], out[found, 5] = usual, span_s
                found += 1
                total = 0
            sums[c, f] = max(0, total)
    return found


@njit()
def _bits(number: int) -> int:
    """Length in binary, at least 1."""
    bits = 1
    while number > 1:
        number >>= 1
        bits += 1
    return bits
