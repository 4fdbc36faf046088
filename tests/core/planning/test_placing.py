"""Who takes the lead over a fleet that is at work plans on, though there is no orphan to begin with."""

from __future__ import annotations

from agents.core.model import LANES, State
from tests.core.world import World


def test_a_new_leader_moves_lanes_to_a_node_that_comes() -> None:
    w = World(nodes=3, lanes=6)
    w.inv = w.without("node-2")
    w.lead()
    w.fair(8)
    w.lead()
    w.read(w.without())
    w.fair(90)
    mine = [p for p, s in w.partitions.items() if p.topic == LANES and s.worker == "node-2"]
    assert all(w.partitions[p].state is State.ASSIGNED for p in mine)
    assert len(mine) == 2, "those beside its site"
