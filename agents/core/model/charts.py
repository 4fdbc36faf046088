"""What pictures show, as values; agents/observe/charts draws them."""

from __future__ import annotations

from dataclasses import dataclass

OF_FLEET, OF_NODE, OF_LANE = "fleet", "node/", "lane/"
LANES_AT_MOST = 1_000
RINGS_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of the fleet, of a node or of a lane (`lane/12`): events/s processed, lag in
    events, processing time in ms."""

    name: str
    rate_eps: float
    lag_events: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Line:
    """`ms`: epoch milliseconds, ascending. `values`: one for each."""

    name: str
    ms: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over time, from `since_ms` to `until_ms`, in which something is known. `fleet`: its
    domain."""

    title: str
    unit: str
    since_ms: int
    until_ms: int
    lines: tuple[Line, ...]
    fleet: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    """A site. `load`: the share of its nodes' capacity in use. `nodes`: how many it has; `well`:
    how many of them take lanes."""

    name: str
    lat: float
    lon: float
    load: float
    nodes: int
    well: int


@dataclass(frozen=True, slots=True)
class Thread:
    """A lane: where its events come from (degrees), the row of the site that works it (-1: none),
    events/s."""

    lat: float
    lon: float
    site: int
    rate_eps: float


@dataclass(frozen=True, slots=True)
class Ring:
    """An open hotspot: its name for people, and where it is (degrees)."""

    name: str
    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class Map:
    """Sites, lanes and hotspots on a map of the world. `fleet`: its domain. `at_ms`: when that was
    so."""

    title: str
    dots: tuple[Dot, ...]
    threads: tuple[Thread, ...]
    rings: tuple[Ring, ...] = ()
    fleet: str = ""
    at_ms: int = 0


Picture = Plot | Map
