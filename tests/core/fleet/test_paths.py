"""Round trips to brokers as workers report them: what is believed, what changes a decision, and
what a worker that lies can reach."""

from __future__ import annotations

import math
import random
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

import pytest

from agents.core.events import TelemetryIn, Tick
from agents.core.fleet import paths as judged
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.inventory import Inventory
from agents.core.model.messages import PATHS_AT_MOST, PathReport, Telemetry
from agents.core.model.topology import Site, WorkerKind, WorkerSpec
from tests.core.world import World


def report(
    rtt_ms: float, broker: int = 1, *, min_ms: float = 0.0, probes: int = 15, age_s: float = 1.0
) -> PathReport:
    return PathReport(broker, rtt_ms, min_ms or rtt_ms, probes, age_s)


class Room:
    """Workers of two sites, `ams-1` and up and `fra-1`, and the judgement of what they report."""

    def __init__(self, at_ams: int = 1) -> None:
        names = [*(f"ams-{i + 1}" for i in range(at_ams)), "fra-1"]
        specs = [
            WorkerSpec(f"node-{name}", WorkerKind.NODE, name.partition("-")[0], 1000.0)
            for name in names
        ]
        sites = {
            s: Site(s, lat, lon, s) for s, lat, lon in (("ams", 52.3, 4.9), ("fra", 50.1, 8.7))
        }
        self.fleet = Fleet(Inventory(sites, {spec.worker: spec for spec in specs}))
        self.paths = MeasuredPaths(self.fleet)
        self.now_s = 1000.0
        self.doubted: dict[str, str] = {}

    def pass_s(self, duration_s: float, **reports: PathReport | Iterable[PathReport]) -> None:
        """Let every worker report this once a second: `ams_1=report(20)`."""
        for _ in range(round(duration_s)):
            self.now_s += 1
            for name, said in reports.items():
                told = [said] if isinstance(said, PathReport) else list(said)
                self.paths.note_reports("node-" + name.replace("_", "-"), told, self.now_s)
            self.doubted = dict(self.paths.judge(self.now_s))

    def rtt_ms(self, name: str, broker: int = 1) -> float | None:
        path = self.paths.rtt_ms(f"node-{name}", broker)
        return None if path is None else path.rtt_ms


def test_a_reported_round_trip_is_in_force_with_its_basis() -> None:
    room = Room()
    room.pass_s(3, ams_1=report(12.6, min_ms=12.1, age_s=0.5))
    path = room.paths.rtt_ms("node-ams-1", 1)
    assert path is not None
    assert (path.rtt_ms, path.min_ms, path.probes) == (12.6, 12.1, 15)
    assert path.measured_s == room.now_s - 0.5
    assert room.paths.paths_of("node-ams-1") == {1: path}
    assert room.rtt_ms("ams-1", 2) is None
    assert room.rtt_ms("fra-1") is None
    assert room.rtt_ms("nobody") is None


def test_one_slow_answer_is_not_a_distance() -> None:
    room = Room()
    room.pass_s(10, ams_1=report(1134.0, probes=1))
    assert room.rtt_ms("ams-1") is None
    room.pass_s(10, ams_1=report(20.0))
    # A new boot begins with an empty window.
    room.pass_s(5, ams_1=report(1134.0, probes=2))
    assert room.rtt_ms("ams-1") == 20.0


def test_the_first_window_gets_better_until_it_is_full() -> None:
    room = Room()
    for probes, rtt_ms in ((5, 29.0), (8, 24.0), (15, 20.5)):
        room.pass_s(4, ams_1=report(rtt_ms, probes=probes))
        assert room.rtt_ms("ams-1") == rtt_ms
    room.pass_s(200, ams_1=report(22.0))
    assert room.rtt_ms("ams-1") == 20.5


def test_what_a_busy_machine_told_is_told_better_later() -> None:
    room = Room()
    room.pass_s(10, ams_1=report(81.0, min_ms=73.3))
    room.pass_s(10, ams_1=report(77.5, min_ms=73.2))
    assert room.rtt_ms("ams-1") == 81.0, "still busy"
    room.pass_s(4, ams_1=report(74.0, min_ms=73.2, probes=8))
    assert room.rtt_ms("ams-1") == 81.0, "fewer probes"
    room.pass_s(4, ams_1=report(74.5, min_ms=73.2))
    assert room.rtt_ms("ams-1") == 74.5
    room.pass_s(100, ams_1=report(82.0, min_ms=73.2))
    room.pass_s(100, ams_1=report(73.6, min_ms=73.2))
    assert room.rtt_ms("ams-1") == 74.5, "busy again, then not; within the band"


