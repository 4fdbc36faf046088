"""What pictures show, as values; agents/pictures draws them."""

from __future__ import annotations

from dataclasses import dataclass

from agents.core.fleet import Fleet
from agents.core.model import Kind, LaneLoad, State, short_name
from agents.core.summary import lane_loads

FLEET, NODE, LANE = "fleet", "node/", "lane/"
LANES_AT_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of the fleet, a node or a lane (`lane/12`): events/s worked, lag in events, processing time in ms."""

    name: str
    rate_eps: float
    lag_events: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Line:
    """`ms`: epoch milliseconds, rising; `values`: as many."""

    name: str
    ms: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over time, from `since_ms` to `until_ms`."""

    title: str
    unit: str
    since_ms: int
    until_ms: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """A site: `load` is the share of its nodes' capacity in use; `well` of its `nodes` take lanes."""

    name: str
    lat: float
    lon: float
    load: float
    nodes: int
    well: int


@dataclass(frozen=True, slots=True)
class Thread:
    """A lane: where its events come from, the row of the site that works it (-1: nobody), events/s."""

    lat: float
    lon: float
    site: int
    rate_eps: float


@dataclass(frozen=True, slots=True)
class Map:
    title: str
    dots: tuple[Dot, ...]
    threads: tuple[Thread, ...]


Picture = Plot | Map


def samples(fleet: Fleet) -> tuple[Sample, ...]:
    """The fleet, each node that has something, and, of not too many, each lane."""
    loads = lane_loads(fleet)
    by_node: dict[str, list[int]] = {}
    for p in fleet.of(Kind.NODE):
        if p.n in loads:
            by_node.setdefault(fleet.partitions[p].worker, []).append(p.n)
    out = [_sum(FLEET, loads, list(loads))]
    out += [_sum(NODE + short_name(worker), loads, lanes) for worker, lanes in sorted(by_node.items())]
    if len(loads) <= LANES_AT_MOST:
        out += [_sum(f"{LANE}{n}", loads, [n]) for n in sorted(loads)]
    return tuple(out)


def _sum(name: str, loads: dict[int, LaneLoad], lanes: list[int]) -> Sample:
    some = [loads[n] for n in lanes]
    return Sample(
        name,
        round(sum(x.rate_eps for x in some), 1),
        sum(x.lag_events for x in some),
        max((x.p50_ms for x in some), default=0.0),
        max((x.p99_ms for x in some), default=0.0),
    )


def drawn(fleet: Fleet, lat: tuple[float, ...], lon: tuple[float, ...]) -> Map:
    """The sites that have nodes, and from where lanes come: `lat`, `lon` by lane."""
    views = [v for v in fleet.views.values() if v.spec.kind is Kind.NODE]
    names = sorted({v.spec.site for v in views})
    rows = {name: i for i, name in enumerate(names)}
    loads = lane_loads(fleet)
    room, used = [0.0] * len(names), [0.0] * len(names)
    nodes, well = [0] * len(names), [0] * len(names)
    for v in views:
        i = rows[v.spec.site]
        nodes[i] += 1
        well[i] += fleet.takes(v.spec.worker)
        room[i] += v.capacity_eps if v.present else 0.0
    threads: list[Thread] = []
    for p in fleet.of(Kind.NODE):
        s, load = fleet.partitions[p], loads.get(p.n)
        view = fleet.views.get(s.worker) if s.state is not State.ORPHAN else None
        i = rows[view.spec.site] if view is not None else -1
        rate = load.rate_eps if load is not None else 0.0
        if i >= 0:
            used[i] += rate
        if p.n < len(lat) and len(threads) < LANES_AT_MOST:
            threads.append(Thread(lat[p.n], lon[p.n], i, rate))
    sites = fleet.inventory.sites
    dots = tuple(
        Dot(name, sites[name].lat, sites[name].lon, used[i] / room[i] if room[i] else 0.0, nodes[i], well[i])
        for i, name in enumerate(names)
    )
    total = sum(used)
    return Map(f"{sum(well)}/{sum(nodes)} nodes take lanes, {total:,.0f} events/s", dots, tuple(threads))
