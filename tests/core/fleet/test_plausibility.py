"""What cannot be is left out, counted and told once; what poisoned an earlier leader's memory is
forgotten."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agents.core.events import Flooded, NotUnderstood, TelemetryIn, Wake, WorkerSeen
from agents.core.fleet.plausibility import LEAST_EPS, max_arriving_eps
from agents.core.model.feeds import AlertItem
from agents.core.model.messages import Announcement, Arrival, Health, LaneLoad, Telemetry
from agents.core.model.topology import Partition, WorkerKind
from agents.core.planning.forecast import Forecast
from tests.core.world import World


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(8)
    world.noted.clear()
    return world


def say(
    w: World, worker: str, *, lanes: tuple[LaneLoad, ...] = (), arrivals: tuple[Arrival, ...] = ()
) -> None:
    proc = w.procs[worker]
    proc.seq += 1
    w.tell(
        TelemetryIn(
            worker, Telemetry(proc.boot, proc.seq, "", 0.1, 40.0, lanes=lanes, arrivals=arrivals)
        )
    )


def alerts(w: World) -> list[str]:
    w.now_s += 1
    w.tell(Wake())
    return [n.text for n in w.noted if n.kind == "alert"]


def load(w: World, worker: str, **figures: float | str) -> LaneLoad:
    p, placed = next((p, s) for p, s in w.partitions.items() if s.worker == worker)
    said = {"rate_eps": 1.0, "lag_events": 0, "p50_ms": 1.0, "p99_ms": 1.0} | figures
    return LaneLoad(p.topic, p.n, placed.epoch, **said)  # type: ignore[arg-type]


def test_arrival_is_a_routers_to_tell(w: World) -> None:
    rates = w.core.placing.inputs.rates
    say(w, "node-0", arrivals=(Arrival(0, 1e15),))
    assert rates.lane_eps(0, w.now_s) is None
    say(w, "router-1", arrivals=(Arrival(0, 500.0), Arrival(1, 20.0)))
    assert rates.lane_eps(0, w.now_s) == 500.0
    assert w.core.refusals.counts["arrival"] == 1


@pytest.mark.parametrize("rate", [1e15, -1.0, math.nan, math.inf, 6e6])
def test_an_arrival_that_cannot_be_is_left_out_and_the_others_count(w: World, rate: float) -> None:
    rates = w.core.placing.inputs.rates
    for _ in range(5):
        say(
            w,
            "router-1",
            arrivals=(Arrival(0, rate), Arrival(10**9, 5.0), Arrival(-1, 5.0), Arrival(1, 20.0)),
        )
    assert rates.lane_eps(0, w.now_s) is None
    assert rates.lane_eps(1, w.now_s) == 20.0
    assert set(rates.of) == {1}, "nothing is kept of lanes that there are not"
    assert len(alerts(w)) == 1, "told once"
    assert w.core.refusals.counts["arrival"] == 15


@pytest.mark.parametrize(
    "figures",
    [
        {"rate_eps": 1e15},
        {"rate_eps": -5.0},
        {"lag_events": 10**15},
        {"p99_ms": 1e15},
        {"p50_ms": math.nan},
        {"lag_events": -1},
    ],
)
def test_a_lane_whose_numbers_cannot_be_is_still_had(w: World, figures: dict[str, float]) -> None:
    said = load(w, "node-0", **figures)
    say(w, "node-0", lanes=(said,))
    view = w.core.fleet.views["node-0"]
    assert view.owned[Partition(said.topic, said.n)] == said.epoch
    assert view.telemetry is not None
    (kept,) = view.telemetry.lanes
    assert (kept.rate_eps, kept.lag_events, kept.p50_ms, kept.p99_ms) == (0, 0, 0, 0)
    assert len(alerts(w)) == 1


def test_a_lane_may_be_slow_or_idle(w: World) -> None:
    for figures in ((0.25, 0, 0.2, 0.4), (0.0, 0, 0.0, 0.0)):
        rate_eps, lag_events, p50_ms, p99_ms = figures
        said = load(
            w, "node-0", rate_eps=rate_eps, lag_events=lag_events, p50_ms=p50_ms, p99_ms=p99_ms
        )
        say(w, "node-0", lanes=(said,))
        seen = w.core.fleet.views["node-0"].telemetry
        assert seen is not None
        assert seen.lanes == (said,)
    assert alerts(w) == []


def test_cores_and_memory_that_cannot_be_are_left_out(w: World) -> None:
    proc = w.procs["node-0"]
    for cpu, mem_mb in ((1e15, 40.0), (0.5, 1e15), (math.nan, 40.0)):
        proc.seq += 1
        w.tell(TelemetryIn("node-0", Telemetry(proc.boot, proc.seq, "", cpu, mem_mb)))
        seen = w.core.fleet.views["node-0"].telemetry
        assert seen is not None
        assert (seen.cpu, seen.mem_mb) == (0.0, 0.0)
    assert w.core.refusals.counts["number"] == 3


def test_invented_lanes_and_others_faults_are_not_kept(w: World) -> None:
    others = next(
        p for p, s in w.partitions.items() if WorkerKind.NODE.works(p) and s.worker != "node-0"
    )
    invented = tuple(
        LaneLoad(t, n, 1, 1.0, 0, 1.0, 1.0, "x")
        for t in (WorkerKind.NODE.topic, WorkerKind.ROUTER.topic, "main/x")
        for n in range(1000, 1400)
    )
    twice = (load(w, "node-0"),) * 3
    theirs = LaneLoad(WorkerKind.NODE.topic, others.n, 1, 1.0, 0, 1.0, 1.0, "stands still, I say")
    for _ in range(150):
        say(w, "node-0", lanes=(*invented, *twice, theirs))
    view = w.core.fleet.views["node-0"]
    assert view.telemetry is not None
    assert len(view.telemetry.lanes) == 2
    assert not any(lane.fault for lane in view.telemetry.lanes)
    assert len(alerts(w)) == 2
    assert not w.core.news.troubles.list_worst_first()


def test_a_capacity_that_cannot_be_is_the_inventorys(w: World) -> None:
    boot = w.procs["node-0"].boot
    for eps in (1e-300, -5.0, math.nan):
        w.tell(
            WorkerSeen(Announcement("node-0", Health.AVAILABLE, boot, "working", capacity_eps=eps))
        )
        assert w.core.fleet.statuses["node-0"].capacity_eps == 2000.0
    w.tell(
        WorkerSeen(Announcement("node-0", Health.AVAILABLE, boot, "working", capacity_eps=500.0))
    )
    assert w.core.fleet.statuses["node-0"].capacity_eps == 500.0


def test_what_is_too_much_or_not_understood_is_told_once(w: World) -> None:
    for _ in range(50):
        w.tell(Flooded("node-0@fleet.d", 1000))
        w.tell(NotUnderstood("node-1", "telemetry", "cpu: a \x1b[2J number\nis needed"))
    assert len(alerts(w)) == 2
    assert all(text.isprintable() for text in alerts(w))
    assert w.core.refusals.counts["stanza"] == 50_000
    assert w.core.refusals.counts["telemetry"] == 50


def test_a_name_of_any_length_is_told_in_120_characters(w: World) -> None:
    w.tell(Flooded("n" * 5000 + "@fleet.d", 1000))
    [text] = alerts(w)
    name = "n" * 116 + " ..."
    assert text.startswith(f"{name} sends ")
    told = [p.item.element for p in w.published if isinstance(p.item.element, AlertItem)]
    assert told[-1].about == name


def test_the_planner_goes_on_whatever_a_router_tells(w: World) -> None:
    for rate in (0.0, 1e-300, 4.9e6, 1e-9):
        for _ in range(15):
            say(w, "router-1", arrivals=tuple(Arrival(n, rate / 6) for n in range(6)))
            w.pass_s(1.0)
    w.fair(5)
    assert w.all_at_work()
    assert not w.core.guard.counts


def observed(rates: list[float], times: int = 50) -> Forecast:
    forecast = Forecast(len(rates), day_s=600.0, buckets=20, lon=np.zeros(len(rates)))
    for second in range(times):
        forecast.observe_rates(1000.0 + second, np.array(rates))
    return forecast


def test_a_poisoned_past_is_forgotten_lane_by_lane(w: World) -> None:
    most = max_arriving_eps(w.core.fleet.inventory)
    assert most >= LEAST_EPS
    state = observed([50.0, 1e12, 70.0]).export_state()
    fresh = Forecast(3, day_s=600.0, buckets=20, lon=np.zeros(3))
    assert fresh.restore_state(state, most) == 1
    ahead = fresh.predict_rates(1060.0, 30.0)
    assert ahead[0] == pytest.approx(50.0, rel=0.3)
    assert ahead[2] == pytest.approx(70.0, rel=0.3)
    assert not ahead[1] > most
    assert (
        Forecast(3, day_s=600.0, buckets=20, lon=np.zeros(3)).restore_state(
            observed([50.0, 60.0, 70.0]).export_state(), most
        )
        == 0
    )


def test_a_state_that_is_none_is_refused_as_such() -> None:
    forecast = Forecast(3, day_s=600.0, buckets=20)
    state = observed([1.0, 2.0, 3.0]).export_state()
    odds: tuple[dict[str, object], ...] = (
        {"every_s": "1e999"},
        {"at_s": []},
        {"weight": 10**400},
        {"came": "AAAA"},
        {"came": 5},
        {"version": None},
    )
    for odd in odds:
        with pytest.raises(ValueError, match="forecast"):
            forecast.restore_state(state | odd)
