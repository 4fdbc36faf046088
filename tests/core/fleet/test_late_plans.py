"""A plan takes time, and the fleet goes on meanwhile: what a plan says of who is another by then is
left out, the next plan makes up for it, and nobody waits for a plan who is orphaned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.core import events as ev
from agents.core.events import Led, LinkDown
from agents.core.model.placement import Intent, Placed, State, drain_intent
from agents.core.model.topology import Partition, WorkerKind
from agents.core.planning.planner import make_scored_plan
from tests.core.world import NUMERICS, World


@pytest.fixture
def w() -> World:
    """A fleet at work; node-0 is drained, and the plan that empties it is being made."""
    w = World(nodes=3, lanes=6)
    w.fair(8)
    w.plans_at_once = False
    w.core.fleet.apply_records({}, {}, {drain_intent("node-0"): Intent("ana", 0)})
    w.pass_s(1.5)
    assert w.plan is not None
    return w


def lanes(w: World) -> dict[Partition, Placed]:
    return {p: s for p, s in w.core.fleet.partitions.items() if WorkerKind.NODE.works(p)}


def releasing(w: World) -> set[str]:
    """Who is asked to give lanes back, once everything is written."""
    w.kafka_steps()
    return {s.worker for s in lanes(w).values() if s.state is State.RELEASING}


def test_it_begins_when_it_is_made_and_until_then_no_other_is_wanted(w: World) -> None:
    first = w.plan
    w.pass_s(1.5)
    assert w.plan is first
    assert not releasing(w)
    w.make_plan()
    assert releasing(w) == {"node-0"}
    w.pass_s(1.5)
    assert w.plan is not first


def test_orphans_do_not_wait_for_it_and_it_is_left_for_one_that_knows_of_them(w: World) -> None:
    late = w.plan
    lost = {p for p, s in lanes(w).items() if s.worker == "node-1"}
    w.crash("node-1")
    w.now_s += 0.25
    w.tell(ev.Wake())
    for _ in range(20):
        w.kafka_step()
        if w.sends:
            w.deliver(0)
    assert w.plan is late, "it is still being made"
    assert lost
    assert {lanes(w)[p].worker for p in lost} == {"node-2"}
    w.make_plan()
    assert w.decided[-1].kind == "orphans", "what did not know of them is not even kept"
    assert not releasing(w)
    w.pass_s(1.5)
    w.make_plan()
    assert releasing(w) == {"node-0"}


def test_lanes_that_arrive_where_it_reckoned_them_do_not_make_it_void(w: World) -> None:
    w.make_plan()
    assert releasing(w) == {"node-0"}
    w.pass_s(1.5)
    assert w.plan is not None
    while w.sends:
        w.deliver(0)
        assert not w.core.fleet.placeable_orphans(WorkerKind.NODE), "placed at once"
        w.kafka_steps()
    w.make_plan()
    assert [d.kind for d in w.decided[-2:]] == ["orphans", "tick"]


def test_an_orphan_is_not_given_to_a_node_that_takes_no_more(w: World) -> None:
    fleet, placing = w.core.fleet, w.core.placing
    w.make_plan()
    p = next(p for p, s in lanes(w).items() if s.worker == "node-1")
    w.kafka_steps()
    orphan = replace(fleet.partitions[p], state=State.ORPHAN, worker="", boot="")
    fleet.partitions[p] = orphan
    placing._placed_version = fleet.version  # as if it had fitted nowhere until now
    w.pass_s(1.5)
    wanted = w.plan
    assert wanted is not None
    scored = make_scored_plan(wanted.frame, wanted.moment, NUMERICS)
    given = {a.lane: scored.workers[a.to] for a in scored.plan.assignments}[p.n]
    fleet.apply_records({}, {}, {drain_intent(given): Intent("ana", 0)})
    placing._placed_version = fleet.version
    w.make_plan()
    w.kafka_steps()
    assert fleet.partitions[p] == orphan


def test_who_works_by_now_does_not_wait(w: World) -> None:
    wanted = w.plan
    assert wanted is not None
    scored = make_scored_plan(wanted.frame, wanted.moment, NUMERICS)
    w.tell(ev.Planned(replace(scored, plan=replace(scored.plan, waiting=(0,)))))
    assert not w.core.placing.waiting


def test_nobody_is_sent_to_a_node_that_takes_no_more(w: World) -> None:
    for node in ("node-1", "node-2"):
        w.core.fleet.apply_records({}, {}, {drain_intent(node): Intent("ana", 0)})
    w.make_plan()
    assert not releasing(w)


def test_a_lane_that_is_elsewhere_by_now_stays_there(w: World) -> None:
    wanted = w.plan
    assert wanted is not None
    plan = make_scored_plan(wanted.frame, wanted.moment, NUMERICS).plan
    moved = [WorkerKind.NODE.partition(m.lane) for m in plan.moves]
    other = lanes(w)[next(p for p, s in lanes(w).items() if s.worker == "node-1")]
    for p in moved:
        w.core.fleet.partitions[p] = other
        w.core.fleet.views["node-1"].owned[p] = other.epoch
    w.make_plan()
    assert not releasing(w)


def test_it_is_left_when_the_inventory_is_another_and_when_nobody_may_be_commanded(
    w: World,
) -> None:
    w.read(w.without(capacity_eps=1500.0))
    w.make_plan()
    assert not releasing(w)
    w.pass_s(1.5)
    assert w.plan is not None, "in the new frame"
    w.tell(ev.KafkaDown())
    w.make_plan()
    assert not releasing(w)
    w.tell(ev.KafkaUp())
    w.pass_s(30)
    assert w.plan is not None
    w.tell(LinkDown())
    w.make_plan()
    assert not releasing(w)
    w.tell(Led())
    for worker in w.procs:
        w.announce(worker)
    w.fair(30)
    assert not w.core.fleet.owned_by("node-0")
    assert all(s.state is State.ASSIGNED for p, s in lanes(w).items() if WorkerKind.NODE.works(p))
