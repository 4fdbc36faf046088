"""Who takes the lead over a fleet that is at work plans on, though there is no orphan to begin
with."""

from __future__ import annotations

import math
from unittest.mock import ANY

from agents.core.events import Wake
from agents.core.fleet.placing_inputs import Target
from agents.core.model.placement import State
from agents.core.model.topology import WorkerKind
from tests.core.world import World


def test_a_new_leader_moves_lanes_to_a_node_that_comes() -> None:
    w = World(nodes=3, lanes=6)
    w.inv = w.without("node-2")
    w.lead()
    w.fair(8)
    w.lead()
    w.read(w.without())
    w.fair(90)
    mine = [p for p, s in w.partitions.items() if WorkerKind.NODE.works(p) and s.worker == "node-2"]
    assert all(w.partitions[p].state is State.ASSIGNED for p in mine)
    assert len(mine) == 2, "those beside its site"


def test_a_reason_and_an_asker_hold_for_their_own_lane_alone() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    gone = "node-0"
    first, *others = [
        p for p, s in w.partitions.items() if WorkerKind.NODE.works(p) and s.worker == gone
    ]
    assert others, "two lanes at least become orphans at once"
    w.crash(gone)
    w.now_s += 1
    w.tell(Wake())
    w.kafka_step()  # fenced; what it had is about to be written as nobody's
    w.core.placing.inputs.targets[first] = Target("node-1", "asked by ana", "ana@d")
    w.noted.clear()
    w.kafka_steps()
    assert w.partitions[first].why == "asked by ana"
    for p in others:
        assert "ana" not in w.partitions[p].why
    by = {n.who: str(n.data["lanes"]) for n in w.noted if n.kind == "decision"}
    assert by["ana@d"] == f"[{first.n}]"
    assert by[""] == str([p.n for p in others])


def test_a_move_ends_with_its_source_and_its_reason_ends_with_it() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    p = next(
        p for p, s in w.partitions.items() if WorkerKind.NODE.works(p) and s.worker == "node-0"
    )
    for effect in w.core.placing.begin_moves({p: Target("node-1", "asked by ana", "ana@d")}, 0):
        w._perform(effect)
    w.kafka_steps()
    assert w.partitions[p].state is State.RELEASING
    w.crash("node-0")
    w.now_s += 1
    w.tell(Wake())
    w.kafka_steps()
    assert w.partitions[p].state is State.ASSIGNED
    assert "ana" not in w.partitions[p].why


def test_a_node_that_comes_to_a_fleet_at_work_is_loaded_gradually() -> None:
    w = World(nodes=3, lanes=6)
    w.inv = w.without("node-2")

    def came_s() -> dict[str, float]:
        return {n.id: n.came_s for n in w.decided[-1].moment.nodes}

    w.lead()
    w.fair(8)
    assert set(came_s().values()) == {-math.inf}, "they began the fleet: nothing is at work yet"
    joined_s = w.now_s
    w.read(w.without())
    w.fair(8)
    assert came_s() == {"node-0": -math.inf, "node-1": -math.inf, "node-2": ANY}
    assert joined_s <= came_s()["node-2"] < joined_s + 8
    back_s = w.now_s
    w.crash("node-0")
    w.fair(8)
    assert back_s <= came_s()["node-0"], "also a node that was away"


def test_a_plan_that_fails_is_tried_again_after_longer_and_longer() -> None:
    w = World(nodes=3, lanes=6)
    w.fair(8)
    placing, pauses_s = w.core.placing, []
    for n in range(1, 8):
        failed_s = 1000.0 * n
        placing.note_failure("a flaw", failed_s)
        pause_s = 1.0
        while not list(placing.improve_placement(failed_s + pause_s, 0)):
            pause_s += 1.0
        pauses_s.append(pause_s)
    assert pauses_s == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
