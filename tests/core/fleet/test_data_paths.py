"""Lanes go where their data is: to the nodes near the brokers that lead them, by the round trips
that workers report, and they stay there while these only jitter."""

from __future__ import annotations

import random
import statistics
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from agents.core.fleet.placing_inputs import FleetChange
from agents.core.fleet.topic_checks import StreamsLooked
from agents.core.fleet.trouble_watch import RACKS_S
from agents.core.fleet.troubles import TroubleKind
from agents.core.model.messages import PathReport
from agents.core.model.plan import PathBasis
from agents.core.model.topology import WorkerKind
from agents.core.operators.explain import explain_lane
from agents.core.operators.look import describe_fleet
from tests.core.world import RTT, World

LANES = 12
EVERY_S = 2.0


def nodes_of(w: World) -> Counter[str]:
    """How many lanes each node has."""
    parts = w.core.fleet.partitions
    return Counter(parts[p].worker for p in w.core.fleet.partitions_of(WorkerKind.NODE))


def tell_leaders(w: World, leaders: dict[int, int], racks: dict[int, str]) -> None:
    known = {WorkerKind.NODE.partition(n): b for n, b in leaders.items()}
    w.tell(StreamsLooked({}, {}, {}, leaders=known, racks=racks))


@dataclass
class Probes:
    """Each worker's window of probes to each broker, as workers keep it."""

    world: World
    rtt_ms: dict[tuple[str, int], float]
    jitter: Callable[[], float] = lambda: 1.0
    windows: dict[tuple[str, int], deque[float]] = field(default_factory=dict)

    def run(self, seconds: float) -> None:
        """Probe every two seconds, and report; everything else goes on meanwhile."""
        for _ in range(int(seconds / EVERY_S)):
            for (worker, broker), ms in self.rtt_ms.items():
                window = self.windows.setdefault((worker, broker), deque(maxlen=15))
                window.append(ms * self.jitter())
            self.world.probes = {
                worker: tuple(
                    PathReport(b, statistics.median(x), min(x), len(x), 0.5)
                    for (w, b), x in self.windows.items()
                    if w == worker
                )
                for worker, _ in self.windows
            }
            self.world.fair(rounds=int(EVERY_S))


def world(rtt_ms: dict[str, float], *, broker: int = 2, **more: object) -> tuple[World, Probes]:
    """A fleet whose lanes are all led by one broker without a known site, so many ms away from each
    node; it has run for a minute and a half."""
    w = World(nodes=len(rtt_ms), lanes=LANES, data_at_kafka=True, **more)  # type: ignore[arg-type]
    probes = Probes(w, {(worker, broker): ms for worker, ms in rtt_ms.items()})
    tell_leaders(w, dict.fromkeys(range(LANES), broker), {broker: ""})
    probes.run(90)
    return w, probes


def test_lanes_gather_at_the_node_that_is_nearest_to_their_broker() -> None:
    w, _ = world({"node-0": 80.0, "node-1": 150.0, "node-2": 12.6, "node-3": 60.0})
    assert nodes_of(w) == {"node-2": LANES}


def test_lanes_that_were_anywhere_are_at_the_broker_within_a_minute() -> None:
    """As many as its node has room for: all of them, nearly."""
    w = World(nodes=3, lanes=32, data_at_kafka=True)
    w.fair(10)
    assert sorted(nodes_of(w).values()) == [10, 11, 11]
    probes = Probes(w, {("node-0", 2): 70.0, ("node-1", 2): 73.0, ("node-2", 2): 0.5})
    tell_leaders(w, dict.fromkeys(range(32), 2), {2: ""})
    probes.run(60)
    assert nodes_of(w)["node-2"] >= 29


def test_a_site_that_becomes_distant_loses_its_lanes_within_a_minute() -> None:
    w, probes = world({"node-0": 150.0, "node-1": 20.0, "node-2": 40.0})
    assert nodes_of(w) == {"node-1": LANES}
    probes.rtt_ms["node-1", 2] = 150.0
    probes.run(60)
    assert nodes_of(w) == {"node-2": LANES}


def test_jitter_of_a_fifth_moves_no_lane_in_half_an_hour() -> None:
    rng = random.Random(0)
    w, probes = world({"node-0": 80.0, "node-1": 80.0, "node-2": 85.0, "node-3": 90.0})
    before = {p: s.epoch for p, s in w.core.fleet.partitions.items()}
    probes.jitter = lambda: rng.uniform(0.8, 1.2)
    probes.run(1800)
    assert {p: s.epoch for p, s in w.core.fleet.partitions.items()} == before


