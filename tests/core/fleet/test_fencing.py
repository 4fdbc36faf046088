"""A fence is a loss only if something is lost; one that Kafka did not perform is tried again."""

from __future__ import annotations

from agents.core import effects as fx
from agents.core import events as ev
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


def test_a_fenced_boot_is_told_so_again_and_again_but_not_all_the_time() -> None:
    w = World(nodes=1, lanes=1)
    w.fair(8)
    fleet = w.core.fleet
    view = fleet.views["node-0"]
    view.inflight.clear()
    for after_s, told in ((0.0, 1), (TELL_FENCED_EVERY_S - 0.1, 0), (TELL_FENCED_EVERY_S, 1)):
        assert len(list(say_fenced(fleet, view, 1000.0 + after_s))) == told
        view.inflight.clear()