@pytest.mark.parametrize(
    ("first", "then", "changes"),
    [
        (2.0, 11.9, False),  # more than 10 %, less than 10 ms
        (150.0, 164.0, False),  # more than 10 ms, less than 10 %
        (2.0, 12.1, True),
        (150.0, 166.0, True),
        (150.0, 134.0, True),
    ],
)
def test_a_value_changes_beyond_both_bands_only(first: float, then: float, changes: bool) -> None:
    room = Room()
    room.pass_s(10, ams_1=report(first))
    room.pass_s(judged.HOLD_S + 4, ams_1=report(then))
    assert room.rtt_ms("ams-1") == (then if changes else first)


def test_a_new_route_counts_at_once_and_a_short_swing_never() -> None:
    room = Room()
    room.pass_s(10, ams_1=report(20.0))
    for _ in range(10):
        room.pass_s(judged.HOLD_S / 2, ams_1=report(32.0))
        room.pass_s(4, ams_1=report(21.0))
        assert room.rtt_ms("ams-1") == 20.0
    room.pass_s(4, ams_1=report(150.0))
    assert room.rtt_ms("ams-1") == 150.0


def test_jitter_of_a_fifth_changes_nothing_in_half_an_hour() -> None:
    changes = 0
    for seed in range(20):
        room, dice = Room(), random.Random(seed)
        window: deque[float] = deque(maxlen=15)
        before: float | None = None
        for probe in range(900):  # one every 2 s
            window.append(150 * dice.uniform(0.8, 1.2))
            told = report(statistics.median(window), min_ms=min(window), probes=len(window))
            room.pass_s(2, ams_1=told)
            now = room.rtt_ms("ams-1")
            changes += probe > 16 and now != before
            before = now
    assert changes <= 2  # in 10 hours; 400 without HOLD_S


def test_an_old_value_is_forgotten_and_so_is_a_worker_that_left() -> None:
    room = Room()
    room.pass_s(10, ams_1=report(20.0), fra_1=report(9.0))
    room.pass_s(judged.MAX_AGE_S - 10, fra_1=report(9.0))
    assert room.rtt_ms("ams-1") == 20.0
    room.pass_s(20, fra_1=report(9.0))
    assert room.rtt_ms("ams-1") is None
    room.fleet.forget_worker("node-fra-1")
    room.pass_s(3)
    assert room.rtt_ms("fra-1") is None


def test_a_dead_path_reported_again_and_again_still_ages() -> None:
    room = Room()
    room.pass_s(10, ams_1=report(20.0))
    for age_s in range(int(judged.MAX_AGE_S)):
        room.pass_s(1, ams_1=report(20.0, age_s=age_s))
    assert room.rtt_ms("ams-1") == 20.0
    room.pass_s(4)
    assert room.rtt_ms("ams-1") is None


def test_what_is_kept_is_bounded() -> None:
    room = Room()
    for second in range(50):
        room.pass_s(1, ams_1=[report(5.0, broker=second * 64 + i) for i in range(64)])
    assert len(room.paths.paths_of("node-ams-1")) == PATHS_AT_MOST


def test_a_broker_has_another_state_when_a_value_in_force_has_changed_and_only_then() -> None:
    room = Room(at_ams=2)
    states = [room.paths.state_of(1)]

    def is_new() -> bool:
        states.append(room.paths.state_of(1))
        return states[-1] not in states[:-1]

    room.pass_s(4, ams_1=report(20.0), ams_2=report(21.0, probes=15))
    assert is_new()
    other = room.paths.state_of(2)
    for rtt_ms in (20.4, 27.0, 15.0):
        room.pass_s(20, ams_1=report(rtt_ms), ams_2=report(21.0))
        assert not is_new()
    room.pass_s(4, ams_1=report(150.0), ams_2=report(150.0))
    assert room.rtt_ms("ams-1") == 150.0
    assert is_new()
    room.pass_s(judged.DOUBT_S + 6, ams_1=report(150.0), ams_2=report(1.0))
    assert room.doubted
    assert is_new(), "the value of a doubted worker is dropped"
    room.pass_s(judged.MAX_AGE_S + 4)
    assert room.paths.state_of(1) == 0, "nobody reports on it"
    assert room.paths.state_of(2) == other


