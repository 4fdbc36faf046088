"""Who is taken for dead, and who is not (PROTOCOL 2.10)."""

from __future__ import annotations

from dataclasses import replace

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import Led, LinkDown, TelemetryIn, WorkerSeen
from agents.core.fleet.liveness import AWAY_GRACE_S, CUT_OFF_S, STAND_STILL_S
from agents.core.fleet.trouble_watch import UNREADY_S
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.messages import STARTING, Announcement, Health, LaneLoad, Telemetry
from agents.core.model.topology import CUT_OFF, WorkerKind
from tests.core.world import World


def at_work(nodes: int = 8) -> World:
    w = World(nodes=nodes, lanes=16)
    w.fair(8)
    w.now_s += AWAY_GRACE_S
    w.fair(2)
    return w


def fences(w: World) -> list[str]:
    return [e.worker for e in w.kafka if isinstance(e, fx.MakeLease) and not e.new_boot]


def test_a_closed_session_is_believed_after_a_moment() -> None:
    w = at_work()
    w.crash("node-1")
    assert fences(w) == []
    w.now_s += 0.21
    w.tell(ev.Wake())
    assert fences(w) == ["node-1"]


def test_the_server_going_takes_nobody_with_it() -> None:
    w = at_work()
    for worker in list(w.procs):
        w.crash(worker)  # the server says unavailable for each, and then is gone itself
    w.tell(LinkDown())
    w.now_s += 5
    w.tell(ev.Tick())
    assert fences(w) == []


def test_silence_is_asked_about_before_it_counts() -> None:
    w = at_work()
    w.procs["node-1"].frozen = True
    for _ in range(4):
        w.pass_s(1.0)
    assert w.pings == ["node-1"]
    assert fences(w) == []
    w.tell(ev.Ponged("node-1", False))
    assert fences(w) == ["node-1"]


def test_a_ping_that_the_server_may_have_held_up_says_nothing() -> None:
    w = at_work()
    w.procs["node-1"].frozen = True
    for _ in range(4):
        w.pass_s(1.0)
    w.pings.clear()
    w.tell(ev.Ponged("node-1", None))
    assert fences(w) == []
    assert w.pings == ["node-1"], "it is asked again"


def test_silence_does_not_count_soon_after_the_watcher_was_away() -> None:
    w = at_work()
    w.cut()
    w.procs["node-1"].frozen = True
    for _ in range(10):
        w.pass_s(1.0)
    assert fences(w) == []
    assert w.pings == []


def test_who_does_not_come_back_after_the_watcher_was_away_is_fenced_in_the_end() -> None:
    w = at_work()
    w.tell(LinkDown())
    del w.procs["node-1"]
    w.tell(Led())
    for worker in list(w.procs):
        w.announce(worker)
    w.pass_s(AWAY_GRACE_S - 1)
    assert fences(w) == []
    w.pass_s(2)
    assert fences(w) == ["node-1"]


def test_when_many_go_at_once_only_those_who_stand_still_are_fenced() -> None:
    w = at_work()
    gone = [v for v in ("node-0", "node-1", "node-2", "node-3") if w.core.fleet.owned_by(v)][:3]
    assert len(gone) >= 3, "the lanes are spread"
    procs = {g: w.procs[g] for g in gone}
    for worker in gone:
        w.crash(worker)
    alive = gone[0]
    for _ in range(4):
        w.now_s += 1.1
        w.tell(ev.Tick())
        while w.kafka and isinstance(w.kafka[0], fx.ReadOffsets):
            w.kafka_step()
        for p in w.core.fleet.owned_by(alive):  # it lost XMPP only, and goes on working
            w.committed[p] = w.committed.get(p, 0) + 5
    assert procs
    assert alive not in fences(w)
    assert set(fences(w)) == set(gone) - {alive}


def test_the_second_reading_of_offsets_shows_what_was_done_in_a_while() -> None:
    w = at_work()
    for worker in ("node-0", "node-1", "node-2", "node-3"):
        w.crash(worker)
    began_s, readings = w.now_s, []
    for after_s in (0.0, STAND_STILL_S - 0.1, STAND_STILL_S):
        w.now_s = began_s + after_s
        w.tell(ev.Tick())
        readings.append(sum(isinstance(e, fx.ReadOffsets) for e in w.kafka))
    assert readings == [1, 1, 2]


def test_nobody_is_fenced_while_kafka_is_away() -> None:
    w = at_work()
    w.tell(ev.KafkaDown())
    w.crash("node-1")
    w.now_s += 10
    w.tell(ev.Tick())
    assert fences(w) == []
    w.tell(ev.KafkaUp())
    w.now_s += 0.3
    w.tell(ev.Tick())
    assert fences(w) == ["node-1"]


