"""Clocks that are off: the machine whose clock it is is named once, in the room and everywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agents.core import events as ev
from agents.core.events import TelemetryIn
from agents.core.fleet.clocks import AGREES_S, KAFKA, OWN, WINDOW_S
from agents.core.fleet.troubles import Trouble, TroubleKind
from agents.core.model.messages import Telemetry
from tests.core.world import World


def clock_troubles(w: World) -> dict[str, Trouble]:
    standing = w.core.news.troubles.list_worst_first()
    return {t.about: t for t in standing if t.kind is TroubleKind.CLOCK_OFF}


def hear(w: World, ahead_s: dict[str, float], own_s: float = 0.0, *, seconds: float = 70) -> None:
    """Each worker sends its time, late by 0.2 s and now and then by 20 s."""
    for s in range(int(seconds)):
        w.now_s += 1
        for worker, ahead in ahead_s.items():
            proc = w.procs[worker]
            proc.seq += 1
            late_s = 20 if s % 3 else 0.2
            at = datetime.fromtimestamp(w.now_s, UTC) + timedelta(seconds=ahead - late_s)
            w.tell(TelemetryIn(worker, Telemetry(proc.boot, proc.seq, at.isoformat(), 0.1, 40.0)))
        w.tell(ev.Tick(ahead_s=own_s))


@pytest.fixture
def w() -> World:
    w = World(nodes=3, lanes=3)
    w.fair(5)
    return w


@pytest.mark.parametrize(("ahead_s", "how"), [(3600, "60 min ahead"), (-3600, "60 min behind")])
def test_a_worker_whose_clock_is_off_is_named_and_its_end_is_told(
    w: World, ahead_s: float, how: str
) -> None:
    hear(w, {"node-0": ahead_s, "node-1": 0.0, "node-2": 0.0})
    assert clock_troubles(w).keys() == {"node-0"}
    assert f"The clock of 0's machine is {how}" in " ".join(w.said)
    w.said.clear()
    hear(w, {"node-0": 0.0, "node-1": 0.0, "node-2": 0.0}, seconds=2 * WINDOW_S + AGREES_S + 20)
    assert clock_troubles(w) == {}
    assert "the clock agrees again" in " ".join(w.said)


def test_messages_that_come_late_blame_nobody(w: World) -> None:
    hear(w, {"node-0": 0.0, "node-1": -3.0, "node-2": 5.0}, own_s=1.0, seconds=200)
    assert clock_troubles(w) == {}


def test_the_leaders_own_clock_is_told(w: World) -> None:
    hear(w, {"node-0": 0.0, "node-1": 0.0}, own_s=-3600)
    assert clock_troubles(w).keys() == {OWN}
    assert "The clock of my machine is 60 min behind Kafka's" in " ".join(w.said)


def test_when_most_machines_differ_it_is_kafkas_clock(w: World) -> None:
    hear(w, {"node-0": 3600, "node-1": 3600, "node-2": 0.0}, own_s=3600)
    assert clock_troubles(w).keys() == {KAFKA}
    assert "60 min behind mine, and 2 of 3 workers say so" in clock_troubles(w)[KAFKA].text


@pytest.mark.parametrize("ts", ["", "now", "2026-11-30T02:00:00", "0001-01-01T00:00:00Z", "9" * 60])
def test_a_time_that_is_none_harms_nothing(w: World, ts: str) -> None:
    for s in range(3):
        w.now_s += 10
        w.tell(TelemetryIn("node-0", Telemetry(w.procs["node-0"].boot, 900 + s, ts, 0.1, 40.0)))
        w.tell(ev.Tick())
    assert clock_troubles(w).keys() <= {"node-0"}
