"""The kind `analytics`: one task, `hotspots`, that exists while the inventory has such a worker."""

from __future__ import annotations

import pytest

from agents.base.errors import OperatorError
from agents.core.events import LeaseFailed, PlacementWritten
from agents.core.fleet.topic_checks import Extent, StreamsLooked
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.answers import Answer
from agents.core.model.inventory import Inventory
from agents.core.model.placement import Intent, State, drain_intent
from agents.core.model.topology import (
    TOPIC_HOTSPOTS,
    Partition,
    WorkerKind,
    WorkerSpec,
    kind_from_account,
)
from agents.core.operators.registry import COMMANDS
from tests.core.world import World

ANALYTICS = WorkerKind.ANALYTICS
HOTSPOTS = Partition("main/hotspots", 0)
SPECS = {w: WorkerSpec(w, ANALYTICS, "s0", 20_000.0) for w in ("analytics-1", "analytics-2")}


def inventory(w: World, *workers: str) -> Inventory:
    """The fleet's, with these analytics workers."""
    return w.inventory_with(ANALYTICS, {name: SPECS[name] for name in workers})


@pytest.fixture
def w() -> World:
    """A fleet at work with an analytics worker and a standby."""
    w = World(nodes=2, lanes=4)
    w.read(inventory(w, *SPECS))
    w.fair(20)
    return w


def owner(w: World) -> str:
    placed = w.partitions[HOTSPOTS]
    return placed.worker if placed.state is State.ASSIGNED else ""


def test_one_worker_has_the_task_and_the_other_stands_by(w: World) -> None:
    assert (owner(w), w.committed[HOTSPOTS] > 0) == ("analytics-1", True)
    assert w.core.fleet.owned_by("analytics-2") == []
    assert w.core.fleet.partitions_of(ANALYTICS) == [HOTSPOTS]
    assert w.all_at_work()


def test_the_standby_takes_over_from_a_killed_worker_at_its_count(w: World) -> None:
    done = w.committed[HOTSPOTS]
    w.crash("analytics-1")
    w.fair(20, revive=False)
    assert owner(w) == "analytics-2"
    assert w.committed[HOTSPOTS] > done
    assert any("analytics-1 is gone" in s and "To be moved: hotspots." in s for s in w.said)
    w.fair(20)
    assert owner(w) == "analytics-2", "the one that returns stands by"


def test_a_drained_worker_hands_over_to_the_standby(w: World) -> None:
    w.tell(PlacementWritten({}, {}, {drain_intent("analytics-1"): Intent("ana@d", 0)}))
    w.fair(20)
    assert owner(w) == "analytics-2"
    w.tell(PlacementWritten({}, {}, {drain_intent("analytics-1"): None}))
    w.fair(20)
    assert owner(w) == "analytics-2", "nothing is gained by going back"


def test_the_next_leader_finds_it_at_work(w: World) -> None:
    epoch = w.partitions[HOTSPOTS].epoch
    w.lead()
    w.fair(20)
    assert (owner(w), w.partitions[HOTSPOTS].epoch) == ("analytics-1", epoch)


def test_without_a_row_there_is_no_task() -> None:
    w = World(nodes=2, lanes=4)
    w.fair(20)
    assert HOTSPOTS not in w.core.fleet.partitions
    assert HOTSPOTS not in w.partitions
    assert ANALYTICS not in w.core.fleet.inventory.kinds_in_use()
    assert not w.core.news.troubles.list_worst_first()


def test_a_row_that_is_added_starts_it_and_one_that_is_removed_ends_it() -> None:
    w = World(nodes=2, lanes=4)
    w.fair(20)
    w.read(inventory(w, "analytics-1"))
    w.fair(20)
    assert owner(w) == "analytics-1"
    epoch, done = w.partitions[HOTSPOTS].epoch, w.committed[HOTSPOTS]
    w.read(inventory(w))
    w.fair(30)
    assert w.partitions[HOTSPOTS].state is State.ORPHAN, "nobody took over, so it was fenced"
    assert "analytics-1" not in w.core.fleet.views
    assert ANALYTICS not in w.core.fleet.inventory.kinds_in_use()
    assert not w.core.news.troubles.list_worst_first()
    w.lead()
    w.fair(20)
    w.read(inventory(w, "analytics-2"))
    w.fair(20)
    assert owner(w) == "analytics-2"
    assert w.partitions[HOTSPOTS].epoch > epoch, "its record was kept"
    assert w.committed[HOTSPOTS] > done


def test_a_removed_worker_hands_over_to_one_that_stays(w: World) -> None:
    w.read(inventory(w, "analytics-2"))
    w.fair(30)
    assert owner(w) == "analytics-2"
    assert "analytics-1" not in w.core.fleet.views
    assert any("analytics-1 is no longer in it: its partitions move elsewhere" in s for s in w.said)


def test_a_leader_that_begins_without_the_row_fences_the_owner(w: World) -> None:
    w.inv = inventory(w)
    w.lead()
    w.fair(20)
    assert w.partitions[HOTSPOTS].state is State.ORPHAN
    assert w.leases["analytics-1"].fenced