def _run_of_reports(seed: int) -> list[object]:
    """What is in force and who is doubted, every second, while workers report by chance: steadily,
    with jitter, from a new route, falsely, or not at all."""
    room, dice = Room(at_ams=4), random.Random(seed)
    seen: list[object] = []
    base = dict.fromkeys(("ams_1", "ams_2", "ams_3", "ams_4"), 20.0)
    for _ in range(400):
        if dice.random() < 0.02:
            base[dice.choice(list(base))] = dice.choice((1.0, 20.0, 24.0, 150.0, math.inf))
        if dice.random() < 0.01:
            base = dict.fromkeys(base, dice.choice((20.0, 150.0)))
        said = {
            name: report(
                ms * dice.uniform(1.0, 1.2), min_ms=ms, probes=dice.choice((4, 9, 15, 15, 15))
            )
            for name, ms in base.items()
            if ms < math.inf and dice.random() < 0.7
        }
        room.pass_s(1, **said)
        seen.append((room.doubted, *(room.rtt_ms(f"ams-{i}") for i in range(1, 5))))
    return seen


@pytest.mark.parametrize("seed", range(8))
def test_what_is_passed_over_because_nothing_changed_changes_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _run_of_reports(seed)
    assert len({str(x) for x in found}) > 10
    monkeypatch.setattr(judged._Reported, "is_settled", lambda self: False)
    assert _run_of_reports(seed) == found


# ---- a worker that tells false figures ----


def test_a_worker_that_is_alone_against_its_site_is_doubted() -> None:
    room = Room(at_ams=4)
    true = {f"ams_{i}": report(84.0 + i) for i in (1, 2, 3)}
    room.pass_s(20, **true, ams_4=report(1.0))
    assert room.rtt_ms("ams-4") is None, "never used, not even before it is told"
    assert room.doubted == {}
    room.pass_s(judged.DOUBT_S, **true, ams_4=report(1.0), fra_1=report(300.0))
    assert room.rtt_ms("ams-4") is None
    assert [room.rtt_ms(f"ams-{i}") for i in (1, 2, 3)] == [85.0, 86.0, 87.0]
    assert room.rtt_ms("fra-1") == 300.0, "another site is another distance"
    assert set(room.doubted) == {"node-ams-4"}
    text = room.doubted["node-ams-4"]
    assert "ams-4 reports a round trip of at least 1.0 ms to broker 1" in text
    assert "others at ams report 85.0 to 87.0 ms" in text
    # It is trusted again after it has been in line for as long.
    room.pass_s(judged.DOUBT_S - 4, **true, ams_4=report(86.0))
    assert room.rtt_ms("ams-4") is None
    room.pass_s(8, **true, ams_4=report(86.0))
    assert room.rtt_ms("ams-4") == 86.0
    assert room.doubted == {}


def test_a_worker_that_begins_to_lie_keeps_its_last_true_value_then_none() -> None:
    room = Room(at_ams=3)
    true = {"ams_1": report(84.0), "ams_2": report(85.0)}
    room.pass_s(20, **true, ams_3=report(86.0))
    room.pass_s(judged.DOUBT_S - 4, **true, ams_3=report(1.0))
    assert room.rtt_ms("ams-3") == 86.0
    room.pass_s(8, **true, ams_3=report(1.0))
    assert room.rtt_ms("ams-3") is None


def test_a_worker_that_lies_by_turns_never_gets_its_figure_in() -> None:
    room = Room(at_ams=3)
    true = {"ams_1": report(84.0), "ams_2": report(85.0)}
    room.pass_s(20, **true, ams_3=report(86.0))
    for _ in range(20):
        room.pass_s(judged.DOUBT_S - 5, **true, ams_3=report(1.0))
        assert room.rtt_ms("ams-3") in (86.0, None)
        room.pass_s(3, **true, ams_3=report(86.0))


