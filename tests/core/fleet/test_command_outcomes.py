"""What a worker answers is checked against Kafka before it is written: no number of its own
invention ends in `placement`."""

from __future__ import annotations

from agents.core import effects as fx
from agents.core import events as ev
from agents.core.fleet.placing_inputs import Target
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.messages import Grant, ReleaseCommand, WorkerAnswer
from agents.core.model.placement import State
from agents.core.model.topology import WorkerKind
from tests.core.world import World

P = WorkerKind.NODE.partition(3)


def asked_back(w: World) -> fx.Send:
    """Its owner is asked to release lane 3."""
    other = next(x for x in w.procs if x.startswith("node") and x != w.partitions[P].worker)
    for effect in w.core.placing.begin_moves({P: Target(other, "a test")}, w.now.ms):
        w._perform(effect)
    w.kafka_steps()
    w.pass_s(0.1)
    [i] = [i for i, s in enumerate(w.sends) if isinstance(s.command, ReleaseCommand)]
    return w.sends.pop(i)


def answer(w: World, send: fx.Send, offset: int) -> None:
    lanes = tuple(Grant(g.n, g.epoch, offset) for g in send.command.lanes)  # type: ignore[union-attr]
    w.tell(ev.Answered(send.worker, send.command, WorkerAnswer(lanes)))
    w.kafka_step()  # Kafka is asked
    w.kafka_step()  # what follows is written


def test_a_release_that_kafka_does_not_show_is_asked_again_then_its_worker_is_fenced() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(20)
    owner, at = w.partitions[P].worker, w.committed[P]
    send = asked_back(w)
    for _ in range(3):
        answer(w, send, 10**15)
        assert w.partitions[P].offset <= at, "it is written nowhere"
        w.pass_s(1)
        asked = [s for s in w.sends if isinstance(s.command, ReleaseCommand)]
        send = asked[0] if asked else send
        w.sends.clear()
    w.kafka_steps()
    assert w.leases[owner].fenced
    assert w.partitions[P].worker != owner
    assert w.partitions[P].offset == at
    [told] = [
        t for t in w.core.news.troubles.list_worst_first() if t.kind is TroubleKind.UNTRUE_ANSWER
    ]
    assert told.about == owner
    assert f"released lane 3 at 1,000,000,000,000,000, but Kafka shows {at}" in told.text
    w.procs.pop(owner)
    w.fair(80)
    assert w.all_at_work()
    assert not [
        t for t in w.core.news.troubles.list_worst_first() if t.kind is TroubleKind.UNTRUE_ANSWER
    ], "its next boot behaves"


def test_it_is_over_too_once_the_worker_has_left_the_fleet() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    owner = w.partitions[P].worker
    w.crash(owner)
    w.core.lookout.report_untrue_answer(w.core.fleet.views[owner].spec, "a test", w.now_s)
    w.read(w.without(owner))
    w.fair(30)
    assert not w.core.news.troubles.list_worst_first()
    assert any("has left the fleet" in s for s in w.said)


def test_a_release_below_what_is_committed_does_not_take_the_lane_back() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    at = w.committed[P]
    answer(w, asked_back(w), 0)
    assert (w.partitions[P].state, w.partitions[P].offset) == (State.ORPHAN, at)


def test_where_the_groups_offsets_are_gone_the_logs_end_is_the_limit() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    at = w.committed.pop(P)
    answer(w, asked_back(w), at)
    assert (w.partitions[P].state, w.partitions[P].offset) == (State.ORPHAN, at)


def test_a_partition_that_was_not_asked_for_is_asked_of_nobody() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(10)
    send = asked_back(w)
    lanes = tuple(Grant(n, 1, 5) for n in range(1000, 1010))
    w.tell(ev.Answered(send.worker, send.command, WorkerAnswer(lanes)))
    assert [e.answer.lanes for e in w.kafka if isinstance(e, fx.ReadRelease)] == [()]
