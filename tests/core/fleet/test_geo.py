"""The kind `geo`: it works events.unplaced while the inventory has such a worker."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from agents.core.events import TelemetryIn
from agents.core.fleet.topic_checks import Extent, StreamsLooked
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.answers import Answer
from agents.core.model.inventory import Inventory
from agents.core.model.messages import LaneLoad, Telemetry
from agents.core.model.placement import State
from agents.core.model.topology import (
    ASIDE,
    TOPIC_UNPLACED,
    Partition,
    WorkerKind,
    WorkerSpec,
    kind_from_account,
)
from agents.core.operators.registry import COMMANDS
from tests.core.world import World

GEO = WorkerKind.GEO
UNPLACED = [Partition("main/events.unplaced", n) for n in range(3)]
SPECS = {w: WorkerSpec(w, GEO, "s0", 20_000.0) for w in ("geo-1", "geo-2")}


def inventory(w: World, *workers: str) -> Inventory:
    """The fleet's, with these geo workers."""
    return w.inventory_with(GEO, {name: SPECS[name] for name in workers})


@pytest.fixture
def w() -> World:
    """A fleet at work with two geo workers."""
    w = World(nodes=2, lanes=4)
    w.read(inventory(w, *SPECS))
    w.fair(20)
    return w


def told(w: World, command: str, *words: str) -> str:
    c = w.core.desk.make_context("ana", "ana@d", w.now_s, w.now.ms)
    answer = COMMANDS[command].run(c, list(words))
    assert isinstance(answer, Answer)
    return answer.text


def owner(w: World, p: Partition) -> str:
    placed = w.partitions[p]
    return placed.worker if placed.state is State.ASSIGNED else ""


def test_without_a_row_nobody_works_the_unplaced() -> None:
    w = World(nodes=2, lanes=4)
    w.fair(20)
    w.tell(StreamsLooked({TOPIC_UNPLACED: 3}, {UNPLACED[0]: Extent(0, 9, 9)}, {}))
    w.fair(5)
    assert not any(GEO.works(p) for p in (*w.core.fleet.partitions, *w.partitions))
    assert GEO not in w.core.fleet.inventory.kinds_in_use()
    assert not w.core.news.troubles.list_worst_first()


def test_a_worker_that_is_added_works_them_and_another_takes_over(w: World) -> None:
    assert (kind_from_account("geo-1"), owner(w, UNPLACED[0])) == (GEO, "geo-1")
    done = w.committed[UNPLACED[0]]
    w.crash("geo-1")
    w.fair(20, revive=False)
    assert owner(w, UNPLACED[0]) == "geo-2"
    assert w.committed[UNPLACED[0]] >= done
    assert any("geo-1 is gone" in s and "To be moved: unplaced 0." in s for s in w.said)


def test_added_partitions_are_shared(w: World) -> None:
    w.tell(StreamsLooked({TOPIC_UNPLACED: 3}, {}, {}))
    w.fair(20)
    assert Counter(owner(w, p) for p in UNPLACED) in (
        {"geo-1": 2, "geo-2": 1},
        {"geo-1": 1, "geo-2": 2},
    )
    assert any("events.unplaced has 3 partitions now, 1 before: geo workers" in s for s in w.said)


def test_the_last_one_that_is_removed_is_fenced_and_the_record_stays(w: World) -> None:
    w.read(inventory(w))
    w.fair(30)
    assert w.partitions[UNPLACED[0]].state is State.ORPHAN
    assert not {"geo-1", "geo-2"} & w.core.fleet.views.keys()
    assert not w.core.news.troubles.list_worst_first()
    w.read(inventory(w, "geo-2"))
    w.fair(20)
    assert owner(w, UNPLACED[0]) == "geo-2"


def test_its_absence_is_told(w: World) -> None:
    for worker in SPECS:
        w.crash(worker)
    w.fair(20, revive=False)
    assert w.core.news.troubles.is_set(TroubleKind.NO_GEO, "")
    assert any("events with a place but no coordinates wait" in s for s in w.said)
    w.fair(20)
    assert not w.core.news.troubles.is_set(TroubleKind.NO_GEO, "")


def test_what_waits_for_a_provider_is_told_with_its_reason(w: World) -> None:
    p, why = UNPLACED[0], "its places cannot be asked for now: the day's calls are used up"
    placed = w.partitions[p]
    t = w.core.fleet.views["geo-1"].telemetry
    assert isinstance(t, Telemetry)
    load = LaneLoad(p.topic, p.n, placed.epoch, 0.0, 7, 0.0, 0.0, f"{ASIDE}{why}")
    w.tell(TelemetryIn("geo-1", replace(t, seq=t.seq + 1, lanes=(load,))))
    w.core.news.troubles.expire(w.now_s)
    [trouble] = w.core.news.troubles.list_worst_first()
    assert (trouble.kind, trouble.about) == (TroubleKind.LANE_HELD_UP, p.key)
    assert trouble.text == f"unplaced 0 is held up on geo-1: {why}."
    assert f"Unplaced 0 is held up: {why}" in told(w, "node", "geo-1")


def test_people_see_what_waits(w: World) -> None:
    w.tell(StreamsLooked({TOPIC_UNPLACED: 3}, {}, {}))
    w.fair(20)
    assert "wait for the coordinates" not in told(w, "status")
    for worker in SPECS:
        t = w.core.fleet.views[worker].telemetry
        assert isinstance(t, Telemetry)
        loads = tuple(replace(load, lag_events=700) for load in t.lanes)
        w.tell(TelemetryIn(worker, replace(t, seq=t.seq + 1, lanes=loads)))
    assert "2,100 events wait for the coordinates" in told(w, "status")
    last = told(w, "lanes").splitlines()[-1]
    assert last == "Unplaced: 3 of 3 partitions with an owner, 30 events/s, lag 2,100."
    assert re.search(r"Owns unplaced \d", told(w, "node", "geo-1"))
    assert "unplaced" not in told(World(nodes=2), "lanes").lower()
