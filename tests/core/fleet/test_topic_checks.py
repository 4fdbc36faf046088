"""What is judged of Kafka's topics: two looks that agree, true words, and nothing told of what is
only on its way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.core.fleet.topic_checks import (
    OPEN_S,
    Extent,
    OpenTransaction,
    StreamsLooked,
    why_offset_unusable,
)
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.placement import State
from agents.core.model.topology import (
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_LANES,
    TOPIC_RAW,
    TOPIC_UNPLACED,
    WorkerKind,
)
from tests.core.world import World

LANE = WorkerKind.NODE.partition(3)
COUNTS = {TOPIC_RAW: 1, TOPIC_LANES: 6, TOPIC_CLEAN: 6, TOPIC_UNPLACED: 1, TOPIC_DEAD: 1}


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(10)
    return world


def well(w: World) -> StreamsLooked:
    every = list(w.core.fleet.partitions)
    return StreamsLooked(
        COUNTS, {p: Extent(0, 10**6, 10**6) for p in every}, {p: w.committed.get(p) for p in every}
    )


def texts(w: World, kind: TroubleKind) -> list[str]:
    return [t.text for t in w.core.news.troubles.list_worst_first() if t.kind is kind]


def look(w: World, *looks: StreamsLooked, every_s: float = 5.0) -> None:
    for one in looks:
        w.tell(one)
        w.now_s += every_s


def test_a_fleet_that_is_well_has_no_trouble(w: World) -> None:
    look(w, well(w), well(w))
    assert not w.core.news.troubles.list_worst_first()


@pytest.mark.parametrize(
    ("begin", "end", "committed", "written", "why"),
    [
        (0, 9, 5, 5, ""),
        (5, 9, 5, 5, ""),
        (0, 5, 5, 2, ""),
        (0, 9, None, 0, ""),
        (0, 9, None, 7, "its committed offset is gone (the last one known is 7)"),
        (4, 9, None, 0, "it should begin at 0, but its log begins at 4"),
        (6, 9, 5, 5, "its log begins at 6 (retention, or deleted records)"),
        (0, 4, 5, 5, "its log ends at 4 (the topic was recreated, or lost its end)"),
        (0, 9, 5, 10**15, "its record in placement says 1,000,000,000,000,000, but 5 is committed"),
    ],
)
def test_an_offset_is_in_its_log_or_it_is_said_how_it_is_not(
    begin: int, end: int, committed: int | None, written: int, why: str
) -> None:
    found = why_offset_unusable(begin, end, committed, written)
    assert (why in found) if why else not found


def test_an_offset_that_is_gone_is_told_at_the_second_look_with_what_mends_it(w: World) -> None:
    look(w, well(w))
    lost = replace(well(w), committed={**well(w).committed, LANE: None})
    look(w, lost)
    assert texts(w, TroubleKind.OFFSET_LOST) == []
    look(w, lost)
    [text] = texts(w, TroubleKind.OFFSET_LOST)
    assert (
        "lane 3 cannot be processed: its committed offset is gone (the last one known is "
        f"{w.committed[LANE]:,})" in text
    )
    assert "reset 3 fixes it" in text
    look(w, well(w))
    assert texts(w, TroubleKind.OFFSET_LOST) == []


def test_what_moves_on_between_two_readings_is_not_told(w: World) -> None:
    first, second = well(w), well(w)
    first = replace(first, committed={**first.committed, LANE: 0})
    w.partitions[LANE] = w.core.fleet.partitions[LANE] = replace(
        w.core.fleet.partitions[LANE], offset=5
    )
    look(w, first, second, first, second)
    assert texts(w, TroubleKind.OFFSET_LOST) == []


def test_a_transaction_that_stays_open_is_told_and_one_that_moves_on_is_not(w: World) -> None:
    raw = WorkerKind.ROUTER.partition(0)

    def held(stable: int) -> StreamsLooked:
        extents = {**well(w).extents, raw: Extent(0, stable, 10**6)}
        return replace(well(w), extents=extents, open={raw: OpenTransaction(4001, 2)})

    for n in range(20):
        look(w, held(100 + n))
    assert texts(w, TroubleKind.OPEN_TRANSACTION) == []
    for _ in range(int(OPEN_S / 5) + 1):
        look(w, held(200))
    [text] = texts(w, TroubleKind.OPEN_TRANSACTION)
    assert "events.raw 0: a transaction of producer 4001 (epoch 2) has been open for" in text
    assert "up to 999,800 records from offset 200 on wait" in text
    assert "geolane abort-transaction events.raw 0 200" in text
    look(w, well(w))
    assert texts(w, TroubleKind.OPEN_TRANSACTION) == []


def test_new_raw_partitions_are_placed_and_lanes_that_nobody_maps_are_told(w: World) -> None:
    look(w, replace(well(w), counts={**COUNTS, TOPIC_RAW: 3}))
    w.fair(5)
    assert w.all_at_work()
    assert {p for p in w.partitions if WorkerKind.ROUTER.works(p)} == {
        WorkerKind.ROUTER.partition(n) for n in range(3)
    }
    assert any("events.raw has 3 partitions now, 1 before" in s for s in w.said)
    look(
        w,
        replace(
            well(w), counts={**COUNTS, TOPIC_RAW: 3, TOPIC_LANES: 8, TOPIC_CLEAN: 4, TOPIC_DEAD: 0}
        ),
    )
    found = "\n".join(texts(w, TroubleKind.TOPIC_CHANGED))
    assert "nothing is sent to lanes 6 to 7" in found
    assert "lanes 4 to 5 have stopped" in found
    assert "There is no topic events.dead" in found


def test_an_offset_that_goes_back_while_its_owner_lives_is_told(w: World) -> None:
    def at(offset: int) -> StreamsLooked:
        return replace(well(w), committed={LANE: offset})

    look(w, at(20), at(20), at(30))
    assert texts(w, TroubleKind.OFFSET_WENT_BACK) == []
    look(w, at(10))
    [text] = texts(w, TroubleKind.OFFSET_WENT_BACK)
    assert "lane 3: its committed offset went back from 30 to 10 while " in text
    assert "--list --group geolane-node" in text
    look(w, at(25))
    assert "from 30 to 25" in texts(w, TroubleKind.OFFSET_WENT_BACK)[0]
    look(w, at(30))
    assert texts(w, TroubleKind.OFFSET_WENT_BACK) == []


def test_another_owner_may_begin_further_back(w: World) -> None:
    """A rewind: what was read before it may be heard when the lane has its next owner."""
    fleet = w.core.fleet

    def at(offset: int) -> StreamsLooked:
        return replace(well(w), committed={LANE: offset})

    look(w, at(20), at(20))
    before = fleet.partitions[LANE]
    fleet.partitions[LANE] = replace(before, state=State.ORPHAN)
    look(w, at(20))
    fleet.partitions[LANE] = replace(before, epoch=before.epoch + 1)
    look(w, at(20), at(5), at(6))
    assert texts(w, TroubleKind.OFFSET_WENT_BACK) == []
    look(w, at(4))
    assert "from 6 to 4" in texts(w, TroubleKind.OFFSET_WENT_BACK)[0]


def test_a_lane_whose_owner_dies_once_its_group_is_gone_is_not_begun_at_0(w: World) -> None:
    """Its first owner was told 0, and its record says so until somebody releases it."""
    at = w.committed[LANE]
    assert w.partitions[LANE].offset == 0
    look(w, well(w))
    del w.committed[LANE]
    w.core.fleet.held.add(LANE)
    w.crash(w.partitions[LANE].worker)
    w.now_s += 1
    w.fair(3, revive=False)
    assert w.partitions[LANE].offset == at
