"""Where the data of each lane is, and how far every node is from it: the leaders of the lanes'
partitions, the sites of these brokers, and the round trips to them that workers measured.

What no node has measured is completed from what others did (kernels/paths.py). Before anything was
measured, the RTT table stands in for brokers whose racks name a site. A broker of which neither is
known counts as equally near to all nodes: nothing is gained by a guess."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from agents.base.text import to_one_line
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.paths import MeasuredPath, MeasuredPaths
from agents.core.model.inventory import Inventory, find_site_of_rack, find_unknown_racks
from agents.core.model.plan import DataBroker, PathBasis
from agents.core.model.topology import Partition, WorkerKind
from kernels import RttModel, Weights, compute_terms, lane_table, make_problem, node_table
from kernels.paths import complete_paths
from kernels.tables import MOST_PATH_MS, Floats, Ints

NO_BROKER = -1
"""The broker of lanes whose partition has no known leader."""
SHOWN, RACK_SHOWN = 3, 20
"""How many racks a message names, and how much of each."""


@dataclass(frozen=True, slots=True)
class _Told:
    """The round trips to one broker that workers have measured, in ms. `node_ms`: by node, NaN
    where it has none, float64[N]. `site_ms`: the median of each site's workers. They hold as long
    as `inventory` and `state` are these."""

    inventory: Inventory
    state: int
    node_ms: Floats
    site_ms: Mapping[str, float]


@dataclass(slots=True)
class DataPaths:
    """`measured`: the workers' round trips. `leaders`: by lane, the broker that leads its
    partition, or did when one was last known. `racks`: by broker. `at_kafka`: whether the lanes'
    data counts as being at these brokers; otherwise it is where their events arise."""

    fleet: Fleet
    rtt: RttModel
    measured: MeasuredPaths
    at_kafka: bool
    leaders: dict[int, int] = field(default_factory=dict)
    racks: dict[int, str] = field(default_factory=dict)
    _told: dict[int, _Told] = field(default_factory=dict)
    _last_ms: dict[int, dict[str, float]] = field(default_factory=dict)
    _completed_from: tuple[object, ...] = ()
    _completed: tuple[Floats, list[PathBasis]] = field(
        default_factory=lambda: (np.zeros((0, 0)), [])
    )

    def note_leaders(self, leaders: Mapping[Partition, int], racks: Mapping[int, str]) -> None:
        """Take what Kafka's metadata says now. A partition without a leader keeps its last one."""
        self.leaders |= {p.n: b for p, b in leaders.items() if WorkerKind.NODE.works(p)}
        self.racks |= racks

    def knows_leaders(self, lanes: Iterable[int]) -> bool:
        """Whether the leader of each of these lanes is known, or none is needed."""
        return not self.at_kafka or all(n in self.leaders for n in lanes)

    def site_of(self, broker: int) -> str:
        """The inventory's site that the broker's rack names; empty if it names none."""
        return find_site_of_rack(self.fleet.inventory, self.racks.get(broker, ""))

    def describe_unknown_racks(self, there: Mapping[int, str]) -> str:
        """The trouble of racks that name no site; empty if there is none. `there`: the racks of the
        brokers that answer now. A missing rack is not a trouble: `status` mentions it until the
        broker's round trips are measured."""
        unknown = find_unknown_racks(self.fleet.inventory, there) if self.at_kafka else {}
        racks = sorted(unknown.keys() - {""})
        if not racks:
            return ""
        brokers = ", ".join(str(b) for b in sorted(b for r in racks for b in unknown[r])[:SHOWN])
        shown = ", ".join(f'"{to_one_line(rack, RACK_SHOWN)}"' for rack in racks[:SHOWN])
        more = " and more" if racks[SHOWN:] else ""
        return (
            f"Kafka's racks {shown}{more} (broker {brokers}) name no site of the inventory. Until "
            "workers have measured the round trips, all nodes count as equally near to these "
            f"brokers. Add them to the [[site]] where they are: racks = [{shown}]."
        )

    def paths_to(self, broker: int) -> Mapping[str, MeasuredPath]:
        """The round trips to this broker that were measured, by worker."""
        found = ((w, self.measured.rtt_ms(w, broker)) for w in self.fleet.inventory.workers)
        return {w: path for w, path in found if path is not None}

    def make_brokers(self, lanes: Iterable[int]) -> tuple[DataBroker, ...]:
        """The brokers of these lanes, by id; none if the data is where events arise."""
        if not self.at_kafka:
            return ()
        ids = sorted({self.leaders.get(n, NO_BROKER) for n in lanes})
        nodes = self.fleet.inventory.workers_of(WorkerKind.NODE)
        told = [self._read_told(broker) for broker in ids]
        by_site, basis = self._complete(ids, told)
        own = np.array([of.node_ms for of in told])
        column_of = self._columns()
        columns = [column_of[node.site] for node in nodes]
        path_ms = np.where(np.isfinite(own), own, by_site[:, columns]).round(3)
        return tuple(
            DataBroker(broker, self.site_of(broker), basis[row], tuple(path_ms[row].tolist()))
            for row, broker in enumerate(ids)
        )

    def paths_from(self, site: str, brokers: Iterable[DataBroker]) -> tuple[float, ...]:
        """The round trip from this site to each of these brokers, as for a node that has measured
        nothing yet."""
        ids = [b.id for b in brokers]
        by_site, _ = self._complete(ids, [self._read_told(broker) for broker in ids])
        return tuple(by_site[:, self._columns()[site]].round(3).tolist())

    def _columns(self) -> dict[str, int]:
        return {site: i for i, site in enumerate(self.fleet.inventory.sites)}

    def _read_told(self, broker: int) -> _Told:
        """What is measured to this broker now. It is read again only when something has changed: a
        large fleet has many paths, and few of them change within a second."""
        inventory, state = self.fleet.inventory, self.measured.state_of(broker)
        told = self._told.get(broker)
        if told is not None and told.inventory is inventory and told.state == state:
            return told
        ms = {w: min(x, MOST_PATH_MS) for w, x in self.measured.rtts_to(broker).items()}
        nodes = inventory.workers_of(WorkerKind.NODE)
        node_ms: Floats = np.array([ms.get(node.worker, np.nan) for node in nodes])
        by_site: dict[str, list[float]] = {}
        for worker, spec in inventory.workers.items():
            if worker in ms:
                by_site.setdefault(spec.site, []).append(ms[worker])
        site_ms = {site: statistics.median(some) for site, some in by_site.items()}
        self._told[broker] = told = _Told(inventory, state, node_ms, site_ms)
        return told

    def _complete(self, ids: list[int], told: list[_Told]) -> tuple[Floats, list[PathBasis]]:
        """The round trip from each broker to each site of the inventory, float64[B, S], and what
        those of a broker rest on. `told`: for each, what is measured. It is worked out again only
        when its inputs have changed."""
        sites = self.fleet.inventory.sites
        columns = self._columns()
        at: Ints = np.array([columns.get(self.site_of(b), -1) for b in ids], dtype=np.int32)
        measured = self._median_by_site(ids, told, columns)
        inputs = (tuple(ids), tuple(sites.values()), at.tobytes(), measured.tobytes())
        if inputs == self._completed_from:
            return self._completed
        lat = np.array([s.lat for s in sites.values()], dtype=np.float64)
        lon = np.array([s.lon for s in sites.values()], dtype=np.float64)
        if np.isfinite(measured).any():
            found = complete_paths(measured, lat, lon, at)
            basis = [PathBasis.MEASURED] * len(ids)
        else:
            found = np.full(measured.shape, np.nan)
            basis = [PathBasis.MODELLED] * len(ids)
            if len(known := np.flatnonzero(at >= 0)):
                found[known] = self._model_ms(lat, lon, at[known])
        for row in np.flatnonzero(np.isnan(found).any(axis=1)):
            found[row], basis[row] = 0.0, PathBasis.UNKNOWN
        self._completed_from, self._completed = inputs, (found, basis)
        return self._completed

    def _median_by_site(self, ids: list[int], told: list[_Told], columns: dict[str, int]) -> Floats:
        """The median of what the workers at each site measured; what they measured last, if none of
        them knows it now (as after the broker was away); NaN where none ever did."""
        out: Floats = np.full((len(told), len(columns)), np.nan)
        for row, of in enumerate(told):
            last = self._last_ms.setdefault(ids[row], {})
            last |= of.site_ms
            for site, ms in last.items():
                if site in columns:
                    out[row, columns[site]] = ms
        return out

    def _model_ms(self, lat: Floats, lon: Floats, at: Ints) -> Floats:
        """The RTT table's round trips from the sites in rows `at` to all sites."""
        regions = self.rtt.regions
        rows = [
            regions.index(s.region) if s.region in regions else -1
            for s in self.fleet.inventory.sites.values()
        ]
        problem = make_problem(
            lane_table(lat[at], lon[at]),
            node_table(lat, lon, site=rows),
            self.rtt,
            Weights(move_ms=0.0),
        )
        return np.minimum(compute_terms(problem).rtt_ms, MOST_PATH_MS)