def test_a_kafka_that_falls_silent_for_a_second_again_and_again_is_told_once() -> None:
    w = at_work()
    begun = len(w.said)

    def pass_time(s: int) -> None:
        for _ in range(s):
            w.now_s += 1
            w.tell(ev.Tick())

    def told() -> list[str]:
        return [line for text in w.said[begun:] for line in text.split("\n") if "Kafka" in line]

    for _ in range(5):
        w.tell(ev.KafkaDown())
        pass_time(1)
        w.tell(ev.KafkaUp())
        pass_time(8)
    assert len(told()) == 1
    assert "does not answer me" in told()[0]
    pass_time(40)
    assert len(told()) == 2
    assert "Kafka is back" in told()[1]
    w.tell(ev.KafkaDown())
    pass_time(10)
    w.tell(ev.KafkaUp())
    pass_time(8)
    assert len(told()) == 4, "a longer time away is told as soon as it ends"


def test_another_boot_is_the_death_of_the_former_one() -> None:
    w = at_work()
    before = set(w.core.fleet.owned_by("node-1")) or set(w.core.fleet.owned_by("node-0"))
    worker = "node-1" if w.core.fleet.owned_by("node-1") else "node-0"
    w.start(worker)
    made = [e for e in w.kafka if isinstance(e, fx.MakeLease)]
    assert [(e.worker, e.new_boot, set(e.partitions)) for e in made] == [
        (worker, w.procs[worker].boot, before)
    ]
    w.fair(20)
    assert w.all_at_work()
    assert all(w.partitions[p].epoch == 2 for p in before if WorkerKind.NODE.works(p))


def test_a_lease_with_the_same_epoch_of_another_producer_id_is_another_lease() -> None:
    """After 32,766 a lease's producer id changes, and its epochs begin at 0 again."""
    w = at_work()
    fleet = w.core.fleet
    assert fleet.statuses["node-1"].usable
    lease = fleet.leases["node-1"]
    fleet.apply_records({}, {"node-1": replace(lease, producer_id=lease.producer_id + 1)}, {})
    assert not fleet.statuses["node-1"].usable


def test_who_came_back_is_not_counted_among_the_many_that_go_at_once() -> None:
    w = at_work(nodes=4)
    for worker in ("node-0", "node-1", "node-2"):  # their sessions end and are back at once
        proc = w.procs[worker]
        w.crash(worker)
        w.procs[worker] = proc
        w.announce(worker)
    w.crash("node-3")
    w.now_s += 0.21
    w.tell(ev.Wake())
    assert fences(w) == ["node-3"], "it alone is gone: its lanes need not wait"


def say_cut_off(w: World, workers: set[str], seconds: float) -> None:
    """For this long, each of these says that it has no connection to Kafka; the others work."""
    for _ in range(int(seconds)):
        w.now_s += 1
        for worker, proc in w.procs.items():
            proc.seq += 1
            fault = f"{CUT_OFF} for 12 s" if worker in workers else ""
            lanes = tuple(
                LaneLoad(p.topic, p.n, s.epoch, 1.0, 0, 0.0, 0.0, fault)
                for p, s in w.partitions.items()
                if s.worker == worker
            )
            w.tell(TelemetryIn(worker, Telemetry(proc.boot, proc.seq, "", 0.1, 40.0, lanes=lanes)))
        w.tell(ev.Tick())
        w.kafka_steps()


def test_a_worker_without_kafka_is_told_and_loses_its_lanes() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(20)
    w.said.clear()
    say_cut_off(w, {"node-1"}, CUT_OFF_S - 2)
    assert any("1 cannot commit" in x and "no connection to Kafka" in x for x in w.said)
    assert any(s.worker == "node-1" for s in w.partitions.values()), "patience"
    say_cut_off(w, {"node-1"}, 5)
    w.fair(20, revive=False)
    assert not any(s.worker == "node-1" for s in w.partitions.values())
    assert any("no connection to Kafka for too long" in n.text for n in w.noted)


def test_while_many_workers_are_without_kafka_none_is_fenced() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(20)
    before = dict(w.partitions)
    say_cut_off(w, {"node-0", "node-1"}, 3 * CUT_OFF_S)
    assert {p: s.epoch for p, s in w.partitions.items()} == {p: s.epoch for p, s in before.items()}


def test_a_worker_that_never_begins_to_work_is_told() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(20)
    boot, why = w.procs["node-1"].boot, "cannot use Kafka: no broker accepted our login"
    for _ in range(2):
        said = Announcement("node-1", Health.DND, boot, STARTING, why)
        w.tell(WorkerSeen(said))
        w.pass_s(UNREADY_S + 1)
    assert f"1 does not begin to work: {why}" in " ".join(w.said)
    w.tell(WorkerSeen(Announcement("node-1", Health.AVAILABLE, boot, "ready")))
    w.tell(ev.Tick())
    assert not w.core.news.troubles.is_set(TroubleKind.WORKER_UNREADY, "node-1")
