"""From events in any order within the lateness to the rows of the definition."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.hotspots import detector as detector_module
from kernels.hotspots import slots as slots_module
from kernels.hotspots.detector import Detector
from kernels.hotspots.rises import Rule
from kernels.hotspots.slots import SlotCounter, area_of_cells
from tests.kernels.hotspots.support import Found, slow_rises

LATENESS_MS = 5000
START_MS = 1_600_000_000_000
CELLS = np.array(
    [h3.latlng_to_cell(lat, lon, 5) for lat, lon in ((40.7, -74), (40.6, -74.2), (35.7, 139.7))]
)
Events = list[tuple[int, int, int]]  # (partition, ms, cell)


def made_detector() -> Detector:
    return Detector(SlotCounter(LATENESS_MS, 3), 12, 18_000_000)


def made_events(seed: int, partitions: int = 3, minutes: int = 70) -> Events:
    """In the order of arrival: shuffled within the lateness, with bursts."""
    rng = np.random.default_rng(seed)
    events = []
    for c, cell in enumerate(CELLS):
        rate = np.full(minutes * 60, 0.3 * (c + 1))
        for _ in range(3):
            at = rng.integers(minutes * 60)
            rate[at : at + 120] *= 8
        for s, n in enumerate(rng.poisson(rate)):
            events += [
                (int(rng.integers(partitions)), START_MS + s * 1000 + int(ms), int(cell))
                for ms in rng.integers(1000, size=n)
            ]
    return sorted(events, key=lambda e: e[1] + rng.integers(LATENESS_MS - 1))


def run(
    found: list[Found], detector: Detector, events: Events, waited_for: tuple[int, ...]
) -> None:
    """Count these events, and add the rises of the slots that they close."""
    for p in sorted({e[0] for e in events}):
        mine = [e for e in events if e[0] == p]
        ts, cell = (np.array([e[i] for e in mine], np.int64) for i in (1, 2))
        detector.slots.count_events(p, ts, cell)
    closed, rises = detector.find_rises(waited_for)
    found += [
        Found(int(closed.slot_s[r[0]]), int(closed.cell[r[0]]), *map(int, r[1:]))
        for r in zip(*rises, strict=True)
    ]


def expected_rises(events: Events, closed_s: int, since_s: int) -> set[Found]:
    counts = Counter[tuple[int, int]]()
    for _, ms, cell in events:
        if ms // 1000 <= closed_s:
            for level in {cell, h3.cell_to_parent(cell, 3)}:
                counts[ms // 1000, level] += 1
    rule = Rule(since_s, 12, 18_000_000)
    return slow_rises([(s, c, n) for (s, c), n in counts.items()], rule)


@pytest.mark.parametrize("seed", range(3))
def test_events_shuffled_within_the_lateness_give_the_rows_of_the_definition(seed: int) -> None:
    events, detector, found = made_events(seed), made_detector(), list[Found]()
    cuts = sorted(np.random.default_rng(seed).integers(len(events), size=200))
    for a, b in pairwise([0, *cuts, len(events)]):
        run(found, detector, events[a:b], (0, 1, 2))
    assert detector.slots.late == 0
    since_s = min(e[1] for e in events) // 1000
    assert set(found) == expected_rises(events, detector.slots.closed_s, since_s)
    assert len(found) == len(set(found)) > 10
    assert {f.cell for f in found} > set(map(int, CELLS))  # and areas


def test_a_saved_state_goes_on_as_if_nothing_had_happened() -> None:
    events, whole, found = made_events(7), made_detector(), list[Found]()
    cut, again = len(events) // 2, list[Found]()
    run(found, whole, events[:cut], (0, 1, 2))
    restored = made_detector()
    restored.restore({k: v.copy() for k, v in whole.save().items()})
    again += found
    run(found, whole, events[cut:], (0, 1, 2))
    run(again, restored, events[cut:], (0, 1, 2))
    assert again == found
    assert {k: v.tolist() for k, v in restored.save().items()} == {
        k: v.tolist() for k, v in whole.save().items()
    }


def test_a_state_of_another_version_is_refused() -> None:
    saved = made_detector().save()
    with pytest.raises(KeyError):
        made_detector().restore({k: v for k, v in saved.items() if k != "keys"})
    with pytest.raises(ValueError, match="version"):
        made_detector().restore(saved | {"cells.sums": np.zeros((0, 3), np.int64)})


def test_an_event_at_its_partitions_watermark_is_late_and_one_after_it_is_not() -> None:
    slots, cell = SlotCounter(LATENESS_MS, 3), CELLS[:1]
    for ms in (100_000, 95_000, 95_001, 94_000):
        slots.count_events(0, np.array([ms]), cell)
    assert slots.late == 2
    assert slots.pending.events.tolist() == [1, 1]


def test_a_slot_closes_when_the_watermark_has_reached_its_end() -> None:
    slots, cell = SlotCounter(LATENESS_MS, 3), CELLS[:1]
    slots.count_events(0, np.array([10_500]), cell)
    slots.count_events(0, np.array([15_998]), cell)
    assert len(slots.close_slots([0]).events) == 0
    slots.count_events(0, np.array([15_999]), cell)
    assert slots.close_slots([0]).slot_s.tolist() == [10, 10]


def test_the_slowest_partition_holds_the_watermark_unless_it_is_idle() -> None:
    slots, cell = SlotCounter(LATENESS_MS, 3), CELLS[:1]
    slots.count_events(0, np.array([60_000]), cell)
    slots.close_slots([0, 1])
    assert slots.watermark_ms == -1
    slots.count_events(1, np.array([30_000]), cell)
    slots.close_slots([0, 1])
    assert slots.watermark_ms == 25_000
    slots.close_slots([0])
    assert slots.watermark_ms == 55_000
    slots.close_slots([0, 1])
    assert slots.watermark_ms == 55_000
    slots.count_events(1, np.array([55_000, 55_001]), cell.repeat(2))
    assert slots.late == 1
    slots.count_events(1, np.array([70_000]), cell)
    slots.close_slots([])
    assert slots.watermark_ms == 65_000


@given(st.integers(4, 15), st.floats(-89, 89), st.floats(-179, 179))
def test_an_area_is_the_ancestor_of_a_cell(resolution: int, lat: float, lon: float) -> None:
    cell = h3.latlng_to_cell(lat, lon, resolution)
    assert area_of_cells(np.array([cell]), 3).tolist() == [h3.cell_to_parent(cell, 3)]
    coarse = h3.latlng_to_cell(lat, lon, 2)
    assert area_of_cells(np.array([coarse]), 3).tolist() == [coarse]


def test_cells_of_which_nothing_counts_are_forgotten_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rises() -> tuple[list[Found], list[int]]:
        detector, found, known = made_detector(), list[Found](), []
        for day, cell in enumerate((CELLS[0], CELLS[2], CELLS[2], CELLS[0])):
            for s in range(1800):
                ms = START_MS + (day * 86_400 + s) * 1000
                run(found, detector, [(0, ms, int(cell))] * (40 if s == 1700 else 1), (0,))
            known.append(len(detector.keys))
        return found, known

    found, known = rises()
    monkeypatch.setattr(detector_module, "_FORGET_EVERY_S", 10**12)
    kept, all_known = rises()
    assert found == kept
    assert len(found) > 0
    assert known == [2, 4, 2, 4]
    assert all_known == [2, 4, 4, 4]


@pytest.mark.parametrize(("events", "rises"), [(3, False), (40, True)])
def test_a_cell_that_never_had_events_rises_against_the_floor_alone(
    events: int, rises: bool
) -> None:
    detector, found, old, new = made_detector(), list[Found](), int(CELLS[0]), int(CELLS[2])
    steady = [(0, START_MS + s * 1000, old) for s in range(1800)]
    burst = [(0, START_MS + 1_800_000 + n, new) for n in range(events)]
    run(found, detector, [*steady, *burst, (0, START_MS + 1_810_000, old)], (0,))
    assert {f.cell for f in found} == ({new, int(h3.cell_to_parent(new, 3))} if rises else set())
    assert all(f.usual == 0 for f in found)


def test_beyond_the_most_cells_the_known_ones_go_on_and_the_others_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if room is made for some of those that come together."""
    events = made_events(11)
    whole, found = made_detector(), list[Found]()
    run(found, whole, events, (0, 1, 2))
    monkeypatch.setattr(detector_module, "MOST_CELLS", len(whole.keys) + 3)
    bounded, again, cut = made_detector(), list[Found](), len(events) // 2
    run(again, bounded, events[:cut], (0, 1, 2))
    spare = bounded.keys.tolist()
    # areas, so that each is only one
    more = [(p, ms, (8 << 56) | (1 << 52) | n) for n, (p, ms, _) in enumerate(events[cut:])]
    assert len(spare) == len(whole.keys)
    both = [e for pair in zip(events[cut:], more, strict=True) for e in pair]
    run(again, bounded, both, (0, 1, 2))
    assert [f for f in again if f.cell in spare] == found
    assert len(bounded.keys) == len(bounded.cells.last_s) == len(spare) + 3
    closed = sum(ms // 1000 <= bounded.slots.closed_s for _, ms, _ in more)
    assert 0 < closed - bounded.slots.dropped <= 3


def test_beyond_the_most_pending_counts_events_are_dropped_until_slots_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots_module, "MOST_PENDING", 3)
    slots = SlotCounter(LATENESS_MS, 3)
    for n in range(5):
        slots.count_events(0, np.array([10_000]), np.array([n]))
    assert (len(slots.pending.cell), slots.dropped) == (3, 2)
    slots.count_events(0, np.array([30_000]), CELLS[:1])
    assert (slots.high_ms[0], slots.dropped) == (30_000, 3)
    slots.close_slots([0])
    slots.count_events(0, np.array([31_000]), CELLS[:1])
    assert (len(slots.pending.cell), slots.dropped) == (1, 3)
