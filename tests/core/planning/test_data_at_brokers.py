"""With one central broker, the planner fills the nodes at its site, then those at the next nearest;
and such plans are recorded and made again byte for byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from agents.core.fleet.data_paths import DataPaths
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.paths import MeasuredPaths
from agents.core.model.inventory import Inventory, InventoryFile
from agents.core.model.plan import DataBroker, Lane, Moment, Node, NodePlace, PlanningFrame
from agents.core.model.topology import WorkerKind
from agents.core.planning import recording
from agents.core.planning.limits import compute_limits
from agents.core.planning.planner import make_plan
from agents.core.planning.replay import DecisionReplay
from agents.geodata import read_rtt
from agents.local.stack import INVENTORY
from agents.settings import decode_toml
from agents.settings.calm import Calm
from kernels.scoring.choose import choose_numerics
from kernels.tables import Weights
from tests.core.planning.support import NUMPY, world

RTT = read_rtt()
EMBEDDED = Inventory.from_file(decode_toml(INVENTORY, InventoryFile), "inventory.toml")
NODES = EMBEDDED.workers_of(WorkerKind.NODE)
LANES = 32


def frame_of(inventory: Inventory) -> PlanningFrame:
    """The events of each lane arise at one of the sites, in turn."""
    sites = list(inventory.sites.values())
    arise = [sites[n % len(sites)] for n in range(LANES)]
    places = [inventory.sites[n.site] for n in NODES]
    return PlanningFrame(
        tuple(s.lat for s in arise),
        tuple(s.lon for s in arise),
        (-1,) * LANES,
        tuple(
            NodePlace(n.worker, s.lat, s.lon, RTT.regions.index(s.region))
            for n, s in zip(NODES, places, strict=True)
        ),
        (),
        RTT,
        Calm(),
        Weights(2.0, 1.0),
    )


def brokers_at(*sites: str) -> tuple[DataBroker, ...]:
    """A broker at each of these sites, of which nobody has measured anything yet."""
    fleet = Fleet(EMBEDDED, leader_epoch=1)
    data = DataPaths(fleet, RTT, MeasuredPaths(fleet), at_kafka=True)
    data.note_leaders(
        {WorkerKind.NODE.partition(n): n % len(sites) for n in range(LANES)},
        dict(enumerate(sites)),
    )
    return data.make_brokers(range(LANES))


def rtt_to(site: str) -> list[float]:
    """Of each node to Kafka, as the RTT table has it; 0 at the same site."""
    regions = [
        RTT.regions.index(EMBEDDED.sites[s].region) for s in (site, *[n.site for n in NODES])
    ]
    return [0.0 if r == regions[0] else float(RTT.rtt_ms[regions[0], r]) for r in regions[1:]]


def loads(site: str, total_eps: float) -> list[float]:
    """Events/s that each node is given, once all lanes are placed."""
    rate = total_eps * np.arange(1, LANES + 1) / sum(range(1, LANES + 1))
    lanes = tuple(Lane(n, float(eps), float(eps), broker=0) for n, eps in enumerate(rate))
    nodes = tuple(Node(n.worker, n.capacity_eps) for n in NODES)
    moment = Moment(0.0, lanes, nodes, brokers=brokers_at(site))
    plan = make_plan(frame_of(EMBEDDED), moment, choose_numerics("cpu"))
    given = [0.0] * len(NODES)
    for a in plan.assignments:
        given[a.to] += float(rate[a.lane])
    assert sum(given) == pytest.approx(total_eps), "all lanes are placed"
    return given


@pytest.mark.parametrize("site", [n.site for n in NODES])
def test_all_lanes_are_at_the_broker_where_they_fit(site: str) -> None:
    given = loads(site, 1000.0)
    mean_ms = sum(ms * eps for ms, eps in zip(rtt_to(site), given, strict=True)) / 1000.0
    assert mean_ms == 0.0


@pytest.mark.parametrize("site", ["iad", "mwh", "sat"])
def test_what_does_not_fit_goes_to_the_next_nearest(site: str) -> None:
    """Up to the room that the calm rules leave, though most of the fleet is idle; those of the next
    that are about as near share the rest."""
    rtt_ms, given = rtt_to(site), loads(site, 3500.0)
    room = Calm().target_utilisation * NODES[0].capacity_eps
    order = sorted(range(len(NODES)), key=lambda n: rtt_ms[n])
    assert given[order[0]] > 0.9 * room
    assert sum(given[n] for n in order[3:]) == 0.0


def test_nodes_that_are_as_near_share_the_load() -> None:
    """Three brokers and two nodes at one site; they measure a little jitter."""
    frame = world(nodes=4)
    lanes = tuple(Lane(n, 50.0, broker=n % 3) for n in range(24))
    nodes = tuple(Node(n.id, 1000.0) for n in frame.nodes)
    brokers = tuple(DataBroker(b, "", "measured", (0.4, 1.9 - b / 2, 40.0, 80.0)) for b in range(3))
    limits = compute_limits(lanes, nodes, np.full(24, 50.0), Calm(), 0.0, brokers)
    assert limits.settled.tolist() == pytest.approx([660.0, 660.0, 500.0, 500.0])
    plan = make_plan(frame, Moment(0.0, lanes, nodes, brokers=brokers), NUMPY)
    use = Counter(a.to for a in plan.assignments)
    assert use[0] + use[1] == 24
    assert min(use[0], use[1]) >= 11


@pytest.mark.parametrize("total_eps", [500.0, 1690.0, 1710.0, 3390.0, 3410.0, 9000.0])
def test_a_little_more_load_changes_limits_a_little(total_eps: float) -> None:
    """A node does not lose what it has because one more event arrives."""
    nodes = tuple(Node(f"n{i}", 2000.0) for i in range(4))
    brokers = (DataBroker(1, "", "measured", (0.4, 20.0, 40.0, 80.0)),)

    def settled(eps: float) -> list[float]:
        lanes = tuple(Lane(n, eps / 8, broker=0) for n in range(8))
        load = np.full(8, eps / 8)
        limits = compute_limits(lanes, nodes, load, Calm(), 0.0, brokers)
        return [float(x) for x in limits.settled]

    for less, more in zip(settled(total_eps), settled(total_eps + 1.0), strict=True):
        assert less <= more <= less + 2.0


def test_each_lane_is_at_its_own_leader() -> None:
    brokers = brokers_at("iad", "mwh")
    lanes = tuple(Lane(n, 30.0, broker=n % 2) for n in range(LANES))
    nodes = tuple(Node(n.worker, n.capacity_eps) for n in NODES)
    plan = make_plan(frame_of(EMBEDDED), Moment(0.0, lanes, nodes, brokers=brokers), NUMPY)
    assert {(a.lane % 2, NODES[a.to].site) for a in plan.assignments} == {(0, "iad"), (1, "mwh")}


# ---- recorded and made again ----


def moments(frame: PlanningFrame) -> Iterator[Moment]:
    """Half of the lanes are at a broker that moves away from the first node, half where their
    events arise."""
    count = len(frame.nodes)
    for t in range(60):
        path_ms = tuple(round(abs(n - t / 12) * 17.3, 3) for n in range(count))
        yield Moment(
            t * 5.0,
            tuple(Lane(n, 30.0 + n, broker=0 if n % 2 else None) for n in range(len(frame.lat))),
            tuple(Node(n.id, 600.0) for n in frame.nodes),
            brokers=(DataBroker(2, "", "measured", path_ms),),
        )


def test_plans_with_brokers_are_made_again_byte_for_byte_from_their_record() -> None:
    frame = replace(world(), weights=Weights(2.0, 1.0, 5.5))
    follower = DecisionReplay(frame, NUMPY, frame.calm.in_flight)
    for moment in moments(frame):
        seen, plan = follower.replay_moment(moment)
        assert seen.brokers == moment.brokers
        back = recording.moment_from_json(recording.moment_to_json(seen))
        assert back == seen
        again = recording.make_plan_json(
            recording.frame_from_json(recording.frame_to_json(frame)), back, NUMPY
        )
        assert again == recording.plan_to_json(plan)
    assert follower.tally.moves > 20


def test_other_round_trips_can_be_asked_for() -> None:
    """At none, the broker's distance counts for nothing."""
    frame = world()
    none = recording.frame_with_settings(frame, {"round_trips": "0"})
    assert none.weights.round_trips == 0.0
    moment = next(moments(frame))
    lanes = tuple(replace(x, broker=0, owner=4) for x in moment.lanes[:8])
    near = replace(moment, lanes=lanes, eager=True)
    assert {m.to for m in make_plan(frame, near, NUMPY).moves} == {0}
    assert not make_plan(none, near, NUMPY).moves


def test_paths_that_are_not_one_for_each_node_are_refused() -> None:
    frame = world()
    moment = replace(next(moments(frame)), brokers=(DataBroker(2, "", "measured", (1.0,)),))
    with pytest.raises(ValueError, match="broker 2: path_ms has 1 rows, there are 5 nodes"):
        make_plan(frame, moment, NUMPY)
