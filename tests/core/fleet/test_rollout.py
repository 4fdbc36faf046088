"""Which version the nodes run."""

from __future__ import annotations

from agents.core import events as ev
from agents.core.fleet.rollout import format_versions
from agents.core.model.messages import Telemetry
from tests.core.world import World


def test_only_nodes_that_are_here_and_say_their_version_count() -> None:
    w = World(nodes=4, lanes=4)
    w.fair(8)
    assert format_versions(w.core.fleet) == "", "none has said it"
    for worker, version in {
        "node-0": "new",
        "node-1": "new",
        "node-2": "old",
        "router-1": "none of a router's",
    }.items():
        said = Telemetry(w.procs[worker].boot, 1000, "", 0.1, 40.0, pipeline=version)
        w.tell(ev.TelemetryIn(worker, said))
    assert format_versions(w.core.fleet) == "2 run new, 1 run old."
    w.crash("node-2")
    assert format_versions(w.core.fleet) == "All run new."
