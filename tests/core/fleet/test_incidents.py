"""What the room hears unasked: once, with an end, never a flood."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.core.effects import Publish, Say, Subject
from agents.core.events import Wake, WorkerSeen
from agents.core.fleet.incidents import CHARACTERS, LINES, News, clip_lines, format_partitions
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.feeds import AlertItem
from agents.core.model.messages import Announcement, Health
from agents.core.model.topology import WorkerKind
from tests.core.world import World


def test_a_killed_node_is_one_line_and_one_end() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    w.said.clear()
    victim = next(s.worker for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    w.crash(victim)
    w.now_s += 0.3
    w.tell(Wake())
    w.fair(10)
    name = victim.partition("-")[2]
    assert sum(f"{name} is gone" in s for s in w.said) == 1
    assert sum("Calm again" in s for s in w.said) == 1
    assert sum(f"{name} is back" in s for s in w.said) == 1
    kinds = [p.item.element.kind for p in w.published if isinstance(p.item.element, AlertItem)]
    assert kinds.count("node_gone") == 2, "the alert, and its end"
    assert kinds.count("worker_back") == 1


def test_a_flapping_fleet_is_told_in_few_messages() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    w.said.clear()
    for _ in range(30):
        w.crash("node-1")
        w.now_s += 0.3
        w.fair(1)
    assert len(w.said) <= 4 + 30 * 1.3 / 5 + 2


def test_the_end_is_not_told_before_the_lanes_work_again() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    news = News(w.core.fleet)
    lane = WorkerKind.NODE.partition(0)
    news.report_gone(w.inv.workers[w.partitions[lane].worker], "test", [lane], 0.0)
    said = [e for e in news.tell_pending(5.0, paused=False, connected=True) if isinstance(e, Say)]
    assert [s for s in said if "Calm" in s.text] == []


def test_nothing_is_lost_while_the_room_cannot_be_reached() -> None:
    w = World(nodes=3, lanes=6)
    news = News(w.core.fleet)
    news.add_line("kept")
    assert not [
        e for e in news.tell_pending(1.0, paused=False, connected=False) if isinstance(e, Say)
    ]
    assert [
        e.text for e in news.tell_pending(2.0, paused=False, connected=True) if isinstance(e, Say)
    ] == ["kept"]


def test_the_subject_changes_only_for_what_holds() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    news = News(w.core.fleet)
    here = Announcement("node-1", Health.AVAILABLE, boot=w.procs["node-1"].boot, state="working")

    def subjects(now: float) -> list[str]:
        return [
            e.text
            for e in news.tell_pending(now, paused=False, connected=True)
            if isinstance(e, Subject)
        ]

    w.core.fleet.note_departure("node-1", w.now_s)
    assert subjects(94.0) == [], "who begins to lead does not know them all yet"
    w.core.fleet.note_presence(here, w.now_s)
    assert subjects(95.0) == []
    assert subjects(100.0) == ["geolane: calm, 3/3 nodes, 6/6 lanes"]
    w.core.fleet.note_departure("node-1", w.now_s)
    assert subjects(101.0) == []
    w.core.fleet.note_presence(here, w.now_s)
    assert subjects(102.0) == subjects(120.0) == []
    w.core.fleet.note_departure("node-1", w.now_s)
    assert subjects(121.0) == []
    assert subjects(126.5) == ["geolane: working, 2/3 nodes, 6/6 lanes"]
    w.core.fleet.note_presence(replace(here, health=Health.DND, state="drained"), w.now_s)
    assert subjects(130.0) == []
    assert subjects(136.0) == ["geolane: calm, 2/3 nodes, 6/6 lanes"], "as in `status`"


def test_alerts_are_published_even_where_the_room_is_spared() -> None:
    w = World(nodes=3, lanes=6)
    news = News(w.core.fleet)
    for n in range(20):
        news.troubles.set(TroubleKind.LANE_STOPPED, f"{n}", f"reason {n}", 0.0)
    effects = list(news.tell_pending(1.0, paused=False, connected=True))
    assert sum(isinstance(e, Publish) for e in effects) == 20
    assert sum(isinstance(e, Say) for e in effects) == 1


def test_a_message_fits_a_phone() -> None:
    text = clip_lines([f"line {n} " + "x" * 100 for n in range(40)])
    assert len(text) <= CHARACTERS
    assert text.count("\n") < LINES
    assert "more lines" in text
    assert clip_lines(["word " * 300]).endswith("word ..."), "no word is cut"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "nothing"),
        (1, "lane 0"),
        (6, "lanes 0, 1, 2, 3, 4, 5"),
        (9, "lanes 0, 1, 2, 3, 4, 5 and 3 more"),
    ],
)
def test_up_to_six_lanes_are_named(count: int, text: str) -> None:
    assert format_partitions(WorkerKind.NODE.partition(n) for n in range(count)) == text


def test_a_worker_that_changes_its_health_all_the_time_is_told_now_and_then() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    w.noted.clear()
    boot = w.procs["node-0"].boot
    for n in range(600):
        w.now_s += 0.1
        health = (Health.XA, Health.DND)[n % 2]
        w.tell(WorkerSeen(Announcement("node-0", health, boot, "odd", capacity_eps=2000.0)))
    alerts = [n.data["kind"] for n in w.noted if n.kind == "alert"]
    assert "flapping" in alerts
    assert 1 <= sum("0 keeps changing its health" in s for s in w.said) <= 3
    assert len(alerts) < 15
    assert sum(n.kind == "fleet" for n in w.noted) < 15


def test_four_messages_come_at_once_and_then_one_in_five_seconds_with_all_lines() -> None:
    news = News(World(nodes=3, lanes=6).core.fleet)

    def said_at(now: float) -> list[str]:
        news.add_line(f"at {now:g}")
        told = news.tell_pending(now, paused=False, connected=True)
        return [e.text for e in told if isinstance(e, Say)]

    assert [len(said_at(100.0)) for _ in range(5)] == [1, 1, 1, 1, 0]
    assert said_at(104.0) == []
    assert [text.count("\n") for text in said_at(105.5)] == [2], "the lines that waited, too"
    assert said_at(106.0) == []
    assert [len(said_at(1000.0)) for _ in range(5)] == [1, 1, 1, 1, 0], "never more at once"


def test_a_worker_that_had_nothing_leaves_nothing_to_be_moved() -> None:
    w = World(nodes=3, lanes=2)
    w.fair(8)
    idle = next(n for n in ("node-0", "node-1", "node-2") if not w.core.fleet.owned_by(n))
    w.said.clear()
    w.crash(idle)
    w.now_s += 0.3
    w.tell(Wake())
    w.fair(10)
    (gone,) = [s for s in w.said if "is gone" in s]
    assert "It had no lanes." in gone
    assert not any("nothing" in s for s in w.said)


def test_an_end_within_the_same_instant_is_told_with_a_bound() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    news = News(w.core.fleet)
    lane = next(p for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    spec = w.inv.workers[w.partitions[lane].worker]
    news.report_gone(spec, "a test", [lane], 1.0)
    news.incidents[0].epochs[lane] -= 1  # it is at work again already
    said = [
        e.text for e in news.tell_pending(1.0, paused=False, connected=True) if isinstance(e, Say)
    ]
    assert "running again after < 0.1 s" in said[0]


def test_an_alert_about_a_lane_is_of_its_node_too() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    lane = next(p for p, s in w.partitions.items() if WorkerKind.NODE.works(p))
    w.core.news.troubles.set(TroubleKind.LANE_STOPPED, lane.key, "it stands", w.now_s)
    w.tell(Wake())
    (note,) = [n for n in w.noted if n.data.get("about") == lane.key]
    assert note.data["nodes"] == [w.partitions[lane].worker]
