"""Who takes the lead over a fleet that is at work plans on, though there is no orphan to begin
with."""

from __future__ import annotations

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
