"""Another inventory while the coordinator runs: who is new gets lanes, who is not in it any more
gives them away and is fenced."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from agents.base.errors import ImpossibleTransition
from agents.core import events as ev
from agents.core.events import WorkerSeen
from agents.core.model.feeds import ALERTS, AlertItem
from agents.core.model.messages import Announcement, Health, ReleaseCommand
from agents.core.model.placement import Intent, State, drain_intent
from agents.core.model.plan import AllowedNodes, RuleWarning
from agents.core.model.topology import WorkerKind, WorkerSpec, short_name
from agents.settings import Worker
from tests.core.operators.test_held_back import ask
from tests.core.world import World


def at_work(nodes: int = 3, lanes: int = 6, without: tuple[str, ...] = ()) -> World:
    w = World(nodes=nodes, lanes=lanes)
    if without:
        w.inv = w.without(*without)
        w.lead()
    w.fair(8)
    assert w.all_at_work()
    return w


def lanes_of(w: World, worker: str) -> int:
    return sum(s.worker == worker and s.state is not State.ORPHAN for s in w.partitions.values())


def fenced(w: World, worker: str) -> bool:
    return w.leases[worker].fenced


def alerts(w: World) -> list[tuple[str, str]]:
    items = [e.item for e in w.published if e.item.feed == ALERTS]
    return [(i.element.kind, i.element.severity) for i in items if isinstance(i.element, AlertItem)]


def test_a_node_that_is_new_gets_lanes() -> None:
    w = at_work(without=("node-2",))
    w.read(w.without())
    w.fair(90)
    assert lanes_of(w, "node-2") == 2, "those beside its site"
    assert "Inventory read: 2 is new." in w.said


def test_a_node_that_was_there_before_the_inventory_named_it_is_seen_at_once() -> None:
    w = at_work(without=("node-2",))
    w.start("node-2")
    assert "node-2" not in w.core.fleet.views
    w.read(w.without())
    assert w.core.fleet.views["node-2"].present
    w.fair(90, revive=False)
    assert lanes_of(w, "node-2") == 2


def test_a_node_that_left_before_the_inventory_named_it_is_not_taken_for_present() -> None:
    w = at_work(without=("node-2",))
    w.start("node-2")
    w.crash("node-2")
    w.read(w.without())
    assert not w.core.fleet.views["node-2"].present


def test_who_is_not_in_it_any_more_hands_over_and_then_is_fenced_and_told() -> None:
    w = at_work()
    lease = w.leases["node-1"]
    boot, held = w.procs["node-1"].boot, lanes_of(w, "node-1")
    assert held
    w.read(w.without("node-1"))
    assert lanes_of(w, "node-1") == held, "it works on until somebody has its lanes"
    assert not fenced(w, "node-1")
    w.fair(30, revive=False)
    assert fenced(w, "node-1")
    assert w.leases["node-1"].producer_epoch == lease.producer_epoch + 1
    assert "node-1" not in w.procs, "its process was told to end"
    assert "node-1" not in w.core.fleet.views
    assert w.all_at_work()
    assert not any(s.boot == boot for s in w.partitions.values())
    assert ("worker_left", "info") in alerts(w)
    assert any("1 is no longer in it: its lanes move elsewhere" in said for said in w.said)


def test_a_new_boot_of_who_leaves_gets_no_lease_and_the_old_one_is_fenced() -> None:
    w = at_work()
    w.read(w.without("node-1"))
    del w.procs["node-1"]  # kill -9, and a new process at once
    w.start("node-1")
    new = w.procs["node-1"].boot
    w.fair(30, revive=False)
    assert fenced(w, "node-1")
    assert w.leases["node-1"].boot != new
    assert w.procs["node-1"].tenure.lease is None
    assert "node-1" not in w.core.fleet.views
    assert w.all_at_work()


def test_who_crashes_while_it_leaves_is_fenced_and_forgotten() -> None:
    w = at_work()
    w.read(w.without("node-1"))
    w.crash("node-1")
    w.fair(30, revive=False)
    assert "node-1" not in w.core.fleet.views
    assert w.all_at_work()


def test_who_is_named_again_before_it_has_left_stays() -> None:
    w = at_work()
    boot = w.procs["node-1"].boot
    w.read(w.without("node-1"))
    w.read(w.without())
    w.fair(20, revive=False)
    assert w.procs["node-1"].boot == boot
    assert not fenced(w, "node-1")
    assert w.core.fleet.statuses["node-1"].takes


def test_an_answer_of_who_has_left_is_passed_over() -> None:
    w = at_work()
    w.read(w.without("node-1"))
    w.fair(30, revive=False)
    version = w.core.fleet.version
    w.tell(ev.Ponged("node-1", True))
    w.tell(ev.CommandUnanswered("node-1", ReleaseCommand(1, "b2", WorkerKind.NODE.topic, ())))
    assert w.core.fleet.version == version


def test_a_drain_that_was_ordered_leaves_with_the_node() -> None:
    w = at_work()
    intent = drain_intent("node-1")
    w.intents[intent] = Intent("ana@d", 1)
    w.tell(ev.PlacementWritten({}, {}, {intent: w.intents[intent]}))
    w.read(w.without("node-1"))
    w.fair(30, revive=False)
    assert intent not in w.intents
    assert intent not in w.core.fleet.intents


def test_a_leader_that_takes_over_while_somebody_leaves_fences_them() -> None:
    w = at_work()
    w.read(w.without("node-1"))
    w.lead()
    w.fair(30, revive=False)
    assert fenced(w, "node-1")
    assert w.all_at_work()


def test_capacity_and_site_are_taken_up_and_what_a_worker_says_still_lowers_it() -> None:
    w = at_work()
    inv = w.without(capacity_eps=5000.0)
    w.read(inv)
    assert w.core.fleet.statuses["node-0"].capacity_eps == 2000.0, "it says 2000 of itself"
    w.read(w.without(capacity_eps=500.0))
    assert w.core.fleet.statuses["node-0"].capacity_eps == 500.0
    other = WorkerSpec("node-0", WorkerKind.NODE, "s1", 700.0)
    w.read(msgspec.structs.replace(inv, workers=dict(inv.workers) | {"node-0": other}))
    frame = w.core.placing.frame
    assert frame.nodes[0].lat == frame.nodes[1].lat
    w.fair(2)
    assert any("0 is at s1 with 700 events/s" in said for said in w.said)


@pytest.mark.parametrize("worker", ["node-0", "router-1"])
def test_the_inventory_decides_the_capacity_and_a_workers_own_ceiling_is_shown(worker: str) -> None:
    w = at_work()
    workers = {name: replace(spec, capacity_eps=8000.0) for name, spec in w.inv.workers.items()}
    w.read(msgspec.structs.replace(w.inv, workers=workers))
    boot, label = w.procs[worker].boot, short_name(worker)

    def announce(settings: Worker) -> None:
        said = Announcement(
            worker, Health.AVAILABLE, boot, "working", capacity_eps=settings.capacity_eps
        )
        w.tell(WorkerSeen(said))

    announce(Worker())
    assert w.core.fleet.statuses[worker].capacity_eps == 8000.0
    assert "capacity 8,000 events/s." in ask(w, f"!node {label}")
    announce(Worker(capacity_eps=2000.0))
    assert w.core.fleet.statuses[worker].capacity_eps == 2000.0
    assert "capacity 8,000 events/s, limited to 2,000 by its own worker.capacity_eps" in ask(
        w, f"!node {label}"
    )


def test_a_site_that_goes_with_its_node_is_known_until_the_node_has_left() -> None:
    w = at_work()
    inv = w.without("node-1")
    w.read(msgspec.structs.replace(inv, sites={n: s for n, s in inv.sites.items() if n != "s1"}))
    w.fair(30, revive=False)
    assert "node-1" not in w.core.fleet.views
    assert w.all_at_work()


def test_the_planner_gets_a_frame_of_its_own_for_each_inventory() -> None:
    w = at_work()
    assert [bool(d.frame) for d in w.decided] == [True] + [False] * (len(w.decided) - 1), (
        "the first plan had it"
    )
    w.read(w.without("node-1"))
    w.now_s += 1.5
    w.tell(ev.Tick())
    decided = w.decided[-1]
    assert decided.frame is not None
    assert [n.id for n in decided.frame.nodes] == [n.id for n in decided.moment.nodes]


def test_rules_are_bound_to_the_nodes_that_are_there_now() -> None:
    w = at_work(without=("node-2",))
    places = w.core.placing.inputs.places
    bound = replace(
        places,
        rule=(0, *(-1,) * 5),
        rules=(AllowedNodes("r", ()),),
        rule_sites=(frozenset({"s2"}),),
    )
    warning = RuleWarning("unmet", "r", (0,), "No node meets rule r")
    w.tell(ev.InventoryRead(w.inv, bound, (warning,)))
    assert w.core.placing.frame.rules == (AllowedNodes("r", (False, False)),)
    w.tell(ev.InventoryRead(w.inv, bound, (warning,)))
    assert alerts(w).count(("rule_unmet", "warning")) == 1, "told once"
    w.inv = w.without()
    w.tell(ev.InventoryRead(w.inv, bound))
    assert w.core.placing.frame.rules == (AllowedNodes("r", (False, False, True)),)
    w.fair(60)
    assert next(s.worker for p, s in w.partitions.items() if p.label == "lane 0") == "node-2"


def test_an_inventory_that_is_refused_is_told_once_and_changes_nothing() -> None:
    w = at_work()
    version = w.core.fleet.version
    w.tell(ev.InventoryRefused("inventory.toml", "inventory.toml: node x: there is no site 'y'"))
    w.fair(2)
    assert w.core.fleet.version == version
    assert alerts(w).count(("inventory_refused", "warning")) == 1
    assert any("there is no site 'y'" in said for said in w.said)
    w.read(w.without())
    assert ("inventory_refused", "calm") in alerts(w)


def test_a_fleet_that_does_not_see_whom_the_inventory_names_contradicts_itself() -> None:
    w = at_work()
    del w.core.fleet.views["node-1"]
    with pytest.raises(ImpossibleTransition, match="node-1"):
        w.core.fleet.validate()


def test_health_of_who_leaves_is_draining() -> None:
    w = at_work()
    w.read(w.without("node-1"))
    assert w.core.fleet.statuses["node-1"].to_empty
    assert not w.core.fleet.statuses["node-1"].takes
    assert w.core.fleet.views["node-1"].health is Health.AVAILABLE


def test_a_fenced_boot_that_no_leader_could_tell_is_told_by_the_next_one() -> None:
    """It lives, and idles for ever otherwise: without a partition it commits nothing that Kafka
    could refuse."""
    w = at_work(nodes=2, lanes=1)
    idle = next(name for name in ("node-0", "node-1") if not w.core.fleet.owned_by(name))
    fenced = w.procs[idle].boot
    w.procs[idle].frozen = True
    w.pass_s(20.0)
    w.tell(ev.Ponged(idle, False))
    w.kafka_steps()
    assert w.leases[idle].fenced
    w.lead()
    w.procs[idle].frozen = False
    w.fair(30)
    assert w.procs[idle].boot != fenced
    assert w.core.fleet.statuses[idle].takes
