"""`reset`: what it says before, and that a partition that stood still is worked again, whoever dies
in the middle."""

from __future__ import annotations

import itertools
from dataclasses import replace

import msgspec
import pytest

from agents.base.errors import OperatorError
from agents.core import events as ev
from agents.core.events import QuestionAsked
from agents.core.fleet.rewinds import AwaitCommitted, LookOver, ReadCommitted, Standing
from agents.core.fleet.topic_checks import Extent, StreamsLooked
from agents.core.model.placement import State
from agents.core.model.topology import WorkerKind, WorkerSpec
from agents.core.operators.reset import choose_setting
from tests.core.world import World

ANA = "ana@d"
HOTSPOTS = WorkerKind.ANALYTICS.partition(0)
P, Q = WorkerKind.NODE.partition(3), WorkerKind.NODE.partition(4)
_ids = itertools.count()


@pytest.fixture
def w() -> World:
    world = World(nodes=3, lanes=6)
    world.fair(10)
    world.tell(ev.AffiliationsRead({ANA: "owner", "ben@d": "admin"}))
    world.said.clear()
    return world


def ask(w: World, text: str, who: str = ANA) -> str:
    before, n = len(w.said), next(_ids)
    w.core.desk._asks.clear()
    w.tell(QuestionAsked(who, who.partition("@")[0], f"!{text}", True, f"s{n}", None, f"m{n}"))
    return "\n".join(w.said[before:])


def found(w: World, result: object = None) -> str:
    before = len(w.said)
    w.tell(ev.QueryFinished(w.errands.pop(0).ref, result, ""))
    return "\n".join(w.said[before:])


def confirm(w: World, dry: str, said: str = "On it") -> None:
    assert said in ask(w, f"confirm {dry.partition('confirm ')[2].split()[0]}")


def go_on(w: World, rounds: int = 6) -> None:
    """As far as it goes without an answer to an errand."""
    for _ in range(rounds):
        w.kafka_steps()
        while w.sends:
            w.deliver(0)
        w.pass_s(1)


@pytest.mark.parametrize(
    ("at", "known", "to", "target", "said"),
    [
        (Standing(10, 90, 5), 5, "", 10, "events 5 to 9 are lost"),
        (Standing(0, 40, 500), 500, "", 0, "40 events of the new log processed"),
        (Standing(7, 40, 500), 500, "end", 40, "events 7 to 39 are lost"),
        (Standing(0, 90, None), 60, "", 60, "up to 30 events repeated"),
        (
            Standing(70, 90, None),
            60,
            "",
            70,
            "events 60 to 69 are lost, up to 20 events repeated",
        ),
        (Standing(0, 90, 50), 10**15, "", 50, "nothing is lost or repeated"),
        (Standing(0, 90, 50), 50, "20", 20, "up to 30 events repeated"),
        (Standing(0, 90, 50), 50, "end", 90, "events 50 to 89 are lost"),
        (Standing(0, 90, 50, since=60), 50, "-10m", 60, "events 50 to 59 are lost"),
    ],
)
def test_where_it_is_set_and_what_that_loses_or_repeats(
    at: Standing, known: int, to: str, target: int, said: str
) -> None:
    one = choose_setting(P, at, known, to)
    assert (one.target, one.consequences) == (target, said)


@pytest.mark.parametrize(
    ("committed", "known", "target"), [(None, 60, 60), (50, 60, 60), (70, 60, 70)]
)
def test_the_count_of_a_task_never_falls(committed: int | None, known: int, target: int) -> None:
    one = choose_setting(HOTSPOTS, Standing(0, committed or 0, committed), known, "")
    assert (one.target, one.consequences) == (target, "nothing is lost or repeated")


def test_an_offset_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        OperatorError, match="Offset 91 is not in the log of lane 3: it has 10 to 90"
    ):
        choose_setting(P, Standing(10, 90, 5), 5, "91")


def test_it_is_for_an_owner_and_names_what_there_is(w: World) -> None:
    assert "needs an owner" in ask(w, "reset 3", "ben@d")
    assert "There is no raw partition '7'" in ask(w, "reset raw 7")
    ask(w, "reset 3 4")
    ask(w, "reset raw 0 to=begin")
    ask(w, "reset all")
    assert [e.what for e in w.errands] == [
        LookOver((P, Q)),
        LookOver((WorkerKind.ROUTER.partition(0),)),
        LookOver(tuple(w.core.fleet.partitions)),
    ]


def test_partitions_that_can_go_on_are_left_alone(w: World) -> None:
    ask(w, "reset all")
    every = {p: Standing(0, 10**6, w.committed.get(p)) for p in w.core.fleet.partitions}
    assert "Every partition can continue: nothing to reset" in found(w, every)


