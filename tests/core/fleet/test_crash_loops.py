"""What happens again and again is told once, with its last words, and once more when it has
held."""

from __future__ import annotations

from agents.core.events import WorkerSeen
from agents.core.fleet.crash_loops import HANDS, HELD_S, STARTS
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.feeds import AlertItem
from agents.core.model.messages import Announcement, Health
from tests.core.world import World


def crash_and_start(w: World, worker: str, end: str) -> None:
    w.crash(worker)
    w.now_s += 0.5
    w.fair(1, revive=False)
    w.start(worker)
    boot = w.procs[worker].boot
    w.tell(
        WorkerSeen(Announcement(worker, Health.AVAILABLE, boot=boot, state="working", last_end=end))
    )
    w.fair(3, revive=False)


def test_a_worker_that_starts_again_and_again_is_told_once_with_its_last_words() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    for n in range(STARTS + 2):
        w.said.clear()
        w.published.clear()
        # The announcement that names how it ended comes before any other of that boot.
        w.crash("node-1")
        w.now_s += 0.5
        w.fair(1, revive=False)
        w.boots += 1
        w.tell(
            WorkerSeen(
                Announcement(
                    "node-1", Health.AVAILABLE, boot=f"x{n}", state="working", last_end=f"exit {n}"
                )
            )
        )
        w.start("node-1")
        w.fair(3, revive=False)
    kinds = [p.item.element.kind for p in w.published if isinstance(p.item.element, AlertItem)]
    assert not {"node_gone", "worker_back"} & set(kinds), "not each time"
    assert not any("1 is gone" in s or "1 is back" in s for s in w.said)
    [t] = [t for t in w.core.news.troubles.list_worst_first() if t.kind is TroubleKind.CRASH_LOOP]
    assert t.about == "node-1"
    assert "1 keeps restarting" in t.text
    w.fair(int(HELD_S) + 2)
    assert not [
        t for t in w.core.news.troubles.list_worst_first() if t.kind is TroubleKind.CRASH_LOOP
    ]
    assert any("1 has been stable for" in s for s in w.said)


def test_its_last_end_is_in_what_is_told() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    view = w.core.fleet.views["node-1"]
    for n in range(STARTS):
        w.core.lookout.circles.note_start(view.spec, f"killed by SIGSEGV: fault: {n}", w.now_s + n)
    [t] = w.core.news.troubles.list_worst_first()
    assert "4 starts in 3 s. Last exit: killed by SIGSEGV: fault: 3. See its log" in t.text
    assert "journalctl -u geolane-node@1" in t.text


def test_a_lane_that_goes_from_hand_to_hand_is_told() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    p, placed = next((p, s) for p, s in w.partitions.items() if p.topic.endswith("lanes"))
    for n in range(8):
        w.core.lookout.circles.note_owner(p, placed, w.now_s + n)
    [t] = w.core.news.troubles.list_worst_first()
    assert (t.kind, t.about) == (TroubleKind.CIRCLES, p.key)
    assert f"{p.label} keeps changing its owner: 9 times in" in t.text
    w.fair(int(HELD_S) + 10)
    assert not w.core.news.troubles.list_worst_first()


def test_leaders_that_end_again_and_again_are_told_once_with_the_last_end() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    circles, ms = w.core.lookout.circles, w.now.ms
    assert not circles.note_leader_start(
        [ms - 900_000, ms - 800_000, ms - 20_000, ms - 10_000, ms], "", w.now_s
    )
    assert "coordinator" not in [t.about for t in w.core.news.troubles.list_worst_first()]
    starts = [ms - 900_000, ms - 30_000, ms - 20_000, ms - 10_000, ms]
    told = circles.note_leader_start(starts, "exit 1: ZeroDivisionError: a flaw", w.now_s)
    assert (
        "4 leaders began in 30 s. Last exit of this one: exit 1: ZeroDivisionError: a flaw. See"
        in told
    )
    [t] = w.core.news.troubles.list_worst_first()
    assert (t.kind, t.about, t.text) == (TroubleKind.CRASH_LOOP, "coordinator", told)
    w.fair(int(HELD_S) + 2)
    assert not w.core.news.troubles.list_worst_first()
    assert any("The leader has been stable for" in s for s in w.said)


def test_a_loop_is_over_once_nothing_was_repeated_for_the_whole_time() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    circles, troubles, last = w.core.lookout.circles, w.core.news.troubles, w.now_s
    p, placed = next((p, s) for p, s in w.partitions.items() if p.topic.endswith("lanes"))
    for _ in range(HANDS):
        circles.note_owner(p, placed, last)
    for _ in range(STARTS):
        circles.note_start(w.core.fleet.views["node-1"].spec, "", last)
    circles.note_leader_start([w.now.ms] * STARTS, "", last)
    circles.end_finished_loops(frozenset(), last + HELD_S - 0.1)
    assert {t.about for t in troubles.list_worst_first()} == {p.key, "node-1", "coordinator"}
    circles.end_finished_loops(frozenset(), last + HELD_S)
    assert not troubles.list_worst_first()