def test_its_absence_is_told_only_if_the_inventory_names_it(w: World) -> None:
    for worker in SPECS:
        w.crash(worker)
    w.fair(20, revive=False)
    assert w.core.news.troubles.is_set(TroubleKind.NO_ANALYTICS, "")
    assert any(s.startswith("No analytics: hotspots are not found.") for s in w.said)
    w.fair(20)
    assert not w.core.news.troubles.is_set(TroubleKind.NO_ANALYTICS, "")
    for worker in SPECS:
        w.crash(worker)
    w.fair(20, revive=False)
    w.read(inventory(w))
    w.fair(20, revive=False)
    assert not w.core.news.troubles.is_set(TroubleKind.NO_ANALYTICS, "")


def test_its_count_is_not_held_against_the_log(w: World) -> None:
    """Its committed offset is a count: it may be far behind the end of the topic's log, or beyond
    it."""
    counts = {TOPIC_HOTSPOTS: 1}
    for committed in (0, 5, 10_000_000):
        looked = StreamsLooked(counts, {HOTSPOTS: Extent(3, 9, 9)}, {HOTSPOTS: committed})
        for _ in range(3):
            w.tell(looked)
            w.fair(1)
    assert not w.core.news.troubles.is_set(TroubleKind.OFFSET_LOST, HOTSPOTS.key)


def test_a_count_that_is_gone_is_told_with_what_sets_it_again(w: World) -> None:
    counts, extents = {TOPIC_HOTSPOTS: 1}, {HOTSPOTS: Extent(0, 9, 9)}
    known = w.committed[HOTSPOTS]
    w.tell(StreamsLooked(counts, extents, {HOTSPOTS: known}))
    for _ in range(3):
        w.tell(StreamsLooked(counts, extents, {}))  # our account may not read it
    assert not w.core.news.troubles.list_worst_first()
    for _ in range(2):
        w.tell(StreamsLooked(counts, extents, {HOTSPOTS: None}))
    [trouble] = w.core.news.troubles.list_worst_first()
    assert (trouble.kind, trouble.about) == (TroubleKind.OFFSET_LOST, HOTSPOTS.key)
    assert trouble.text == (
        "hotspots cannot be processed: its committed offset is gone (the last one known is "
        f"{known}). reset hotspots fixes it, and first says what that loses or repeats."
    )
    for _ in range(2):
        w.tell(StreamsLooked(counts, extents, {HOTSPOTS: known}))
    assert not w.core.news.troubles.is_set(TroubleKind.OFFSET_LOST, HOTSPOTS.key)


def test_a_missing_topic_is_told_only_if_it_is_used(w: World) -> None:
    looked = StreamsLooked({TOPIC_HOTSPOTS: 0}, {}, {})
    w.tell(looked)
    assert w.core.news.troubles.is_set(TroubleKind.TOPIC_CHANGED, HOTSPOTS.topic)
    w.read(inventory(w))
    w.fair(30)
    w.tell(looked)
    assert not w.core.news.troubles.list_worst_first()


def test_people_read_its_name(w: World) -> None:
    assert HOTSPOTS.label == "hotspots"
    assert kind_from_account("analytics-1") is ANALYTICS
    assert kind_from_account("ana") is None
    c = w.core.desk.make_context("ana", "ana@d", w.now_s, w.now.ms)
    told = COMMANDS["node"].run(c, ["analytics-1"])
    assert isinstance(told, Answer)
    assert told.text.startswith("analytics-1 is ok: 1 partition")
    assert "Owns hotspots." in told.text
    dry = COMMANDS["drain"].run(c, ["analytics-1"])
    assert getattr(dry, "text", "") == (
        "Drain analytics-1: hotspots would move away, a few at a time."
    )
    with pytest.raises(OperatorError, match="analytics-1 is not a node"):
        COMMANDS["move"].run(c, ["0", "analytics-1"])
    w.crash("analytics-2")
    w.fair(5, revive=False)
    with pytest.raises(OperatorError, match="analytics-1 would keep its partitions"):
        COMMANDS["drain"].run(c, ["analytics-1"])


def test_a_lease_that_kafka_refuses_is_a_trouble_until_it_is_made() -> None:
    """Rights of an earlier version know no analytics: the rest of the fleet works on."""
    w = World(nodes=2, lanes=4)
    w.fair(20)
    w.read(inventory(w, "analytics-1"))
    w.start("analytics-1")
    refused = LeaseFailed("analytics-1", "no right", refused=True)
    w.kafka.clear()
    w.tell(refused)
    assert w.core.news.troubles.is_set(TroubleKind.LEASE_REFUSED, "analytics-1")
    told = "Kafka refuses me a lease for analytics-1: no right."
    assert any(s.startswith(told) for s in w.said)
    w.fair(20)
    assert owner(w) == "analytics-1"
    assert not w.core.news.troubles.is_set(TroubleKind.LEASE_REFUSED, "analytics-1")
    w.tell(refused)
    w.read(inventory(w))
    w.fair(30)
    assert not w.core.news.troubles.list_worst_first()
