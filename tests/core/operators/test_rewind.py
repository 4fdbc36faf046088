"""`lane N rewind`: what it says before, and that whoever dies in the middle, the lane is rewound or
it is not."""

from __future__ import annotations

import itertools

import pytest

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.events import QuestionAsked
from agents.core.fleet.rewinds import AwaitCommitted, LookBack, Past, ReadCommitted
from agents.core.model.placement import Placed, State
from agents.core.model.topology import WorkerKind
from tests.core.world import World

ANA = "ana@d"
P = WorkerKind.NODE.partition(3)
COUNTS = '{"in":9,"out":9,"filtered":0,"dead":0}'
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(10)
    know(world)
    world.said.clear()
    assert world.committed[P] > 5
    return world


def know(w: World) -> None:
    w.tell(ev.AffiliationsRead({ANA: "owner", "ben@d": "admin"}))


def ask(w: World, text: str, who: str = ANA) -> str:
    before, n = len(w.said), next(_ids)
    w.core.desk._asks.clear()
    w.tell(QuestionAsked(who, who.partition("@")[0], f"!{text}", True, f"s{n}", None, f"m{n}"))
    return "\n".join(w.said[before:])


def found(w: World, result: object = None, error: str = "") -> None:
    """The next errand that was sent for comes back."""
    w.tell(ev.QueryFinished(w.errands.pop(0).ref, result, error))


def predicted(w: World, to: str, past: Past) -> str:
    ask(w, f"lane 3 rewind {to}")
    before = len(w.said)
    found(w, past)
    return "\n".join(w.said[before:])


def begin(w: World, target: int = 2) -> Placed:
    """Confirmed; the record as it was."""
    at = w.committed[P]
    dry = predicted(w, str(target), Past(0, at + 5, at, target, at - target))
    assert f"{at - target} events will be processed again; events.clean will have them twice" in dry
    before = w.partitions[P]
    assert "On it" in ask(w, f"confirm {dry.partition('confirm ')[2].split()[0]}")
    return before


def kafka(w: World) -> None:
    while w.kafka:
        w.kafka_step()


def released(w: World) -> None:
    """Until the owner has given it back and the coordinator asks where it stands."""
    for _ in range(20):
        kafka(w)
        if w.sends:
            w.deliver(0)
        if w.errands:
            break
    assert w.errands[0].what == ReadCommitted(P)
    assert (w.partitions[P].state, w.partitions[P].worker) == (State.ORPHAN, "")


def test_it_is_for_an_owner_and_looks_at_the_brokers_first(w: World) -> None:
    assert "needs an owner" in ask(w, "lane 3 rewind 0", "ben@d")
    assert "Rewind to when?" in ask(w, "lane 3 rewind")
    assert "is not a valid time" in ask(w, "lane 3 rewind soon")
    assert "Usage: lane N rewind" in ask(w, "lane 3 forward 0")
    assert not w.errands
    ask(w, "lane 3 rewind 17")
    ask(w, "lane 3 rewind -10m")
    assert [e.what for e in w.errands] == [
        LookBack(P, offset=17),
        LookBack(P, since_ms=w.now.ms - 600_000),
    ]


@pytest.mark.parametrize(
    ("past", "why"),
    [
        (
            Past(5, 100, 50, 2),
            "Offset 2 is not in the log: the broker has 5 to 100, and 50 is committed",
        ),
        (Past(0, 100, 1, 2), "is ahead: the events before it would be lost"),
        (Past(0, 100, 2, 2), "nothing to process again"),
        (Past(0, 100, -1, 2), "no committed offset yet"),
        (Past(0, 100, 50, None), "Nothing was appended"),
    ],
)
def test_what_cannot_be_is_refused(w: World, past: Past, why: str) -> None:
    assert why in predicted(w, "2", past)
    assert not w.kafka


def test_too_many_to_count_are_told_as_a_limit(w: World) -> None:
    assert "up to 999,998 events will be processed again" in predicted(
        w, "2", Past(0, 10**6, 10**6, 2)
    )


