"""The benchmark of both engines: its stream, and its page."""

from __future__ import annotations

from collections import Counter

from agents.core.lanes.records import CELL, TS
from benchmarks.analytics_engines import (
    DURATION_S,
    EMBEDDED,
    FLINK_1,
    FLINK_2,
    PARTITIONS,
    Figures,
    make_events,
    page,
)


def test_no_event_of_the_stream_is_late_and_all_but_the_last_ones_are_closed() -> None:
    records = list(make_events(20_000, 500, 1_600_000_020_000))
    high = Counter[int]()
    for n, _, _, headers in records:
        at_ms = int(dict(headers)[TS])
        assert at_ms > high[n] - 5000
        high[n] = max(high[n], at_ms)
    assert set(high.values()) == {1_600_000_020_000 + (DURATION_S + 600) * 1000}
    assert len(high) == PARTITIONS
    assert len(records) == 20_000 + 2 * PARTITIONS
    cells = Counter(dict(headers)[CELL] for *_, headers in records)
    assert len(cells) == 500
    assert cells.most_common(1)[0][1] > 5 * cells.most_common(100)[-1][1]


def test_the_page_shows_ratios_and_whether_the_rises_are_the_same() -> None:
    def figures(seconds: float, digest: str) -> Figures:
        return Figures(1000, seconds, 2 * seconds, {"worker": 100.0}, 7, digest)

    found = {
        EMBEDDED: [figures(1, "a"), figures(2, "a")],
        FLINK_1: [figures(4, "a"), figures(4, "a")],
        FLINK_2: [figures(2, "a"), figures(2, "a")],
    }
    text = page(found, 1000, 10)
    assert "| in process | 750 (500 to 1,000) | 375 (250 to 500) | 3 (2 to 4) | 100" in text
    assert f"{EMBEDDED} : {FLINK_1} = 3.00 (2.00 to 4.00) in events/s" in text
    assert "found the same 7 rises" in text
    found[FLINK_2] = [figures(2, "b")] * 2
    assert "found DIFFERENT rises" in page(found, 1000, 10)
