"""A fence is a loss only if something is lost; one that Kafka did not perform is tried again."""

from __future__ import annotations

from itertools import pairwise

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.fleet.fencing import MAX_RETRY_S
from agents.core.fleet.reconcile import RETRY_S, TELL_FENCED_EVERY_S, say_fenced
from agents.core.model.feeds import AlertItem
from agents.core.model.messages import Announcement, Health
from tests.core.world import World


def stop(w: World, worker: str) -> None:
    """The worker is told by its machine to end: from now on it drains itself."""
    boot = w.procs[worker].boot
    w.tell(ev.WorkerSeen(Announcement(worker, Health.DND, boot=boot, state="draining")))


def leave(w: World, worker: str) -> list[str]:
    """The worker's session closes. Returns the kinds of the alerts."""
    w.said.clear()
    w.published.clear()
    w.crash(worker)
    w.now_s += 0.3
    w.fair(10, revive=False)
    return [p.item.element.kind for p in w.published if isinstance(p.item.element, AlertItem)]


def test_a_worker_that_has_handed_everything_over_has_stopped_and_is_not_gone() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    stop(w, "node-1")
    w.fair(30, revive=False)
    assert not w.core.fleet.owned_by("node-1")
    assert leave(w, "node-1") == ["worker_stopped"]
    assert "1 has stopped; it handed everything over first." in w.said


def test_a_worker_that_ends_before_it_has_handed_over_is_gone() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    assert w.core.fleet.owned_by("node-1")
    stop(w, "node-1")
    assert "node_gone" in leave(w, "node-1")
    assert w.all_at_work()


def test_a_lease_that_kafka_did_not_make_is_tried_again_after_a_pause() -> None:
    w = World(nodes=1, lanes=1)

    def wanted() -> list[fx.MakeLease]:
        w.tell(ev.Tick())
        return [e for e in w.kafka if isinstance(e, fx.MakeLease)]

    w.start("node-0")
    first = wanted()
    w.kafka.clear()
    w.tell(ev.LeaseFailed("node-0", "no broker answers"))
    w.now_s += RETRY_S - 0.1
    assert wanted() == []
    w.now_s += 0.1
    assert wanted() == first


def refuse_leases(w: World, seconds: float) -> list[float]:
    """Kafka refuses all; returns when each was asked for."""
    asked, until_s = [], w.now_s + seconds
    while w.now_s < until_s:
        w.tell(ev.Tick())
        wanted = [e.worker for e in w.kafka if isinstance(e, fx.MakeLease)]
        w.kafka.clear()
        for worker in wanted:
            asked.append(w.now_s)
            w.tell(ev.LeaseFailed(worker, "no right", refused=True))
        w.now_s += 0.25
    return asked


def test_a_lease_that_kafka_refuses_is_asked_for_less_and_less_often_and_told_once() -> None:
    w = World(nodes=1, lanes=1)
    w.start("node-0")
    w.kafka.clear()
    w.tell(ev.LeaseFailed("node-0", "no right", refused=True))
    began, asked = w.now_s, refuse_leases(w, 300)
    waits = [b - a for a, b in pairwise([began, *asked])]
    assert waits[:6] == [RETRY_S * 2**n for n in range(6)]
    assert set(waits[6:]) == {MAX_RETRY_S}
    assert sum("Kafka refuses me a lease for 0" in said for said in w.said) == 1
    assert sum("no lease for node-0" in note.text for note in w.noted) == 1
    assert w.core.fencing.failed_leases == 1 + len(asked)
    w.tell(ev.LeaseFailed("node-0", "another", refused=True))
    assert [note.text for note in w.noted if "no lease" in note.text][1:] == [
        "no lease for node-0: another"
    ]
    w.now_s += MAX_RETRY_S
    w.fair(8)
    assert w.all_at_work()
    w.tell(ev.LeaseFailed("node-0", "another", refused=True))
    assert w.core.fleet.views["node-0"].retry_at == w.now_s + RETRY_S, "it begins anew"


def test_a_worker_that_cannot_be_fenced_is_gone_once() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    w.said.clear()
    w.crash("node-1")
    asked = refuse_leases(w, 60)
    assert 5 <= len(asked) <= 8
    assert "".join(w.said).count("1 is gone") == 1
    w.now_s += MAX_RETRY_S
    w.fair(20)
    assert w.all_at_work()
    w.said.clear()
    w.crash("node-1")
    w.fair(8, revive=False)
    assert "".join(w.said).count("1 is gone") == 1, "another time"


def test_a_lease_of_a_stranger_is_asked_for_less_and_less_often() -> None:
    w = World(nodes=2, lanes=2)
    w.fair(8)
    w.inv = w.without("node-1")
    w.lead()
    assert len(refuse_leases(w, 60)) <= 9


def test_a_fenced_boot_is_told_so_again_and_again_but_not_all_the_time() -> None:
    w = World(nodes=1, lanes=1)
    w.fair(8)
    fleet = w.core.fleet
    view = fleet.views["node-0"]
    view.inflight.clear()
    for after_s, told in ((0.0, 1), (TELL_FENCED_EVERY_S - 0.1, 0), (TELL_FENCED_EVERY_S, 1)):
        assert len(list(say_fenced(fleet, view, 1000.0 + after_s))) == told
        view.inflight.clear()