def test_of_two_that_disagree_neither_is_believed() -> None:
    room = Room(at_ams=2)
    room.pass_s(judged.DOUBT_S + 10, ams_1=report(84.0), ams_2=report(1.0))
    assert room.rtt_ms("ams-1") is None
    assert room.rtt_ms("ams-2") is None
    assert set(room.doubted) == {"node-ams-1", "node-ams-2"}


def test_a_busy_worker_is_not_doubted() -> None:
    """Its median rises with its load; its minimum does not."""
    room = Room(at_ams=3)
    true = {"ams_1": report(4.0), "ams_2": report(5.0)}
    room.pass_s(100, **true, ams_3=report(90.0, min_ms=7.0))
    assert room.doubted == {}
    assert room.rtt_ms("ams-3") == 90.0


def test_a_change_of_route_of_the_whole_site_raises_no_doubt() -> None:
    """The windows of the site's workers are renewed one after the other."""
    room, dice = Room(at_ams=5), random.Random(7)
    windows = {f"ams_{i}": deque([20.0] * 15, maxlen=15) for i in range(1, 6)}
    for second in range(300):
        rtt_ms = 20.0 if second < 60 else 150.0 if second < 180 else 20.0
        for window in windows.values():
            if dice.random() < 0.5:
                window.append(rtt_ms * dice.uniform(1.0, 1.05))
        reports = {
            name: report(statistics.median(window), min_ms=min(window))
            for name, window in windows.items()
        }
        room.pass_s(1, **reports)
        assert room.doubted == {}
        if second in (110, 230):
            told = [room.rtt_ms(f"ams-{i}") for i in range(1, 6)]
            assert all(x is not None and abs(x - rtt_ms) < 0.06 * rtt_ms for x in told), second


# ---- through the coordinator ----


def tell(w: World, worker: str, *paths: PathReport) -> None:
    proc = w.procs[worker]
    proc.seq += 1
    w.tell(TelemetryIn(worker, Telemetry(proc.boot, proc.seq, "", 0.1, 40.0, paths=paths)))


@pytest.mark.parametrize(
    "odd",
    [
        report(0.0, min_ms=0.001),
        report(60_000.0),
        report(math.nan),
        report(-5.0),
        report(1e9),
        report(20.0, min_ms=21.0),
        report(20.0, min_ms=math.nan),
        report(20.0, probes=0),
        report(20.0, probes=16),
        report(20.0, age_s=-1.0),
        report(20.0, age_s=3600.0),
        report(20.0, age_s=math.nan),
        report(20.0, broker=-1),
    ],
)
def test_an_impossible_round_trip_is_ignored_and_the_others_count(odd: PathReport) -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    for _ in range(5):
        tell(w, "node-0", odd, report(30.0, broker=7), report(500.0, broker=7))
        w.now_s += 1
        w.tell(Tick())
    assert w.core.refusals.counts["path"] == 10
    assert {b: x.rtt_ms for b, x in w.core.paths.paths_of("node-0").items()} == {7: 30.0}
    refused = [n.text for n in w.noted if n.kind == "alert" and "round trips" in n.text]
    assert len(refused) == 1, "told once"


def test_a_doubted_worker_is_a_trouble_until_it_is_in_line_again() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    for worker in ("node-0", "node-1", "node-2"):
        view = w.core.fleet.views[worker]
        view.spec = replace(view.spec, site="s0")

    def pass_s(duration_s: float, lied_ms: float) -> list[str]:
        for _ in range(round(duration_s)):
            tell(w, "node-0", report(lied_ms))
            tell(w, "node-1", report(84.0))
            tell(w, "node-2", report(85.0))
            w.now_s += 1
            w.tell(Tick())
        troubles = w.core.news.troubles.list_worst_first()
        return [t.about for t in troubles if t.kind is TroubleKind.PATH_DOUBTED]

    assert pass_s(judged.DOUBT_S + 5, 0.5) == ["node-0"]
    assert w.core.paths.rtt_ms("node-0", 1) is None
    assert pass_s(judged.DOUBT_S + 5, 84.5) == []
    path = w.core.paths.rtt_ms("node-0", 1)
    assert path is not None
    assert path.rtt_ms == 84.5