def test_a_lane_follows_its_leader_to_another_broker() -> None:
    w, probes = world({"node-0": 2.0, "node-1": 30.0})
    probes.rtt_ms |= {("node-0", 5): 40.0, ("node-1", 5): 1.0}
    probes.run(20)
    tell_leaders(w, {0: 5, 1: 5, 2: 5}, {5: ""})
    probes.run(60)
    assert nodes_of(w) == {"node-0": LANES - 3, "node-1": 3}
    # a partition that has no leader for a while stays where it is
    tell_leaders(w, {}, {2: ""})
    probes.run(60)
    assert nodes_of(w) == {"node-0": LANES - 3, "node-1": 3}
    assert w.core.placing.inputs.data.leaders[0] == 5


def test_a_broker_that_moves_to_another_site_takes_its_lanes_along() -> None:
    """Under the same id: its address, its rack and all round trips to it are other ones."""
    w, probes = world({"node-0": 1.0, "node-1": 80.0})
    assert nodes_of(w) == {"node-0": LANES}
    probes.rtt_ms.update({("node-0", 2): 80.0, ("node-1", 2): 1.0})
    probes.windows.clear()  # workers measure it anew at its new address
    tell_leaders(w, dict.fromkeys(range(LANES), 2), {2: "s1"})
    probes.run(60)
    assert nodes_of(w) == {"node-1": LANES}
    assert "to broker 2 at s1." in explained(w, 0)


def test_a_broker_of_which_nothing_is_known_is_equally_near_to_all_nodes_and_this_is_said() -> None:
    w = World(nodes=3, lanes=LANES, data_at_kafka=True)
    w.fair(8)
    (broker,) = w.core.placing.last.moment.brokers if w.core.placing.last else ()
    assert (broker.id, broker.basis, set(broker.path_ms)) == (-1, PathBasis.UNKNOWN, {0.0})
    assert "Kafka names no leader for some lanes yet" in status(w)
    assert "is not known yet, so all nodes count as equally near" in explained(w, 0)
    tell_leaders(w, dict.fromkeys(range(LANES), 2), {2: "use1-az4"})
    w.fair(20)
    assert "RTT to broker 2: not measured yet, and no rack names a site" in status(w)
    assert "Set broker.rack to the site's name, or list the rack" in status(w)
    assert "The RTT to broker 2 is not known yet" in explained(w, 0)
    assert "(not known yet); busiest" in status(w)
    assert sorted(nodes_of(w).values()) == [4, 4, 4]


def test_racks_that_name_no_site_are_one_trouble_until_the_inventory_lists_them() -> None:
    w = World(nodes=3, lanes=LANES, data_at_kafka=True)
    look = StreamsLooked({}, {}, {}, racks={1: "use1-az4", 2: "x" * 500, 3: "", 4: "s1"})
    w.tell(look)
    w.tell(look)
    (trouble,) = w.core.news.troubles.list_worst_first()
    assert trouble.kind is TroubleKind.RACK_UNKNOWN
    assert 'racks "use1-az4", "xxxx' in trouble.text
    assert "(broker 1, 2) name no site" in trouble.text
    assert trouble.text.endswith("]."), "not cut"
    assert "name no site" in status(w)
    assert len([n for n in w.noted if n.kind == "alert" and "name no site" in n.text]) == 1
    site = replace(w.inv.sites["s2"], racks=("use1-az4", "x" * 500))
    w.tell(StreamsLooked({}, {}, {}, racks={4: "s1"}))
    w.now_s += RACKS_S / 2
    w.tell(look)
    w.now_s += RACKS_S
    w.tell(look)
    assert w.core.news.troubles.list_worst_first(), "brokers that restart mend nothing"
    w.read(msgspec.structs.replace(w.inv, sites={**w.inv.sites, "s2": site}))
    w.tell(look)
    w.now_s += RACKS_S + 1
    w.tell(look)
    assert not any(
        t.kind is TroubleKind.RACK_UNKNOWN for t in w.core.news.troubles.list_worst_first()
    )
    assert len([n for n in w.noted if n.kind == "alert" and "name no site" in n.text]) == 1


def test_racks_do_not_matter_where_lanes_go_to_the_origin_of_events() -> None:
    w = World(nodes=3, lanes=LANES)
    w.tell(StreamsLooked({}, {}, {}, racks={1: "use1-az4"}))
    assert w.core.news.troubles.list_worst_first() == []


def test_a_rack_that_names_a_site_places_its_lanes_before_anything_is_measured() -> None:
    """The site's name, its region or one of its racks."""
    for rack in ("s1", RTT.regions[1], "use1-az4"):
        w = World(nodes=3, lanes=LANES, data_at_kafka=True)
        site = replace(w.inv.sites["s1"], racks=("use1-az4",))
        w.read(msgspec.structs.replace(w.inv, sites={**w.inv.sites, "s1": site}))
        tell_leaders(w, dict.fromkeys(range(LANES), 2), {2: rack})
        w.fair(20)
        assert nodes_of(w) == {"node-1": LANES}, rack
        assert "RTT to broker 2 at s1: modelled by site" in status(w)
        assert "ms modelled x 5.5, to broker 2 at s1." in explained(w, 0)