def test_some_lanes_are_reset_at_once_from_where_they_stand(w: World) -> None:
    """One at its owner's, one nobody's."""
    gone = w.partitions[Q].worker
    w.core.fleet.held.add(Q)  # it stays nobody's
    w.crash(gone)
    go_on(w)
    assert w.partitions[Q].state is State.ORPHAN
    w.core.fleet.held.discard(Q)
    at = w.committed[P]
    del w.committed[Q]
    w.core.fleet.held.add(Q)
    ask(w, "reset 3 4")
    dry = found(w, {P: Standing(at + 20, at + 50, at), Q: Standing(0, 100, None)})
    assert f"lane 3: {at:,} -> {at + 20:,}; events {at} to {at + 19} are lost" in dry
    assert "lane 4: none -> " in dry
    assert "In total, up to 20 events are lost" in dry
    confirm(w, dry)
    go_on(w)
    assert {e.what for e in w.errands} == {ReadCommitted(P), ReadCommitted(Q)}
    for errand in list(w.errands):
        assert isinstance(errand.what, ReadCommitted)
        found(w, (at, "{}") if errand.what.partition == P else None)
    go_on(w)
    assert {type(e.what) for e in w.errands} == {AwaitCommitted}
    assert w.committed[P] == at + 20
    for _ in range(2):
        found(w)
    w.fair(4)
    assert w.all_at_work()
    assert w.committed[P] > at + 20
    assert w.partitions[P].offset == at + 20
    noted = [e.text for e in w.noted if e.kind == "action" and e.text.startswith("lane 3 reset")]
    assert noted == [
        f"lane 3 reset from offset {at} to {at + 20}: events {at} to {at + 19} are lost"
    ]


def test_a_poisoned_record_is_mended(w: World) -> None:
    at = w.committed[P]
    w.partitions[P] = w.core.fleet.partitions[P] = replace(
        w.core.fleet.partitions[P], offset=10**15
    )
    ask(w, "reset 3")
    dry = found(w, {P: Standing(0, at + 50, at)})
    assert f"lane 3: {at:,} -> {at:,}; nothing is lost or repeated" in dry
    confirm(w, dry)
    go_on(w)
    found(w, (w.committed[P], "{}"))
    go_on(w)
    found(w)
    w.fair(4)
    assert w.partitions[P].offset < 10**15
    assert w.all_at_work()


def test_one_that_is_another_by_now_is_left_alone(w: World) -> None:
    at = w.committed[P]
    ask(w, "reset 3")
    confirm(w, found(w, {P: Standing(at + 20, at + 50, at)}))
    go_on(w)
    w.committed[P] = at + 7
    found(w, (at + 7, "{}"))
    w.fair(4)
    assert any("lane 3 was NOT reset" in s for s in w.said)
    assert w.committed[P] > at + 7
    assert not w.core.fleet.held


def test_offsets_that_cannot_be_read_reset_nothing(w: World) -> None:
    ask(w, "reset 3")
    assert "Their offsets cannot be read." in found(w, None)


@pytest.mark.parametrize("words", ["3", "raw 0"])
def test_of_two_that_were_asked_for_one_is_done(w: World, words: str) -> None:
    p = WorkerKind.ROUTER.partition(0) if words.startswith("raw") else P
    dries = []
    for to in ("begin", "end"):
        ask(w, f"reset {words} to={to}")
        dries.append(found(w, {p: Standing(0, 500, w.committed[p])}))
    confirm(w, dries[0], f"On it: reset {words} to=begin")
    confirm(w, dries[1], "A step is under way with one of them; ask again.")


def test_a_task_is_set_to_the_last_count_that_is_known() -> None:
    """`to` chooses among the offsets of a log, and a task has none."""
    w = World(nodes=2, lanes=4)
    worker = WorkerSpec("analytics-1", WorkerKind.ANALYTICS, "s0", 20_000.0)
    w.read(msgspec.structs.replace(w.inv, workers=dict(w.inv.workers) | {worker.worker: worker}))
    w.fair(20)
    w.tell(ev.AffiliationsRead({ANA: "owner"}))
    assert "hotspots has no log to choose an offset of: leave out to=." in ask(
        w, "reset 0 hotspots to=end"
    )
    ask(w, "reset raw 0 Hotspots")
    look = w.errands.pop().what
    assert look == LookOver((WorkerKind.ROUTER.partition(0), HOTSPOTS))
    known = w.committed.pop(HOTSPOTS)
    w.tell(StreamsLooked({}, {HOTSPOTS: Extent(0, 9, 9)}, {HOTSPOTS: known}))
    ask(w, "reset hotspots")
    dry = found(w, {HOTSPOTS: Standing(0, 0, None)})
    assert f"hotspots: none -> {known}; nothing is lost or repeated" in dry
    confirm(w, dry)
    go_on(w)
    found(w, None)
    go_on(w)
    assert w.committed[HOTSPOTS] == known
    found(w)
    w.fair(4)
    assert w.committed[HOTSPOTS] > known
    w.read(msgspec.structs.replace(w.inv, workers=w.without().workers))
    w.fair(30)
    assert "is not a valid lane" in ask(w, "reset hotspots"), "no worker has the task any more"


def test_what_waits_for_geo_is_reset_by_its_name() -> None:
    """As where the first geo worker comes after retention has taken some."""
    w = World(nodes=2, lanes=4, geo=1)
    w.fair(20)
    w.tell(ev.AffiliationsRead({ANA: "owner"}))
    unplaced = WorkerKind.GEO.partition(0)
    seen = StreamsLooked({}, {unplaced: Extent(700, 900, 900)}, {unplaced: None})
    w.tell(seen)
    w.tell(seen)
    [trouble] = w.core.news.troubles.list_worst_first()
    assert "unplaced 0 cannot be processed" in trouble.text
    assert "reset unplaced 0 fixes it" in trouble.text
    ask(w, "reset raw 0 unplaced 0")
    look = w.errands.pop().what
    assert look == LookOver((WorkerKind.ROUTER.partition(0), unplaced))
    assert "There is no unplaced partition '4'" in ask(w, "reset unplaced 4")
