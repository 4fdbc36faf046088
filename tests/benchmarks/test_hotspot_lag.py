"""The figures and the page of the benchmark of lag, from made observations; no stack runs here."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from agents.core.model.hotspots import Hotspot, HotspotState
from agents.local.stack import ANALYTICS_EMBEDDED, ANALYTICS_OFF
from benchmarks import hotspot_lag
from benchmarks.hotspot_lag import (
    BURST_EPS,
    HELD_S,
    OTHERS_EPS,
    QUIET_S,
    USUAL_EPS,
    Run,
    Seen,
    draw_burst,
    evaluate,
    page,
    write,
)

BEGAN_S, RAMP_S = 1_000_000.0, 20.0
AT_S = BEGAN_S + QUIET_S
AREA = "8326cbfffffffff"
HOTSPOT = Hotspot(f"{AREA}-1", HotspotState.OPEN, 1, 1, 1, (AREA,), AREA, 9.0, 3.0, 120)


def made(late_s: float) -> Seen:
    """Lanes 0 and 1 are on a node, lane 2 on another; 10 events/s each, 0.2 s late; from the burst
    on those of lane 0 are `late_s` later. Lane 1 moves 7 s after the burst began."""
    seen = Seen()
    for lane in range(3):
        for i in range(600):
            at_s = BEGAN_S + i / 10
            took_s = 0.2 + (late_s if lane == 0 and at_s >= AT_S else 0.0)
            seen.clean.setdefault(lane, []).append((at_s, at_s + took_s))
    seen.owners = [(BEGAN_S - 5, n, "node-a" if n < 2 else "node-b") for n in range(3)]
    seen.owners.append((AT_S + 7, 1, "node-b"))
    seen.hotspots = [(AT_S + 6.5, HOTSPOT)]
    seen.told = [(AT_S - 9, "Hotspot at an earlier place"), (AT_S + 6.75, "Hotspot at Dallas, US")]
    return seen


def test_lag_latency_and_moves_are_those_of_the_burst() -> None:
    run = evaluate(made(2.0), 0, BEGAN_S, RAMP_S, ANALYTICS_EMBEDDED)
    assert run.usual_p50_s == pytest.approx(0.2)
    assert (run.lane_lag, run.beside_lag) == pytest.approx((22, 2), abs=1)
    assert (run.lane_p99_s, run.beside_p99_s) == pytest.approx((2.2, 0.2))
    assert run.waited_event_s == pytest.approx(2.0 * 10 * (RAMP_S + HELD_S), rel=0.01)
    assert (run.first_move_s, run.moves) == pytest.approx((7.0, 1))
    assert (run.decided_s, run.to_room_s) == pytest.approx((6.5, 0.25))


def test_what_never_was_has_no_time() -> None:
    seen = made(0.0)
    seen.owners, seen.hotspots, seen.told = seen.owners[:3], [], []
    run = evaluate(seen, 0, BEGAN_S, RAMP_S, ANALYTICS_OFF)
    assert all(map(math.isnan, (run.first_move_s, run.decided_s, run.to_room_s)))
    assert (run.moves, run.waited_event_s) == pytest.approx((0, 0.0), abs=1e-6)


def test_the_burst_grows_as_it_should_and_comes_again_with_its_seed() -> None:
    burst = draw_burst(1, RAMP_S)
    assert burst == draw_burst(1, RAMP_S)
    assert burst == sorted(burst)

    def eps(city: int, begin_s: float, end_s: float) -> float:
        return sum(c == city and begin_s <= s < end_s for s, c in burst) / (end_s - begin_s)

    grown_s = QUIET_S + RAMP_S
    assert eps(0, 0, QUIET_S) == pytest.approx(USUAL_EPS, rel=0.3)
    assert eps(0, QUIET_S, grown_s) == pytest.approx((USUAL_EPS + BURST_EPS) / 2, rel=0.1)
    assert eps(0, grown_s, grown_s + HELD_S) == pytest.approx(BURST_EPS, rel=0.1)
    assert eps(1, QUIET_S, grown_s) == pytest.approx(OTHERS_EPS, rel=0.2)


def test_the_page_has_both_sides_and_runs_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotspot_lag, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(hotspot_lag, "RUNS", tmp_path / "runs.csv")
    off = evaluate(made(2.0), 0, BEGAN_S, RAMP_S, ANALYTICS_OFF)
    on = evaluate(made(0.5), 0, BEGAN_S, RAMP_S, ANALYTICS_EMBEDDED)
    write([off, on], add=False)
    text = (tmp_path / "page.md").read_text("utf-8")
    assert "| p99 latency of the bursting lane, s | 2.20 | 0.70 |" in text
    assert "Saved: 600 event-seconds; ratio 4.0." in text
    more: list[Run] = [replace(x, ramp_s=40.0) for x in (off, on)]
    write(more, add=True)
    text = (tmp_path / "page.md").read_text("utf-8")
    assert "| over 20 s, 1 round |" in text
    assert "| over 40 s, 1 round |" in text
    assert page([off, on]).startswith("# Lag that a hotspot saves")