def test_a_broker_at_a_site_without_a_node_has_its_lanes_at_the_nearest_node() -> None:
    w = World(nodes=3, lanes=LANES, data_at_kafka=True)
    beside = replace(w.inv.sites["s2"], name="hub", lat=w.inv.sites["s2"].lat + 0.5)
    w.read(msgspec.structs.replace(w.inv, sites={**w.inv.sites, "hub": beside}))
    tell_leaders(w, dict.fromkeys(range(LANES), 2), {2: "hub"})
    w.fair(20)
    assert nodes_of(w) == {"node-2": LANES}
    probes = Probes(w, {("node-0", 2): 5.0})  # only one node has measured anything
    probes.run(30)
    assert w.core.placing.last is not None
    (broker,) = w.core.placing.last.moment.brokers
    assert (broker.site, broker.basis, broker.path_ms[0]) == ("hub", PathBasis.MEASURED, 5.0)


def test_what_was_measured_counts_and_where_it_came_from_is_said() -> None:
    w, probes = world({"node-0": 80.0, "node-1": 12.6, "node-2": 150.0})
    assert "RTT: 12.6 ms measured (15 probes, 0 s ago) x 5.5, to broker 2." in explained(w, 0)
    assert "(measured, x 5.5); busiest" in status(w)
    assert "RTT to broker" not in status(w)
    tell_leaders(w, dict.fromkeys(range(LANES), 2), {2: "s1"})
    w.fair(2)
    assert "x 5.5, to broker 2 at s1." in explained(w, 0)
    assert len(explained(w, 0).split("\n")) <= 8
    # a node that has measured nothing counts as its site does
    del probes.windows["node-2", 2], probes.rtt_ms["node-2", 2]
    probes.run(130)
    last = w.core.placing.last
    assert last is not None
    path_ms = last.moment.brokers[0].path_ms
    assert path_ms[:2] == (80.0, 12.6)
    assert path_ms[2] > 12.6


@pytest.mark.parametrize("seed", range(3))
def test_the_brokers_of_a_moment_have_what_is_in_force_now(seed: int) -> None:
    """Although they are made again only where something has changed."""
    rng = random.Random(seed)
    w, probes = world({"node-0": 80.0, "node-1": 12.6, "node-2": 150.0})
    data, paths = w.core.placing.inputs.data, w.core.paths
    tell_leaders(w, {n: 2 + n % 2 for n in range(LANES)}, {2: "", 3: ""})
    for _ in range(12):
        path = (f"node-{rng.randrange(3)}", rng.choice((2, 3)))
        probes.windows.pop(path, None)
        if rng.random() < 0.3:
            probes.rtt_ms.pop(path, None)
        else:
            probes.rtt_ms[path] = rng.choice((3.0, 40.0, 300.0))
        probes.run(rng.choice((8, 30, 130)))
        for broker in data.make_brokers(range(LANES)):
            for row in range(3):
                measured = paths.rtt_ms(f"node-{row}", broker.id)
                assert measured is None or broker.path_ms[row] == pytest.approx(measured.rtt_ms)


def test_lanes_stay_while_nobody_can_measure() -> None:
    """As after Kafka was away, until the workers' probes are through again."""
    w, probes = world({"node-0": 80.0, "node-1": 12.6, "node-2": 150.0})
    w.probes, probes.rtt_ms = {}, {}
    before = {p: s.epoch for p, s in w.core.fleet.partitions.items()}
    w.fair(200)
    assert not w.core.placing.inputs.data.paths_to(2), "all of them are too old"
    assert {p: s.epoch for p, s in w.core.fleet.partitions.items()} == before
    assert "RTT: 12.6 ms estimated from earlier or others' probes x 5.5" in explained(w, 0)


def test_whatif_knows_the_paths_of_a_node_that_does_not_exist_yet() -> None:
    w, _ = world({"node-0": 80.0, "node-1": 12.6, "node-2": 150.0})
    placing = w.core.placing
    then = placing.what_if(w.now_s, 0, FleetChange(added=(("s1", 500.0), ("s2", 500.0))))
    assert then.moment.brokers[0].path_ms == (80.0, 12.6, 150.0, 12.6, 150.0)
    lost = placing.what_if(w.now_s, 0, FleetChange(lost=frozenset({"node-1"})))
    assert {a.to for a in lost.plan.assignments} == {0}


def status(w: World) -> str:
    return describe_fleet(w.core.fleet, w.core.placing, w.core.news.troubles, w.now_s).text


def explained(w: World, lane: int) -> str:
    return explain_lane(w.core.placing, WorkerKind.NODE.partition(lane), w.now_s).text