def test_it_is_released_set_back_seen_and_given_out_again_with_a_new_epoch(w: World) -> None:
    before = begin(w)
    released(w)
    at = w.committed[P]
    for _ in range(3):
        w.pass_s(1)
        kafka(w)
    assert w.partitions[P].state is State.ORPHAN, "nobody is given it meanwhile"
    found(w, (at, COUNTS))
    (write,) = [e for e in w.kafka if isinstance(e, fx.Write)]
    assert write.offsets == {P: (2, COUNTS)}, (
        "with the record, in one transaction; the counts go on"
    )
    assert write.partitions[P].offset == 2
    kafka(w)
    assert w.errands[0].what == AwaitCommitted(P, 2)
    w.pass_s(1)
    kafka(w)
    assert w.partitions[P].state is State.ORPHAN, "not before it shows"
    found(w)
    w.fair(3, revive=False)
    after = w.partitions[P]
    assert (after.state, after.epoch, after.worker) == (
        State.ASSIGNED,
        before.epoch + 1,
        before.worker,
    )
    assert after.offset == 2
    assert w.all_at_work()
    assert w.committed[P] > 2
    noted = [e.text for e in w.noted if e.kind == "action"]
    assert noted[-1] == f"lane 3 rewound from offset {at} to 2: {at - 2} events processed again"
    assert any(s.startswith("ana: rewind lane 3 to offset 2") and "done in" in s for s in w.said)
    assert not w.core.fleet.held


def test_other_lanes_are_placed_meanwhile(w: World) -> None:
    before = begin(w)
    released(w)
    other = next(
        s.worker
        for p, s in w.partitions.items()
        if p != P and WorkerKind.NODE.works(p) and s.worker != before.worker
    )
    w.crash(other)
    w.fair(8)
    assert w.partitions[P].state is State.ORPHAN
    assert all(s.state is State.ASSIGNED for p, s in w.partitions.items() if p != P)


def test_an_owner_that_dies_before_it_gave_it_back_leaves_it_as_it_was(w: World) -> None:
    before = begin(w)
    at = w.committed[P]
    w.crash(before.worker)
    w.fair(8)
    assert w.partitions[P].state is State.ASSIGNED
    assert w.partitions[P].offset >= at
    assert not w.errands
    assert not w.core.fleet.held
    assert any("lane 3 was NOT rewound" in s for s in w.said)


@pytest.mark.parametrize("wrong", [None, (1, ""), "none"])
def test_where_the_committed_offset_is_another_it_is_left_alone(w: World, wrong: object) -> None:
    begin(w)
    released(w)
    at = w.committed[P]
    found(w, wrong, "Kafka is away." if wrong == "none" else "")
    w.fair(3, revive=False)
    assert w.partitions[P].state is State.ASSIGNED
    assert w.committed[P] >= at
    assert any("lane 3 was NOT rewound" in s for s in w.said)


@pytest.mark.parametrize("when", ["asked", "released", "read"])
def test_a_leader_that_dies_before_it_is_written_leaves_it_as_it_was(w: World, when: str) -> None:
    begin(w)
    at = w.committed[P]
    if when != "asked":
        released(w)
    if when == "read":
        found(w, (at, COUNTS))
        assert w.kafka
    w.lead()
    w.fair(8)
    assert w.all_at_work()
    assert w.partitions[P].offset >= (0 if when == "asked" else at)
    assert w.committed[P] >= at


def test_a_leader_that_dies_after_it_is_written_leaves_it_rewound(w: World) -> None:
    before = begin(w)
    released(w)
    found(w, (w.committed[P], COUNTS))
    kafka(w)
    assert w.committed[P] == w.partitions[P].offset == 2
    w.lead()
    w.fair(3)
    assert w.all_at_work()
    assert w.partitions[P].epoch == before.epoch + 1
    assert w.partitions[P].offset == 2


def test_as_long_as_it_does_not_show_nobody_begins(w: World) -> None:
    begin(w)
    released(w)
    found(w, (w.committed[P], COUNTS))
    kafka(w)
    for _ in range(3):
        found(w, error="No answer within 30 s; try again.")
        w.pass_s(2)
        kafka(w)
        assert w.partitions[P].state is State.ORPHAN
        assert w.errands[0].what == AwaitCommitted(P, 2), "asked again"
    found(w)
    w.fair(3, revive=False)
    assert w.all_at_work()


def test_a_lane_is_not_rewound_twice_at_once(w: World) -> None:
    at = w.committed[P]
    one = predicted(w, "2", Past(0, at, at, 2, at - 2))
    begin(w)
    kafka(w)
    assert "has changed" in ask(w, f"confirm {one.partition('confirm ')[2].split()[0]}")
    assert "cannot be rewound now" in predicted(w, "1", Past(0, at, at, 1, 1))
